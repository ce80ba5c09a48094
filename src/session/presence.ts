/** Who is online: a friend with a live session, or with one that lost its link only a moment ago. */
import { LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Path } from '../node/index.ts'
import type { Session, SessionManager, SessionPeer } from './types.ts'

/** Each once per change. */
export interface PresenceEvents {
  onOnline: (owner: Did, path: Path) => void
  onOffline: (owner: Did) => void
}

/** Fed with the events of the session manager. */
export interface PresenceKeeper {
  noteLive: (session: Session) => void
  noteLost: (session: Session) => void
  noteClosed: (peer: SessionPeer) => void
  isOnline: (owner: Did) => boolean
  stop: () => void
}

/** Creates the keeper; a loss that is mended within LIMITS.presenceGraceMs is no change. */
export function createPresence (components: { sessions: Pick<SessionManager, 'list'>, clock: Clock }, events: PresenceEvents): PresenceKeeper {
  const { sessions, clock } = components
  const online = new Set<Did>()
  const leaving = new Map<Did, Timer>()

  function hasLive (owner: Did): boolean {
    return sessions.list().some((session) => session.peer.owner === owner && session.state === 'live')
  }

  function stay (owner: Did): void {
    leaving.get(owner)?.cancel()
    leaving.delete(owner)
  }

  function leave (owner: Did): void {
    stay(owner)
    if (!hasLive(owner) && online.delete(owner)) events.onOffline(owner)
  }

  return {
    isOnline: (owner) => online.has(owner),
    noteLive: (session) => {
      const { owner } = session.peer
      stay(owner)
      if (online.has(owner)) return
      online.add(owner)
      events.onOnline(owner, session.path)
    },
    noteLost: (session) => {
      const { owner } = session.peer
      if (hasLive(owner) || leaving.has(owner) || !online.has(owner)) return
      leaving.set(owner, clock.setTimer(() => { leave(owner) }, LIMITS.presenceGraceMs))
    },
    noteClosed: (peer) => { leave(peer.owner) },
    stop: () => {
      for (const timer of leaving.values()) timer.cancel()
      leaving.clear()
    }
  }
}
