/**
 * A server of the private DHT. It names other servers, and only those to which it is connected; providers and, until signed relay
 * records exist, values are refused: a stored or answered record of a stranger would be a way to learn or to spread addresses.
 */
import { createHash } from 'node:crypto'
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { CarrierError, LIMITS, createTaskOwner, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import { KAD_PROTOCOL, decodeDhtRequest, encodeDhtAnswer } from './dht-messages.ts'
import type { DhtServerFacts } from './dht-messages.ts'
import { readMessage, sendMessage } from './message-stream.ts'

/** What the DHT server uses. */
export interface DhtServerComponents {
  node: Pick<Libp2p, 'handle' | 'unhandle' | 'register' | 'unregister' | 'peerStore' | 'peerId' | 'getMultiaddrs'>
  clock: Clock
  log: Logger
  metrics: Metrics
}

/** A running DHT server. */
export interface DhtServer extends Startable {
  /** True for a connected peer that serves the DHT too. */
  isServer: (peerId: PeerId) => boolean
}

/** Creates the DHT server; its owner calls `start` before the host listens, and `stop`. */
export function createDhtServer ({ node, clock, log, metrics }: DhtServerComponents): DhtServer {
  const servers = new Map<string, { peerId: PeerId, position: Uint8Array }>()
  const tasks = createTaskOwner(log)
  const requests = metrics.counter('carrier_relay_dht_requests_total', 'Requests to the DHT server by type and outcome.', ['type', 'outcome'])
  metrics.gauge('carrier_relay_dht_servers_count', 'Connected peers that serve the DHT too.', [], () => servers.size)
  const ownId = node.peerId.toMultihash().bytes
  const ownPosition = positionOf(ownId)
  let topologyId: string | undefined

  async function handleRequests (stream: Stream, connection: Connection): Promise<void> {
    try {
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
      if (request.type === 'put-value' || request.type === 'add-provider' || request.type === 'get-providers') {
        requests.add(1, { type: request.type, outcome: 'refused' })
        throw new CarrierError('ERR_NOT_AVAILABLE', `this DHT server takes no ${request.type}`)
      }
      const closer = request.type === 'ping' ? [] : await findClosest(request.key, connection)
      requests.add(1, { type: request.type, outcome: 'answered' })
      sendMessage(stream, encodeDhtAnswer(request, closer))
    }
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
          if (servers.size < LIMITS.dhtServerCount) servers.set(peerId.toString(), { peerId, position: positionOf(peerId.toMultihash().bytes) })
        },
        onDisconnect: (peerId) => { servers.delete(peerId.toString()) }
      })
      await node.handle(KAD_PROTOCOL, handleRequests, { maxInboundStreams: MAX_STREAMS_PER_CONNECTION, runOnLimitedConnection: false })
    },
    stop: async () => {
      if (topologyId !== undefined) node.unregister(topologyId)
      topologyId = undefined
      await node.unhandle(KAD_PROTOCOL)
      await tasks.stop()
      servers.clear()
    }
  }
}

const MAX_REQUESTS_PER_STREAM = 64
const MAX_STREAMS_PER_CONNECTION = 8

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
