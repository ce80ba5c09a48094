/** Sessions: multiplexed channels over replaceable links. */
export { createSessionManager } from './session-manager.ts'
export type { SessionManagerComponents } from './session-manager.ts'
export { createPresence } from './presence.ts'
export type { PresenceEvents, PresenceKeeper } from './presence.ts'
export { createStandingSessions } from './standing-sessions.ts'
export type { StandingSessions, StandingSessionsComponents } from './standing-sessions.ts'
export type * from './types.ts'
