/** The session with any device of a friend: the live one, or the first that can be reached. */
import { CarrierError } from '../base/index.ts'
import type { Friend } from '../friends/index.ts'
import type { Session, SessionManager } from '../session/index.ts'

/** The live session with a device of this friend, if there is one. */
export function liveSession (sessions: Pick<SessionManager, 'get'>, friend: Friend): Session | undefined {
  for (const device of friend.devices) {
    const session = sessions.get(device)
    if (session !== undefined) return session
  }
  return undefined
}

/**
 * The live session, or a new one with whichever device answers first.
 *
 * @throws CarrierError as SessionManager.open, for the first device
 */
export async function openFriendSession (sessions: Pick<SessionManager, 'get' | 'open'>, friend: Friend, signal: AbortSignal): Promise<Session> {
  const live = liveSession(sessions, friend)
  if (live !== undefined) return live
  const [first, ...others] = friend.devices
  if (first === undefined) throw new CarrierError('ERR_PEER_OFFLINE', `no device of ${friend.label} is known yet; wait until it was online once`)
  if (others.length === 0) return sessions.open(first, { signal })
  const race = new AbortController()
  const onAbort = (): void => { race.abort(signal.reason) }
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.any(friend.devices.map(async (device) => sessions.open(device, { signal: race.signal })))
  } catch (err) {
    throw err instanceof AggregateError ? err.errors[0] as unknown : err
  } finally {
    signal.removeEventListener('abort', onAbort)
    race.abort(new CarrierError('ERR_CANCELLED', 'another device of the friend answered first'))
  }
}
