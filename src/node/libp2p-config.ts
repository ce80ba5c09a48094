/** The libp2p configuration of a node: measured values, each with its reason. */
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Identify } from '@libp2p/identify'
import { FaultTolerance } from '@libp2p/interface'
import type { ConnectionGater, PrivateKey, Transport } from '@libp2p/interface'
import { kadDHT } from '@libp2p/kad-dht'
import type { KadDHT } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import type { Ping } from '@libp2p/ping'
import type { Libp2pOptions } from 'libp2p'
import { LIMITS } from '../base/index.ts'
import { eagerUpgrader } from './eager-upgrade.ts'
import type { SecureChannel } from './secure-channel.ts'
import type { StreamMuxers } from './stream-muxer.ts'
import type { Upstream } from './upstream.ts'
import { proxiedTcp } from './upstream-tcp.ts'
import { webSocketDialer } from './web-socket-transport.ts'

/** Constant for all nodes and releases: it tells strangers nothing. */
const AGENT = 'carrier/1'

/** Protocol of the private DHT. */
export const KAD_PROTOCOL = '/carrier/kad/1.0.0'

/** Protocols of libp2p that need no Carrier authentication. The stop protocol is for listed relays only. */
export const EXEMPT_PROTOCOLS = {
  identify: '/ipfs/id/1.0.0',
  ping: '/ipfs/ping/1.0.0',
  stop: '/libp2p/circuit/relay/0.2.0/stop'
} as const

/** Parts of libp2p that its public object does not show and that dialer and supervisor need. */
export interface Internals {
  transportManager: {
    dial: Transport['dial']
    getTransports: () => Transport[]
  }
  upgrader: Parameters<Transport['createListener']>[0]['upgrader']
}

/** What the configuration depends on. */
export interface Libp2pConfigInit {
  privateKey: PrivateKey
  gater: ConnectionGater
  secureChannel: SecureChannel
  muxers: StreamMuxers
  upstream: Upstream
}

/** Services of the host; `internals` is only a window to the components. */
export interface HostServices extends Record<string, unknown> { identify: Identify, ping: Ping, dht: KadDHT, internals: Internals }

/** Builds the configuration. */
export function createLibp2pConfig (init: Libp2pConfigInit): Libp2pOptions<HostServices> {
  return {
    start: false,
    privateKey: init.privateKey,
    nodeInfo: { name: 'carrier', version: '1', userAgent: AGENT },
    addresses: {
      // the node listens itself (listeners.ts): libp2p cannot listen elsewhere later
      listen: [],
      // strangers learn relay addresses only; friends are told the others inside the auth handshake
      announceFilter: (addresses) => addresses.filter((address) => address.getComponents().some((part) => part.name === 'p2p-circuit'))
    },
    transports: [
      proxiedTcp(init.upstream),
      webSocketDialer(init.upstream),
      // one at a time, the stock value, hangs for ever with two relays
      (components) => circuitRelayTransport({ reservationConcurrency: LIMITS.relayCount, reservationCompletionTimeout: LIMITS.relayAttemptMs })(
        // the same components, seen through another upgrader
        Object.create(components, { upgrader: { value: eagerUpgrader(components.upgrader) } }) as typeof components
      )
    ],
    connectionEncrypters: [init.secureChannel.encrypter],
    streamMuxers: [init.muxers.factory],
    connectionGater: init.gater,
    // relays are the supervisor's affair and never stop a start
    transportManager: { faultTolerance: FaultTolerance.NO_FATAL },
    // liveness is the muxer's keepalive and the silence watch, see stream-muxer.ts: a ping stream per connection costs 50 times as much
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: LIMITS.connectionCount,
      maxIncomingPendingConnections: LIMITS.pendingConnectionCount,
      inboundUpgradeTimeout: LIMITS.upgradeTimeoutMs,
      // the gater limits hosts, and circuits by who calls
      inboundConnectionThreshold: Number.MAX_SAFE_INTEGER,
      dialTimeout: LIMITS.dialTimeoutMs,
      addressDialTimeout: LIMITS.relayAttemptMs,
      // the supervisor re-connects
      reconnectRetries: 0
    },
    services: {
      identify: identify(),
      ping: ping({ maxInboundStreams: 4 }),
      dht: kadDHT({ protocol: KAD_PROTOCOL, clientMode: true, peerInfoMapper: (peer) => peer }),
      internals: (components) => ({ transportManager: components.transportManager, upgrader: components.upgrader })
    }
  }
}
