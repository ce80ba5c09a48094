/** Opens streams: over a connection that is there, else over a new one; never a new one per stream. */
import { CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
import { closeSoon } from './close-connection.ts'
import type { Dialer } from './dialer.ts'
import { pathOf } from './path.ts'
import { pingConnection } from './ping.ts'
import type { ProtocolDoor } from './protocol-door.ts'
import { createPeerStream } from './stream-adapter.ts'
import type { CarrierNode, Peer, PeerLevel } from './types.ts'

/** What is needed to open streams. */
export interface OutboundStreamsComponents {
  clock: Clock
  gate: Pick<AuthGate, 'connectionsOf'>
  dialer: Dialer
  door: Pick<ProtocolDoor, 'track'>
  levelOf: (device: Did) => PeerLevel
  describe: (entry: AuthenticatedConnection) => Peer
  isLeavingRelay: (relayPeerId: string) => boolean
}

/** Opens streams and pings. */
export interface OutboundStreams extends Pick<CarrierNode, 'openStream' | 'ping'> {
  /** The best open connection: direct before relayed, then over relays that stay, then the newest. */
  bestOf: (device: Did, notVia?: readonly string[]) => AuthenticatedConnection | undefined
}

/** Creates the opener. */
export function createOutboundStreams (components: OutboundStreamsComponents): OutboundStreams {
  const { clock, gate, dialer, door, describe } = components

  function bestOf (device: Did, notVia: readonly string[] = []): AuthenticatedConnection | undefined {
    const ways = gate.connectionsOf(device)
      .map((entry) => ({ entry, relayPeerId: pathOf(entry.connection.remoteAddr).relayPeerId, path: pathOf(entry.connection.remoteAddr).path }))
      .filter(({ relayPeerId }) => relayPeerId === undefined || !notVia.includes(relayPeerId))
    const best = ways.findLast(({ path }) => path !== 'relayed') ??
      ways.findLast(({ relayPeerId }) => relayPeerId === undefined || !components.isLeavingRelay(relayPeerId)) ?? ways.at(-1)
    return best?.entry
  }

  /** A device is not kept on one connection for each relay that there ever was: those over relays, made by us, that nothing uses go. */
  function thinOut (device: Did, newest: AuthenticatedConnection): void {
    const relayed = gate.connectionsOf(device).filter(({ connection }) => pathOf(connection.remoteAddr).path === 'relayed')
    const unused = relayed.filter(({ connection }) => connection !== newest.connection && connection.direction === 'outbound' && connection.streams.length === 0)
    for (const { connection } of unused.slice(0, Math.max(0, relayed.length - LIMITS.relayedConnectionCount))) closeSoon(connection)
  }

  function assertNotBlocked (device: Did): void {
    if (components.levelOf(device) === 'blocked') throw new CarrierError('ERR_NOT_AVAILABLE', 'the device is blocked; unblock it first')
  }

  async function openOn (entry: AuthenticatedConnection, protocol: string, signal: AbortSignal, isEager: boolean): ReturnType<CarrierNode['openStream']> {
    try {
      const raw = await entry.connection.newStream(protocol, { signal, runOnLimitedConnection: true, maxOutboundStreams: LIMITS.peerStreamCount, negotiateFully: !isEager })
      return { stream: door.track(createPeerStream(raw), entry.device), peer: describe(entry) }
    } catch (err) {
      signal.throwIfAborted()
      if (entry.connection.status !== 'open') throw new CarrierError('ERR_PEER_OFFLINE', 'the connection to the device was lost while a stream was opened', { cause: err })
      throw new CarrierError('ERR_NOT_AVAILABLE', 'the device does not offer this to us', { cause: err })
    }
  }

  return {
    bestOf,
    openStream: async (device, protocol, options = {}) => {
      assertNotBlocked(device)
      using deadline = startDeadline(clock, LIMITS.dialTimeoutMs + LIMITS.authTimeoutMs, 'the device did not answer in time', options.signal)
      const known = bestOf(device, options.notVia)
      if (known !== undefined) {
        try {
          // the answer shows that it still lives
          return await openOn(known, protocol, deadline.signal, false)
        } catch (err) {
          deadline.signal.throwIfAborted()
          // it had died without our knowing: a fresh connection decides
          if (known.connection.status === 'open') throw err
        }
      }
      const entry = await dialer.connect(device, deadline.signal, options.notVia)
      const opened = await openOn(entry, protocol, deadline.signal, options.isEager === true)
      thinOut(device, entry)
      return opened
    },
    ping: async (device, options = {}) => {
      assertNotBlocked(device)
      using deadline = startDeadline(clock, LIMITS.dialTimeoutMs, 'the device did not answer the ping in time', options.signal)
      const entry = bestOf(device) ?? await dialer.connect(device, deadline.signal)
      const rttMs = await pingConnection(clock, entry.connection, deadline.signal)
      return { rttMs, ...pathOf(entry.connection.remoteAddr) }
    }
  }
}
