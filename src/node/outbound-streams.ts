/** Opens streams: over a connection that is there, else over a new one; never a new one per stream. */
import { CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
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
}

/** Opens streams and pings. */
export interface OutboundStreams extends Pick<CarrierNode, 'openStream' | 'ping'> {
  /** The best open connection: direct before relayed, then the newest. */
  bestOf: (device: Did) => AuthenticatedConnection | undefined
}

/** Creates the opener. */
export function createOutboundStreams (components: OutboundStreamsComponents): OutboundStreams {
  const { clock, gate, dialer, door, describe } = components

  function bestOf (device: Did): AuthenticatedConnection | undefined {
    const entries = gate.connectionsOf(device)
    return entries.findLast((entry) => pathOf(entry.connection.remoteAddr).path !== 'relayed') ?? entries.at(-1)
  }

  function assertNotBlocked (device: Did): void {
    if (components.levelOf(device) === 'blocked') throw new CarrierError('ERR_NOT_AVAILABLE', 'the device is blocked; unblock it first')
  }

  async function openOn (entry: AuthenticatedConnection, protocol: string, signal: AbortSignal): ReturnType<CarrierNode['openStream']> {
    try {
      const raw = await entry.connection.newStream(protocol, { signal, runOnLimitedConnection: true, maxOutboundStreams: LIMITS.peerStreamCount })
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
      const known = bestOf(device)
      if (known !== undefined) {
        try {
          return await openOn(known, protocol, deadline.signal)
        } catch (err) {
          deadline.signal.throwIfAborted()
          // it had died without our knowing: a fresh connection decides
          if (known.connection.status === 'open') throw err
        }
      }
      return await openOn(await dialer.connect(device, deadline.signal), protocol, deadline.signal)
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
