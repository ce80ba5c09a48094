/** Hands records on to the other servers that the operator listed, and asks them on behalf of a node: one step, never further. */
import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { CarrierError, LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import { decodeDhtValue, encodeDhtGet, encodeDhtPut } from '../node/index.ts'
import type { DhtRecord } from '../node/index.ts'
import { KAD_PROTOCOL } from './dht-messages.ts'
import { readMessage, sendMessage } from './message-stream.ts'

/** What is needed to reach the others. */
export interface DhtForwardComponents {
  node: Pick<Libp2p, 'getConnections'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
}

/** The other servers. */
export interface DhtForward {
  /** Gives the record to these servers; what fails is left to the next time that its owner makes it anew. */
  offer: (record: DhtRecord, servers: readonly PeerId[]) => void
  /** Asks these servers; `take` gets what they have, judges it and may throw. Resolves when all have answered, or when the time is over. */
  ask: (key: Uint8Array, servers: readonly PeerId[], timeoutMs: number, take: (value: Uint8Array) => void) => Promise<void>
}

/** Creates it. */
export function createDhtForward (components: DhtForwardComponents): DhtForward {
  const { node, clock, log, tasks } = components
  let runningCount = 0

  async function talk (server: PeerId, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const connection: Connection | undefined = node.getConnections(server).find((one) => one.status === 'open')
    if (connection === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'the server is not connected')
    const stream = await connection.newStream(KAD_PROTOCOL, { signal, maxOutboundStreams: LIMITS.dhtForwardCount })
    try {
      sendMessage(stream, question)
      return await readMessage(stream, LIMITS.dhtAnswerBytes, signal)
    } finally {
      stream.abort(new CarrierError('ERR_CLOSED', 'the question is answered'))
    }
  }

  /** Undefined when the server did not answer, or when too many are being asked. */
  async function tryOne (server: PeerId, question: Uint8Array, timeoutMs: number): Promise<Uint8Array | undefined> {
    if (runningCount >= LIMITS.dhtForwardCount) return undefined
    runningCount++
    try {
      using deadline = startDeadline(clock, timeoutMs, 'the other DHT server did not answer in time', tasks.signal)
      return await talk(server, question, deadline.signal)
    } catch (err) {
      log.debug('another DHT server did not answer', { server: server.toString(), reason: errorMessage(err) })
      return undefined
    } finally {
      runningCount--
    }
  }

  return {
    offer: (record, servers) => {
      for (const server of servers) tasks.run('hand a record on', async () => { await tryOne(server, encodeDhtPut(record), LIMITS.dhtForwardMs) })
    },
    ask: async (key, servers, timeoutMs, take) => {
      for (const answer of await Promise.all(servers.map(async (server) => tryOne(server, encodeDhtGet(key), timeoutMs)))) {
        try {
          const value = answer === undefined ? undefined : decodeDhtValue(answer)?.value
          if (value !== undefined) take(value)
        } catch (err) {
          // an older record than the one here, or none at all
          log.debug('a record of another DHT server was refused', { reason: errorMessage(err) })
        }
      }
    }
  }
}
