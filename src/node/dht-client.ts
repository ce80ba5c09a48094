/**
 * Puts values into the private DHT and gets them out of it, by asking the listed relays that this node is connected to. It never
 * goes to a server that another one names (I10): the servers hand records on among themselves.
 */
import { createHash } from 'node:crypto'
import type { Connection, Libp2p } from '@libp2p/interface'
import { CarrierError, LIMITS, equalBytes, errorCode, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner } from '../base/index.ts'
import { decodeDhtValue, encodeDhtGet, encodeDhtPut } from './dht-client-messages.ts'
import { createFrameExchange } from './frame-exchange.ts'
import { KAD_PROTOCOL } from './libp2p-config.ts'
import { createPeerStream } from './stream-adapter.ts'

/** What the client needs. */
export interface DhtClientComponents {
  libp2p: () => Pick<Libp2p, 'getConnections'>
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  /** Listed relays only. */
  isServer: (peerId: string) => boolean
  requests: CounterMetric
}

/** Values of the DHT; what a value is worth its reader has to find out. */
export interface DhtClient {
  /** Gives the number of servers that keep the value; 0 when none does. @throws the signal's reason */
  put: (key: Uint8Array, value: Uint8Array, signal?: AbortSignal) => Promise<number>
  /** One value for each server that had one. @throws the signal's reason */
  get: (key: Uint8Array, signal?: AbortSignal) => Promise<Uint8Array[]>
}

/** Creates the client. */
export function createDhtClient (components: DhtClientComponents): DhtClient {
  const { clock, log, requests } = components

  /** The connected relays closest to the key: two nodes that have many in common ask the same ones. */
  function serversFor (key: Uint8Array): Connection[] {
    const byPeer = new Map<string, Connection>()
    for (const connection of components.libp2p().getConnections()) {
      const peerId = connection.remotePeer.toString()
      const isUsable = connection.status === 'open' && connection.direction === 'outbound' && !connection.remoteAddr.toString().includes('/p2p-circuit')
      if (isUsable && components.isServer(peerId)) byPeer.set(peerId, connection)
    }
    const target = positionOf(key)
    return [...byPeer.values()]
      .map((connection) => ({ connection, position: positionOf(connection.remotePeer.toMultihash().bytes) }))
      .sort((a, b) => Buffer.compare(distance(target, a.position), distance(target, b.position)))
      .slice(0, LIMITS.relayLookUpServerCount)
      .map(({ connection }) => connection)
  }

  async function ask (connection: Connection, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const stream = createPeerStream(await connection.newStream(KAD_PROTOCOL, { signal, maxOutboundStreams: LIMITS.peerStreamCount }))
    const onAbort = (): void => { stream.abort(new CarrierError('ERR_CANCELLED', 'the question to the DHT was given up')) }
    signal.addEventListener('abort', onAbort, { once: true })
    const exchange = createFrameExchange(stream)
    try {
      signal.throwIfAborted()
      exchange.write(question)
      const answer = await exchange.read(LIMITS.dhtAnswerBytes)
      if (answer === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'the DHT server did not answer')
      return answer
    } finally {
      exchange.finish()
      signal.removeEventListener('abort', onAbort)
      stream.abort(new CarrierError('ERR_CLOSED', 'the question to the DHT is answered'))
    }
  }

  /** Asks the servers at the same time; those that fail are left out. */
  async function askAll<T> (type: 'put' | 'get', key: Uint8Array, question: Uint8Array, read: (answer: Uint8Array) => T | undefined, parent?: AbortSignal): Promise<T[]> {
    const { signal: stopSignal } = components.tasks()
    using deadline = startDeadline(clock, LIMITS.relayLookUpMs, 'the DHT did not answer in time', parent === undefined ? stopSignal : AbortSignal.any([stopSignal, parent]))
    const results = await Promise.all(serversFor(key).map(async (connection) => {
      try {
        const result = read(await ask(connection, question, deadline.signal))
        requests.add(1, { type, result: result === undefined ? 'nothing' : 'ok' })
        return result
      } catch (err) {
        requests.add(1, { type, result: errorCode(err) })
        log.debug('a DHT server did not do what it was asked', { type, relay: connection.remotePeer.toString(), err })
        return undefined
      }
    }))
    parent?.throwIfAborted()
    return results.filter((result) => result !== undefined)
  }

  function valueIn (answer: Uint8Array, key: Uint8Array): Uint8Array | undefined {
    const found = decodeDhtValue(answer)
    return found !== undefined && equalBytes(found.key, key) && found.value.length <= LIMITS.relayEnvelopeBytes ? found.value : undefined
  }

  return {
    // a server that keeps the value answers with it
    put: async (key, value, signal) => (await askAll('put', key, encodeDhtPut({ key, value }), (answer) => {
      const kept = valueIn(answer, key)
      return kept !== undefined && equalBytes(kept, value) ? true : undefined
    }, signal)).length,
    get: async (key, signal) => askAll('get', key, encodeDhtGet(key), (answer) => valueIn(answer, key), signal)
  }
}

/** Where a key lies in the key space of kad. */
function positionOf (key: Uint8Array): Uint8Array {
  return createHash('sha256').update(key).digest()
}

function distance (a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, index) => byte ^ (b[index] ?? 0))
}
