/** Raw connections that somebody else made: secured, and offered to the session with the device that proves its key on them. */
import type { Socket } from 'node:net'
import { CarrierError, errorCode, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Peer } from '../node/index.ts'
import { isSecondLink } from './link-choice.ts'
import type { LinkFacts } from './link-choice.ts'
import type { LinkOpener, SocketWay } from './link-opener.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'
import type { SessionMetrics } from './session-metrics.ts'

/** What taking them needs. */
export interface LinkGuestsComponents {
  opener: Pick<LinkOpener, 'secure'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
  metrics: Pick<SessionMetrics, 'linkFailures'>
}

/** What is asked of the owner of the sessions. */
export interface LinkGuestsInit {
  /** The session with a device, if any. */
  sessionWith: (device: Did) => LiveSession | undefined
  /** Splice and direct links of a device that have not joined its session yet. */
  openingCount: (device: Did) => number
  /** A link that may join the session with its device. */
  offer: (link: Link, peer: Peer) => void
}

/** The taker. */
export interface LinkGuests {
  /** Whether a link like this would be of use to the session with the device, and there is room for its handshake. */
  mayJoin: (device: Did, link: LinkFacts) => boolean
  /** Owns the socket. Resolves when TLS has ended: true when the device has proven its key on it. */
  receive: (socket: Socket, device: Did, way: SocketWay) => Promise<boolean>
}

/** Creates it. */
export function createLinkGuests (components: LinkGuestsComponents, init: LinkGuestsInit): LinkGuests {
  const { opener, clock, log, tasks, metrics } = components
  /** Those that are still in their TLS handshake, by device. */
  const pending = new Map<Did, number>()
  let pendingCount = 0

  function mayJoin (device: Did, link: LinkFacts): boolean {
    const session = init.sessionWith(device)
    const openingCount = (pending.get(device) ?? 0) + init.openingCount(device)
    return openingCount < LIMITS.linkHandshakesPerDeviceCount && session?.features.has('resume') === true && !isSecondLink(session.links.all(), link)
  }

  return {
    mayJoin,
    receive: async (socket, device, way) => {
      if (!mayJoin(device, way) || pendingCount >= LIMITS.linkHandshakeCount || tasks.signal.aborted) {
        socket.destroy()
        return false
      }
      pendingCount++
      pending.set(device, (pending.get(device) ?? 0) + 1)
      const { promise, resolve } = Promise.withResolvers<boolean>()
      const before = init.sessionWith(device)
      tasks.run('take a link', async (signal) => {
        try {
          using deadline = startDeadline(clock, LIMITS.linkOpenTimeoutMs, 'the link could not be opened in time', signal)
          const link = await opener.secure(socket, device, way, deadline.signal)
          const session = init.sessionWith(device)
          if (session === undefined || session !== before) link.abort(new CarrierError('ERR_CLOSED', 'the session ended meanwhile'))
          else init.offer(link, peerOfLink(session, link))
          resolve(true)
        } catch (err) {
          metrics.linkFailures.add(1, { link: way.kind, code: errorCode(err) ?? 'ERR_INTERNAL' })
          log.debug('a link of the other side did not come about', { device, link: way.kind, code: errorCode(err), reason: errorMessage(err) })
        } finally {
          pendingCount--
          const count = pending.get(device) ?? 1
          if (count > 1) pending.set(device, count - 1)
          else pending.delete(device)
          resolve(false)
        }
      })
      return promise
    }
  }
}

/** Who is at the other end of a link that is for this session. */
export function peerOfLink (session: LiveSession, link: Link): Peer {
  const { device, owner } = session.peer
  return { device, owner, level: 'friend', instanceId: undefined, path: link.path, relayPeerId: link.relayPeerId }
}
