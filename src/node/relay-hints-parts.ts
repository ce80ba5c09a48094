/** Everything that a node needs in order to reach a device over the device's own relays, put together. */
import { lookup } from 'node:dns/promises'
import { CarrierError } from '../base/index.ts'
import type { Clock, Logger, Metrics, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { createDhtClient } from './dht-client.ts'
import type { DhtClient } from './dht-client.ts'
import type { DialerComponents } from './dialer.ts'
import type { Host } from './host.ts'
import type { Interfaces } from './listen-addresses.ts'
import { createHintNames } from './hint-names.ts'
import type { RelayAddress } from './relay-address.ts'
import { isNamedRelay, isTlsRelay, resolveRelayHint } from './relay-hints.ts'
import type { RelayHintRules } from './relay-hints.ts'
import { createRelayHintPool } from './relay-hints-pool.ts'
import type { RelayHintPool } from './relay-hints-pool.ts'
import { createRelayHintSource } from './relay-hints-source.ts'
import type { RelayRecordBook } from './relay-hints-source.ts'
import type { PeerLevel } from './types.ts'
import type { Upstream } from './upstream.ts'

/** What the parts work with. */
export interface RelayHintPartsComponents {
  host: () => Host
  clock: Clock
  log: Logger
  metrics: Metrics
  tasks: () => TaskOwner
  levelOf: (device: Did) => PeerLevel
  /** Absent: no device has told of its relays, and the DHT is not asked. */
  book: RelayRecordBook | undefined
  interfaces: () => Interfaces
  /** Hosts of the listed relays. */
  relayHosts: () => readonly string[]
  upstream: Pick<Upstream, 'isProxied'>
  onForgotten: (peerId: string) => void
}

/** The parts, as the dialer and the node use them. */
export interface RelayHintParts extends Pick<DialerComponents, 'hints' | 'resolveRelay'> {
  pool: RelayHintPool
  dht: DhtClient
}

/** Puts the parts together. `relays` are the listed ones. */
export function createRelayHintParts (components: RelayHintPartsComponents, init: { relays: readonly RelayAddress[], ownPeerId: string, mayUseLoopback: boolean, mayBorrow: boolean }): RelayHintParts {
  const { host, clock, log, metrics, tasks, levelOf, upstream } = components
  const listed = new Set(init.relays.map((relay) => relay.peerId))
  const isListed = (peerId: string): boolean => listed.has(peerId)
  const rules = (): RelayHintRules => ({ isListed, ownPeerId: init.ownPeerId, relayHosts: components.relayHosts(), interfaces: components.interfaces(), mayUseLoopback: init.mayUseLoopback, mayBorrow: init.mayBorrow })

  const dht = createDhtClient({
    libp2p: () => host().libp2p,
    clock,
    log,
    tasks,
    isServer: isListed,
    requests: metrics.counter('carrier_node_dht_requests_total', 'Questions to DHT servers, by type and result.', ['type', 'result'])
  })
  const pool = createRelayHintPool({ clock, log, tasks, levelOf, dialAddress: async (relay, signal) => host().dialAddress(relay.multiaddr, signal), onForgotten: components.onForgotten })
  metrics.gauge('carrier_node_borrowed_relays', 'Relays of friends that are in use and not listed here.', [], () => pool.size)

  const lookUp = createHintNames({ clock, ask: async (name, family) => (await lookup(name, { all: true, family })).map(({ address }) => address) })

  async function resolveRelay (relay: RelayAddress): Promise<RelayAddress> {
    if (!isNamedRelay(relay)) return relay
    const { host: name, port } = endpointOf(relay)
    // where the name leads is the proxy's to find out, so it has to be proven by a certificate before anything is said
    if (upstream.isProxied({ host: name, port })) {
      if (isTlsRelay(relay)) return relay
      throw new CarrierError('ERR_PEER_OFFLINE', 'a relay of the device has a name without TLS, and the proxy is not asked for such')
    }
    return resolveRelayHint(relay, rules(), lookUp)
  }

  const hints = createRelayHintSource({ book: components.book ?? EMPTY_BOOK, dht, clock, log, levelOf, rules })
  return { hints, pool, dht, resolveRelay }
}

const EMPTY_BOOK: RelayRecordBook = { recall: () => undefined, secretsOf: () => [], keep: () => {} }

function endpointOf (relay: RelayAddress): { host: string, port: number } {
  const [host, tcp] = relay.multiaddr.getComponents()
  return { host: host?.value ?? '', port: Number(tcp?.value ?? 0) }
}
