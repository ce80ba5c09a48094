/**
 * A server of the private DHT. It names other servers, and only those to which it is connected, and keeps sealed relay records
 * (dht-store.ts). Everything else is refused: providers, or values of another kind, would be a way to learn or to spread addresses.
 */
import { createHash } from 'node:crypto'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { CarrierError, LIMITS, createTaskOwner, equalBytes, errorCode, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable, Timer } from '../base/index.ts'
import { createRateLimit, decodeDhtRecord, sourcePrefix } from '../node/index.ts'
import { createDhtForward } from './dht-forward.ts'
import { KAD_PROTOCOL, decodeDhtRequest, encodeDhtAnswer } from './dht-messages.ts'
import type { DhtRequest, DhtServerFacts } from './dht-messages.ts'
import type { DhtSource } from './dht-shelf.ts'
import { createDhtStore } from './dht-store.ts'
import { peerIdOfAddress } from './mesh.ts'
import { readMessage, sendMessage } from './message-stream.ts'

/** What the DHT server uses. */
export interface DhtServerComponents {
  node: Pick<Libp2p, 'getConnections' | 'handle' | 'unhandle' | 'register' | 'unregister' | 'peerStore' | 'peerId' | 'getMultiaddrs'>
  clock: Clock
  log: Logger
  metrics: Metrics
  /** Multiaddrs of the servers that the operator lists: only these are given records, and asked for some. None when absent. */
  peers?: () => readonly string[]
}

/** A running DHT server. */
export interface DhtServer extends Startable {
  /** True for a connected peer that serves the DHT too. */
  isServer: (peerId: PeerId) => boolean
}

