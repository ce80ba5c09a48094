/** The door behind which all Carrier protocols live: who may open what, how often, and only after auth (I2, I3). */
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, GaugeMetric, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { AUTH_PROTOCOL } from './auth.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
import { EXEMPT_PROTOCOLS } from './libp2p-config.ts'
import type { PeerDirectory } from './peer-directory.ts'
import type { NegotiationVerdict } from './protocol-negotiation.ts'
import { SPLICE_PROTOCOL } from './splice-messages.ts'
import { createPeerStream } from './stream-adapter.ts'
import type { Peer, PeerLevel, PeerStream, StreamHandler } from './types.ts'

/** Prefix of our own protocols. */
const CARRIER_PREFIX = '/carrier/'

/** A registered protocol. */
export interface ProtocolEntry { handler: StreamHandler, levels: readonly PeerLevel[], maxStreamsPerPeer: number }

/** What the door needs. */
export interface ProtocolDoorComponents {
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  gate: AuthGate
  peers: PeerDirectory
  levelOf: (device: Did) => PeerLevel
  describe: (entry: AuthenticatedConnection) => Peer
  onRefused: (peer: PeerId, reason: 'level' | 'unauthenticated' | 'stream-limit') => void
  streams: CounterMetric
  openStreams: GaugeMetric
  /** Answers splice offers of listed relays, which are below auth; absent or not ready: they are refused. */
  spliceOffers?: { isReady: () => boolean, handle: (stream: PeerStream, connection: Connection) => Promise<void> }
}

/** The door. */
export interface ProtocolDoor {
  register: (protocol: string, entry: ProtocolEntry) => void
  /** Verdict during negotiation; the level is known from the key, before auth. */
  judge: (peer: PeerId, protocol: string) => NegotiationVerdict
  /** Notes the accepted name. libp2p, and so identify, knows only {@link AUTH_PROTOCOL} of ours. */
  route: (stream: Stream, protocol: string) => string
  /** libp2p's handler of {@link AUTH_PROTOCOL}. */
  enter: (stream: Stream, connection: Connection) => void
  /** Keeps track of a stream that was opened by us. */
  track: (stream: PeerStream, device: Did) => PeerStream
  /** Resets all streams, or those of one device. */
  abortAll: (err: Error, device?: Did) => void
}

