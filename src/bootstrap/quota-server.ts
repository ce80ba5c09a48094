/** `/carrier/quota/1.0.0` at the relay: tells who asks which of its own quotas are used up. PROTOCOL.md "Quotas". */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, createTaskOwner } from '../base/index.ts'
import type { Logger, Metrics, Startable } from '../base/index.ts'
import { QUOTA_PROTOCOL, decodeQuotaAsk, encodeQuotaAnswer } from '../node/index.ts'
import type { UsedQuotas } from '../node/index.ts'
import { isRelayed } from './call-peer.ts'
import type { HandshakeDesk } from './handshake-desk.ts'
import { readMessage, sendMessage } from './message-stream.ts'
import type { Places } from './places.ts'
import type { QuotaBook, QuotaRefusal } from './quota-book.ts'

/** What the server uses. */
export interface QuotaServerComponents {
  node: Pick<Libp2p, 'handle' | 'unhandle'>
  desk: Pick<HandshakeDesk, 'run'>
  places: Pick<Places, 'accountOf'>
  quotas: Pick<QuotaBook, 'judge'>
  log: Logger
  metrics: Metrics
}

/** Creates the server; its owner starts it after the hop server. The asker learns of its own account only, as its refusals tell anyway. */
export function createQuotaServer ({ node, desk, places, quotas, log, metrics }: QuotaServerComponents): Startable {
  const questions = metrics.counter('carrier_relay_quota_questions_total', 'Questions of devices which of their quotas are used up, by answer.', ['result'])
  let tasks = createTaskOwner(log)

  async function answer (stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    decodeQuotaAsk(await readMessage(stream, LIMITS.spliceMessageBytes, signal))
    // over a circuit everybody would ask for the relay in between
    if (isRelayed(connection)) throw new CarrierError('ERR_NOT_AVAILABLE', 'asked over a circuit')
    const account = places.accountOf(connection)
    const used: UsedQuotas = { ...usedUp('circuits', quotas.judge(account, 'circuits')), ...usedUp('reservations', quotas.judge(account, 'reservations')) }
    questions.add(1, { result: Object.keys(used).length === 0 ? 'free' : 'used_up' })
    sendMessage(stream, encodeQuotaAnswer(used))
    await stream.close({ signal })
  }

  return {
    start: async () => {
      tasks = createTaskOwner(log)
      await node.handle(QUOTA_PROTOCOL, async (stream, connection) => {
        await desk.run(stream, connection, tasks.signal, async (signal) => answer(stream, connection, signal))
      }, { maxInboundStreams: QUESTION_COUNT, runOnLimitedConnection: false })
    },
    stop: async () => {
      await node.unhandle(QUOTA_PROTOCOL)
      await tasks.stop()
    }
  }
}

/** At once on one connection: one for a reservation, some for dials. */
const QUESTION_COUNT = 8

function usedUp (what: keyof UsedQuotas, refusal: QuotaRefusal | undefined): UsedQuotas {
  return refusal === undefined ? {} : { [what]: { quota: refusal.quota, retryMs: Math.ceil(refusal.retryMs), shared: refusal.isShared } }
}