/** Creates the DHT server; its owner calls `start` before the host listens, and `stop`. */
export function createDhtServer ({ node, clock, log, metrics, peers = () => [] }: DhtServerComponents): DhtServer {
  const servers = new Map<string, { peerId: PeerId, position: Uint8Array }>()
  const tasks = createTaskOwner(log)
  const requests = metrics.counter('carrier_relay_dht_requests_total', 'Requests to the DHT server by type and outcome.', ['type', 'outcome'])
  metrics.gauge('carrier_relay_dht_servers_count', 'Connected peers that serve the DHT too.', [], () => servers.size)
  const store = createDhtStore(clock)
  const forward = createDhtForward({ node, clock, log, tasks })
  const forwards = createRateLimit(clock, LIMITS.dhtForwardPerSourcePerSecondCount)
  metrics.gauge('carrier_relay_dht_records_count', 'Relay records that are kept for others.', [], () => store.size)
  const ownId = node.peerId.toMultihash().bytes
  const ownPosition = positionOf(ownId)
  let topologyId: string | undefined
  let sweepTimer: Timer | undefined

  async function handleRequests (stream: Stream, connection: Connection): Promise<void> {
    try {
      const openCount = connection.streams.filter((one) => one.direction === 'inbound' && one.protocol === KAD_PROTOCOL).length
      if (openCount > MAX_STREAMS_PER_CONNECTION && !isListed(connection.remotePeer)) throw new CarrierError('ERR_LIMIT', 'too many DHT streams on one connection')
      for (let count = 0; count < MAX_REQUESTS_PER_STREAM && stream.remoteWriteStatus !== 'closed'; count++) {
        using deadline = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs, 'no DHT request came in time', tasks.signal)
        await answer(await readMessage(stream, LIMITS.relayMessageBytes, deadline.signal))
      }
      using closing = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs, 'the DHT stream could not be closed in time', tasks.signal)
      await stream.close({ signal: closing.signal })
    } catch (err) {
      log.debug('a DHT stream ended', { reason: errorMessage(err) })
      stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', 'the DHT request failed'))
    }

    async function answer (bytes: Uint8Array): Promise<void> {
      const request = decodeDhtRequest(bytes)
      if (request.type === 'put-value') {
        const value = keep(request, connection)
        requests.add(1, { type: request.type, outcome: 'kept' })
        sendMessage(stream, encodeDhtAnswer(request, [], value))
        return
      }
      if (request.type === 'add-provider' || request.type === 'get-providers') {
        requests.add(1, { type: request.type, outcome: 'refused' })
        throw new CarrierError('ERR_NOT_AVAILABLE', `this DHT server takes no ${request.type}`)
      }
      const value = request.type === 'get-value' ? await find(request.key, connection) : undefined
      const closer = request.type === 'ping' ? [] : await findClosest(request.key, connection)
      requests.add(1, { type: request.type, outcome: value === undefined ? 'answered' : 'found' })
      sendMessage(stream, encodeDhtAnswer(request, closer, value))
    }
  }

  /** Keeps a record and, when a node brought it, hands it on. @throws CarrierError as the store */
  function keep (request: DhtRequest, connection: Connection): Uint8Array {
    try {
      if (request.record === undefined) throw new CarrierError('ERR_PROTOCOL', 'there is no record to keep')
      const record = decodeDhtRecord(request.record)
      if (!equalBytes(record.key, request.key)) throw new CarrierError('ERR_PROTOCOL', 'the record is for another key')
      const isNew = store.get(record.key) === undefined || !equalBytes(store.get(record.key) ?? record.key, record.value)
      store.put(record.key, record.value, sourceOf(connection))
      if (isNew && !isFromServer(connection)) forward.offer(record, listedFor(record.key))
      return record.value
    } catch (err) {
      requests.add(1, { type: 'put-value', outcome: errorCode(err) === 'ERR_LIMIT' ? 'limited' : 'refused' })
      throw err
    }
  }

  /** The newest of what is kept here and at the listed servers; servers themselves get the former only. */
  async function find (key: Uint8Array, connection: Connection): Promise<Uint8Array | undefined> {
    const others = key.length === DHT_KEY_BYTES && !isFromServer(connection) ? listedFor(key) : []
    if (others.length > 0 && forwards.take(sourceOf(connection).name)) {
      const timeoutMs = store.get(key) === undefined ? LIMITS.dhtForwardMs : LIMITS.dhtForwardMs / 4
      await forward.ask(key, others, timeoutMs, (value) => { store.put(key, value, { name: 'servers', isServer: true }) })
    }
    return store.get(key)
  }

  function sweep (): void {
    store.sweep()
    sweepTimer = clock.setTimer(sweep, LIMITS.dhtSweepMs)
  }

  function isListed (peerId: PeerId): boolean {
    const text = peerId.toString()
    return peers().some((address) => peerIdOfAddress(address) === text)
  }

  function isFromServer (connection: Connection): boolean {
    return servers.has(connection.remotePeer.toString()) || isListed(connection.remotePeer)
  }

  function sourceOf (connection: Connection): DhtSource {
    return isListed(connection.remotePeer) ? { name: 'servers', isServer: true } : { name: sourcePrefix(connection.remoteAddr.getComponents()[0]?.value), isServer: false }
  }

  /** The connected servers that the operator lists, the closest to the key first. */
  function listedFor (key: Uint8Array): PeerId[] {
    const target = positionOf(key)
    return [...servers.values()]
      .filter(({ peerId }) => isListed(peerId))
      .sort((a, b) => compareDistance(target, a.position, b.position))
      .slice(0, LIMITS.dhtReplicaCount)
      .map(({ peerId }) => peerId)
  }

  async function findClosest (key: Uint8Array, connection: Connection): Promise<DhtServerFacts[]> {
    const target = positionOf(key)
    const isLocal = isLoopback(connection.remoteAddr)
    const candidates = [...servers.values()]
      .filter(({ peerId }) => !peerId.equals(connection.remotePeer))
      .concat({ peerId: node.peerId, position: ownPosition })
      .sort((a, b) => compareDistance(target, a.position, b.position))
      .slice(0, LIMITS.dhtCloserCount)
    const found: DhtServerFacts[] = []
    for (const { peerId } of candidates) {
      const known = peerId.equals(node.peerId) ? node.getMultiaddrs() : await addressesOf(peerId)
      const addresses = known.filter((address) => !isCircuit(address) && (isLocal || !isLoopback(address))).slice(0, LIMITS.dhtAddressCount)
      if (addresses.length > 0) found.push({ id: peerId.toMultihash().bytes, addresses: addresses.map((address) => address.bytes) })
    }
    return found
  }

  async function addressesOf (peerId: PeerId): Promise<Multiaddr[]> {
    if (!await node.peerStore.has(peerId)) return []
    return (await node.peerStore.get(peerId)).addresses.map(({ multiaddr }) => multiaddr)
  }

  return {
    isServer: (peerId) => servers.has(peerId.toString()),
    start: async () => {
      topologyId = await node.register(KAD_PROTOCOL, {
        onConnect: (peerId) => {
          // whom the operator lists is few, and must not be kept out by keys that anybody can make
          if (servers.size < LIMITS.dhtServerCount || isListed(peerId)) servers.set(peerId.toString(), { peerId, position: positionOf(peerId.toMultihash().bytes) })
        },
        onDisconnect: (peerId) => { servers.delete(peerId.toString()) }
      })
      sweep()
      await node.handle(KAD_PROTOCOL, handleRequests, { maxInboundStreams: LIMITS.dhtForwardCount, runOnLimitedConnection: false })
    },
    stop: async () => {
      if (topologyId !== undefined) node.unregister(topologyId)
      topologyId = undefined
      sweepTimer?.cancel()
      await node.unhandle(KAD_PROTOCOL)
      await tasks.stop()
      servers.clear()
    }
  }
}

const MAX_REQUESTS_PER_STREAM = 64
/** More for listed servers, which ask for many. */
const MAX_STREAMS_PER_CONNECTION = 8

/** Keys of relay records. */
const DHT_KEY_BYTES = 32

/** Where a key lies in the key space of kad: its SHA-256. */
function positionOf (key: Uint8Array): Uint8Array {
  return createHash('sha256').update(key).digest()
}

function compareDistance (target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (let index = 0; index < target.length; index++) {
    const difference = ((target[index] ?? 0) ^ (a[index] ?? 0)) - ((target[index] ?? 0) ^ (b[index] ?? 0))
    if (difference !== 0) return difference
  }
  return 0
}

function isCircuit (address: Multiaddr): boolean {
  return address.toString().includes('/p2p-circuit')
}

function isLoopback (address: Multiaddr): boolean {
  const text = address.toString()
  return text.startsWith('/ip4/127.') || text.startsWith('/ip6/::1/')
}
