/** The libp2p host of a bootstrap node: listeners, encryption, muxer and connection limits of a relay. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify, identifyPush } from '@libp2p/identify'
import { FaultTolerance } from '@libp2p/interface'
import type { Libp2p, PrivateKey, StreamMuxerFactory } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { LIMITS } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import { createNoiseCrypto, createSilenceWatch, limitAnswers } from '../node/index.ts'
import type { SilenceWatch } from '../node/index.ts'

/** How the host listens and what it says of itself. */
export interface HostInit {
  privateKey: PrivateKey
  listen: readonly string[]
  announce: readonly string[]
  maxConnections: number
  /** For WebSocket in TLS; without it such an address is listened on in vain. */
  tls: { cert: string, key: string } | undefined
}

/** A host that is not started, and what has to be said once it listens. */
export interface Host {
  node: Libp2p
  /** Announces the addresses on which it listens also when they are public: the operator chose them, nobody else vouches for them. */
  announceListeners: () => void
  /** Ends what the host watches; the node itself is stopped by the caller. */
  stopWatching: () => void
}

/** Creates the host; the caller starts and stops `node`. */
export async function createHost (components: { clock: Clock, log: Logger }, init: HostInit): Promise<Host> {
  const silence = createSilenceWatch(components, { silenceMs: LIMITS.relaySilenceMs, lookMs: LIMITS.relayPingMs })
  const node = await createLibp2p({
    start: false,
    privateKey: init.privateKey,
    // a constant that says nothing about version or platform
    nodeInfo: { name: 'carrier', version: '1', userAgent: 'carrier' },
    addresses: { listen: [...init.listen], announce: [...init.announce] },
    transports: [tcp(), webSockets(init.tls === undefined ? {} : { https: init.tls })],
    transportManager: { faultTolerance: FaultTolerance.FATAL_ALL },
    connectionEncrypters: [noise({ crypto: createNoiseCrypto() })],
    streamMuxers: [() => boundedYamux(silence)],
    // liveness is the muxer's keepalive and the silence watch: a ping stream per connection would cost a core at a thousand peers
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: init.maxConnections,
      maxIncomingPendingConnections: LIMITS.relayPendingConnectionCount,
      inboundConnectionThreshold: LIMITS.relayConnectionsPerSecondCount,
      inboundUpgradeTimeout: LIMITS.relayUpgradeTimeoutMs,
      dialTimeout: LIMITS.dialTimeoutMs,
      // the mesh re-dials by itself
      reconnectRetries: 0
    },
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping(), listeners: observeListeners }
  })
  return { node, announceListeners: node.services.listeners.confirmAll, stopWatching: silence.stop }
}

/** Yamux whose memory per stream and per connection is bounded. */
function boundedYamux (silence: SilenceWatch): StreamMuxerFactory {
  const inner = yamux({ keepAliveInterval: LIMITS.relayPingMs, streamOptions: { maxStreamWindowSize: LIMITS.relayStreamWindowBytes, maxReadBufferLength: LIMITS.relayStreamBufferBytes } })()
  return {
    protocol: inner.protocol,
    createStreamMuxer: (connection) => {
      silence.add(connection)
      return limitAnswers(connection, () => inner.createStreamMuxer(connection))
    }
  }
}

/** The two collaborators inside libp2p that know the listeners and decide what is announced. */
interface ListenerComponents {
  transportManager: { getAddrs: () => Multiaddr[] }
  addressManager: { confirmObservedAddr: (address: Multiaddr, options: { type: 'transport' }) => void }
}

function observeListeners ({ transportManager, addressManager }: ListenerComponents): { confirmAll: () => void } {
  return {
    confirmAll: () => {
      for (const address of transportManager.getAddrs()) addressManager.confirmObservedAddr(address, { type: 'transport' })
    }
  }
}
