/** The libp2p host of a bootstrap node: listeners, encryption, muxer and connection limits of a relay. */
import { Server as HttpsServer } from 'node:https'
import { Server as SocketServer } from 'node:net'
import type { Socket } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify, identifyPush } from '@libp2p/identify'
import { FaultTolerance } from '@libp2p/interface'
import type { ConnectionGater, Libp2p, PrivateKey, StreamMuxerFactory } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { LIMITS } from '../base/index.ts'
import type { Clock, Logger, Metrics } from '../base/index.ts'
import { createNoiseCrypto, createSilenceWatch, limitAnswers } from '../node/index.ts'
import type { SilenceWatch } from '../node/index.ts'
import { createEndedSockets } from './ended-sockets.ts'
import { createMuxerGuard } from './muxer-guard.ts'
import type { MuxerGuard } from './muxer-guard.ts'
import { noLogger } from './no-logger.ts'

/** How the host listens and what it says of itself. */
export interface HostInit {
  privateKey: PrivateKey
  listen: readonly string[]
  announce: readonly string[]
  maxConnections: number
  /** For WebSocket in TLS; without it such an address is listened on in vain. */
  tls: TlsPair | undefined
  gater: ConnectionGater
}

/** A certificate with its chain, and its key, in PEM. */
export interface TlsPair { cert: string, key: string }

/** A host that is not started, and what has to be said once it listens. */
export interface Host {
  node: Libp2p
  /** Announces the addresses on which it listens also when they are public: the operator chose them, nobody else vouches for them. */
  announceListeners: () => void
  /** Calls `onSocket` for each socket that a WebSocket listener accepts, before libp2p has it; and looks after the sockets of plain TCP. Once, when it listens. */
  watchSockets: (onSocket: (socket: Socket) => void) => void
  /** Announces other addresses from now on (none: those on which it listens) and tells the connected peers. */
  setAnnounce: (announce: readonly string[]) => Promise<void>
  /** More or fewer connections from now on; those beyond are closed when the next one comes. */
  setMaxConnections: (maxConnections: number) => void
  /** Shows another certificate from the next handshake on; open connections stay. False when no listener could take it. */
  setTls: (tls: TlsPair) => boolean
  /** Ends what the host watches; the node itself is stopped by the caller. */
  stopWatching: () => void
}

/** Creates the host; the caller starts and stops `node`. */
export async function createHost (components: { clock: Clock, log: Logger, metrics: Metrics }, init: HostInit): Promise<Host> {
  const silence = createSilenceWatch(components, { silenceMs: LIMITS.relaySilenceMs, lookMs: LIMITS.relayPingMs })
  const guard = createMuxerGuard(components)
  const ended = createEndedSockets(components.clock)
  let announce = init.announce
  const suffix = `/p2p/${peerIdFromPrivateKey(init.privateKey).toString()}`
  const node = await createLibp2p({
    start: false,
    privateKey: init.privateKey,
    logger: noLogger,
    // a constant that says nothing about version or platform
    nodeInfo: { name: 'carrier', version: '1', userAgent: 'carrier' },
    addresses: {
      listen: [...init.listen],
      // asked each time, so that it can change; libp2p's own list cannot
      announceFilter: (addresses) => announce.length === 0 ? addresses : announce.map((text) => multiaddr(text.endsWith(suffix) ? text : `${text}${suffix}`))
    },
    transports: [tcp({ backlog: LIMITS.relayAcceptBacklogCount }), webSockets(init.tls === undefined ? {} : { https: init.tls })],
    transportManager: { faultTolerance: FaultTolerance.FATAL_ALL },
    connectionEncrypters: [noise({ crypto: createNoiseCrypto() })],
    streamMuxers: [() => boundedYamux(silence, guard)],
    // liveness is the muxer's keepalive and the silence watch: a ping stream per connection would cost a core at a thousand peers
    connectionMonitor: { enabled: false },
    connectionGater: init.gater,
    connectionManager: {
      // the gate refuses and counts; libp2p would do it in silence a little later
      maxConnections: init.maxConnections + SPARE_CONNECTIONS,
      // the gate bounds and counts them: libp2p would refuse the next one, whoever fills the places
      maxIncomingPendingConnections: Number.MAX_SAFE_INTEGER,
      inboundConnectionThreshold: Number.MAX_SAFE_INTEGER,
      inboundUpgradeTimeout: LIMITS.relayUpgradeTimeoutMs,
      dialTimeout: LIMITS.dialTimeoutMs,
      // the mesh re-dials by itself
      reconnectRetries: 0
    },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(), listeners: observeListeners }
  })
  const { listeners } = node.services
  return {
    node,
    announceListeners: listeners.confirmAll,
    watchSockets: (onSocket) => {
      listeners.watchSockets(onSocket)
      for (const server of listeners.plainServers()) ended.watch(server)
    },
    setAnnounce: async (next) => {
      announce = next
      // identify push follows a change of the own entry
      if (node.status === 'started') await node.peerStore.patch(node.peerId, { multiaddrs: node.getMultiaddrs() })
    },
    setMaxConnections: listeners.setMaxConnections,
    setTls: listeners.setTls,
    stopWatching: () => {
      silence.stop()
      ended.stop()
    }
  }
}