/** Creates the door without protocols. */
export function createProtocolDoor (components: ProtocolDoorComponents): ProtocolDoor {
  const { clock, log, gate, levelOf } = components
  const entries = new Map<string, ProtocolEntry>()
  const routes = new WeakMap<Stream, string>()
  const live = new Map<PeerStream, { device: Did, protocol: string | undefined }>()

  function judge (peer: PeerId, protocol: string): NegotiationVerdict {
    const isRelay = components.peers.isRelay(peer)
    const isListedRelay = components.peers.isListedRelay(peer)
    if (protocol === EXEMPT_PROTOCOLS.identify || protocol === EXEMPT_PROTOCOLS.ping) return 'accept'
    // a circuit from a node that is not a listed relay would make libp2p reserve there
    if (protocol === EXEMPT_PROTOCOLS.stop) return isListedRelay ? 'accept' : 'refuse'
    if (!protocol.startsWith(CARRIER_PREFIX)) return 'unknown'
    const device = components.peers.deviceOf(peer)
    // the only protocol of ours that a relay may open, and that nobody else may
    if (protocol === SPLICE_PROTOCOL) return isListedRelay && components.spliceOffers?.isReady() === true ? 'accept' : 'refuse'
    if (isRelay || device === undefined) return 'refuse'
    if (protocol === AUTH_PROTOCOL) return 'accept'
    return isAllowed(protocol, device) ? 'accept' : 'refuse'
  }

  function isAllowed (protocol: string, device: Did): boolean {
    return entries.get(protocol)?.levels.includes(levelOf(device)) === true
  }

  async function admit (raw: Stream, stream: PeerStream, connection: Connection, protocol: string): Promise<void> {
    const passed = await authenticated(connection)
    if (components.tasks().signal.aborted) {
      stream.abort(stopping())
      return
    }
    if (passed === undefined) {
      refuse(connection, stream, 'unauthenticated')
      return
    }
    const entry = entries.get(protocol)
    if (entry === undefined || !isAllowed(protocol, passed.device)) {
      refuse(connection, stream, 'level')
      return
    }
    if (countOf(passed.device, protocol) >= entry.maxStreamsPerPeer) {
      refuse(connection, stream, 'stream-limit')
      return
    }
    add(stream, passed.device, protocol)
    components.streams.add(1, { direction: 'inbound' })
    try {
      await entry.handler(stream, components.describe(passed))
      await finish(raw, stream)
    } catch (err) {
      log.debug('stream handler ended with an error', { protocol, device: passed.device, err })
      stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', String(err)))
    }
  }

  /** Streams that come while auth runs wait for it; how many can wait is bounded by the streams of a connection. */
  async function authenticated (connection: Connection): Promise<AuthenticatedConnection | undefined> {
    using deadline = startDeadline(clock, LIMITS.authTimeoutMs, 'no auth in time', components.tasks().signal)
    try {
      return await gate.passed(connection, deadline.signal)
    } catch {
      // the gate has reported why
      return undefined
    }
  }

  /** Closes what the handler left open; who does not close its end is reset. */
  async function finish (raw: Stream, stream: PeerStream): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.streamCloseMs, 'the other end did not close', components.tasks().signal)
    const onAbort = (): void => { stream.abort(new CarrierError('ERR_TIMEOUT', 'the other end did not close the stream')) }
    deadline.signal.addEventListener('abort', onAbort, { once: true })
    await raw.close({ signal: deadline.signal })
    await stream.source.return(undefined)
    await stream.closed
  }

  function refuse (connection: Connection, stream: PeerStream, reason: 'level' | 'unauthenticated' | 'stream-limit'): void {
    components.onRefused(connection.remotePeer, reason)
    stream.abort(new CarrierError('ERR_NOT_AVAILABLE', 'refused'))
  }

  function add (stream: PeerStream, device: Did, protocol: string | undefined): void {
    live.set(stream, { device, protocol })
    components.openStreams.add(1)
    void stream.closed.then(() => {
      live.delete(stream)
      components.openStreams.add(-1)
    })
  }

  function countOf (device: Did, protocol: string): number {
    let count = 0
    for (const item of live.values()) if (item.device === device && item.protocol === protocol) count++
    return count
  }

  return {
    judge,
    register: (protocol, entry) => { entries.set(protocol, entry) },
    route: (stream, protocol) => {
      if (!protocol.startsWith(CARRIER_PREFIX)) return protocol
      routes.set(stream, protocol)
      return AUTH_PROTOCOL
    },
    enter: (raw, connection) => {
      const protocol = routes.get(raw)
      const stream = createPeerStream(raw)
      if (protocol === undefined) {
        stream.abort(new CarrierError('ERR_INTERNAL', 'a stream came past the negotiation'))
        return
      }
      // a stream that is merely left alone would get a FIN when its connection closes, and that looks like an end
      if (components.tasks().signal.aborted) {
        stream.abort(stopping())
        return
      }
      components.tasks().run('inbound-stream', async () => {
        if (protocol === SPLICE_PROTOCOL) {
          // asked again: the verdict of the negotiation is not remembered with the stream
          if (!components.peers.isListedRelay(connection.remotePeer)) refuse(connection, stream, 'level')
          else await components.spliceOffers?.handle(stream, connection)
          return
        }
        if (protocol !== AUTH_PROTOCOL) {
          await admit(raw, stream, connection, protocol)
          return
        }
        try {
          await gate.handle(stream, connection)
        } catch (err) {
          stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', String(err)))
        }
      })
    },
    track: (stream, device) => {
      add(stream, device, undefined)
      components.streams.add(1, { direction: 'outbound' })
      if (components.tasks().signal.aborted) stream.abort(stopping())
      return stream
    },
    abortAll: (err, device) => {
      for (const [stream, item] of [...live]) if (device === undefined || item.device === device) stream.abort(err)
    }
  }
}

function stopping (): CarrierError {
  return new CarrierError('ERR_CLOSED', 'the node stops')
}
