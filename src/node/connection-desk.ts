/** Follows every libp2p connection from open to close: strangers get a place and a time, everybody else goes to auth. */
import type { Connection, PeerId } from '@libp2p/interface'
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthGate } from './auth-gate.ts'
import { closeSoon } from './close-connection.ts'
import type { InboundLimits, InboundRefusal } from './inbound-limits.ts'
import type { PeerDirectory } from './peer-directory.ts'
import type { PeerLevel } from './types.ts'

/** What the desk needs. */
export interface ConnectionDeskComponents {
  clock: Clock
  peers: PeerDirectory
  levelOf: (device: Did) => PeerLevel
  limits: InboundLimits
  gate: Pick<AuthGate, 'open' | 'closed'>
  onRefused: (peer: PeerId, reason: InboundRefusal) => void
  /** Resets the streams of a device. */
  abortStreams: (err: Error, device: Did) => void
}

/** Listeners for libp2p's connection events. */
export interface ConnectionDesk {
  opened: (connection: Connection) => void
  closed: (connection: Connection) => void
  /** Cancels all timers. */
  stop: () => void
}

/** Creates the desk. */
export function createConnectionDesk (components: ConnectionDeskComponents): ConnectionDesk {
  const { clock, peers, levelOf, limits, gate } = components
  const timers = new Map<string, Timer>()

  function opened (connection: Connection): void {
    // closed by the other side while its key was still checked: no 'close' event follows, so nothing of it may be noted
    if (connection.status !== 'open') return
    const peer = connection.remotePeer
    // a relay of a friend is only dialled: what comes from it is from a device like others
    if (connection.direction === 'inbound' ? peers.isListedRelay(peer) : peers.isRelay(peer)) return
    const device = peers.deviceOf(peer)
    if (device === undefined) {
      connection.abort(new CarrierError('ERR_WEAK_KEY', 'the key of the peer is not admitted'))
      return
    }
    const level = levelOf(device)
    const isInbound = connection.direction === 'inbound'
    // asked again: connections that were let in at the same moment may together be too many
    const verdict = isInbound ? limits.judge(device, level) : { allow: true } as const
    if (!verdict.allow) {
      components.onRefused(peer, verdict.reason)
      connection.abort(new CarrierError('ERR_LIMIT', 'too many connections'))
      return
    }
    const isStranger = isInbound && level !== 'friend'
    limits.add(connection.id, device, isStranger)
    if (isStranger) timers.set(connection.id, clock.setTimer(() => { endStranger(connection, device) }, LIMITS.strangerConnectionMs))
    gate.open(connection)
  }

  /** A stranger's time is over, unless it became a friend meanwhile. */
  function endStranger (connection: Connection, device: Did): void {
    timers.delete(connection.id)
    if (levelOf(device) === 'friend') {
      limits.promote(connection.id)
      return
    }
    components.abortStreams(new CarrierError('ERR_TIMEOUT', 'strangers may stay for a few seconds only'), device)
    closeSoon(connection)
  }

  function closed (connection: Connection): void {
    timers.get(connection.id)?.cancel()
    timers.delete(connection.id)
    limits.remove(connection.id)
    gate.closed(connection)
  }

  return {
    opened,
    closed,
    stop: () => {
      for (const timer of timers.values()) timer.cancel()
      timers.clear()
    }
  }
}