/** Yamux whose memory per stream and per connection is bounded. */
function boundedYamux (silence: SilenceWatch, guard: MuxerGuard): StreamMuxerFactory {
  const inner = yamux({ keepAliveInterval: LIMITS.relayPingMs, streamOptions: { maxStreamWindowSize: LIMITS.relayStreamWindowBytes, maxReadBufferLength: LIMITS.relayStreamBufferBytes } })()
  return {
    protocol: inner.protocol,
    createStreamMuxer: (connection) => {
      silence.add(connection)
      return limitAnswers(connection, () => guard.guard(connection, () => inner.createStreamMuxer(connection)))
    }
  }
}

/** Own dials, and connections in their handshake, beside those that the gate counts. */
const SPARE_CONNECTIONS = 1024

/** The collaborators inside libp2p that know the listeners, decide what is announced, and bound the connections. */
interface ListenerComponents {
  transportManager: { getAddrs: () => Multiaddr[], getListeners: () => object[] }
  addressManager: { confirmObservedAddr: (address: Multiaddr, options: { type: 'transport' }) => void }
  connectionManager: { setMaxConnections: (maxConnections: number) => void }
}

/** What the host does through them. */
interface ListenerControl { confirmAll: () => void, watchSockets: (onSocket: (socket: Socket) => void) => void, plainServers: () => SocketServer[], setMaxConnections: (maxConnections: number) => void, setTls: (tls: TlsPair) => boolean }

function observeListeners ({ transportManager, addressManager, connectionManager }: ListenerComponents): ListenerControl {
  /** The server of sockets is as little public as the one of {@link Host.setTls}. */
  function serversOf (isMeant: (listener: object) => boolean): SocketServer[] {
    return transportManager.getListeners().filter(isMeant).map((listener) => 'server' in listener ? listener.server : undefined).filter((server) => server instanceof SocketServer)
  }

  return {
    confirmAll: () => {
      for (const address of transportManager.getAddrs()) addressManager.confirmObservedAddr(address, { type: 'transport' })
    },
    watchSockets: (onSocket) => {
      // a plain TCP listener gives its connections to the gater at once
      for (const server of serversOf((listener) => 'wsServer' in listener)) server.prependListener('connection', onSocket)
    },
    plainServers: () => serversOf((listener) => !('wsServer' in listener)),
    setMaxConnections: (maxConnections) => { connectionManager.setMaxConnections(maxConnections + SPARE_CONNECTIONS) },
    setTls: (tls) => {
      // the listener of @libp2p/websockets keeps its HTTPS server in a field that is not of its public type; a test sees when that changes
      const servers = transportManager.getListeners().map((listener) => 'https' in listener ? listener.https : undefined).filter((server) => server instanceof HttpsServer)
      for (const server of servers) server.setSecureContext(tls)
      return servers.length > 0
    }
  }
}
