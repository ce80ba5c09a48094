/** Why a relay refused us, in words: it is asked which of our quotas are used up there. PROTOCOL.md "Quotas". */
import type { Connection, Libp2p } from '@libp2p/interface'
import { CarrierError, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import { QUOTA_PROTOCOL, decodeQuotaAnswer, encodeQuotaAsk } from './relay-quota-messages.ts'
import type { UsedQuotas, UsedUpQuota } from './relay-quota-messages.ts'
import { isOwnConnection, talkOver } from './relay-talk.ts'
import { createPeerStream } from './stream-adapter.ts'

/** What asking needs. */
export interface RelayQuotaComponents {
  libp2p: () => Pick<Libp2p, 'getConnections'>
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  /** Only relays that we use are asked. */
  isRelay: (peerId: string) => boolean
  /** What a relay said when it was asked because of a circuit that it refused. */
  onCircuits?: (relayPeerId: string, usedUp: UsedUpQuota | undefined) => void
}

/** Asks relays. */
export interface RelayQuota {
  /** Undefined when the relay does not tell, which is no failure: a stock one, an older one, or none that is connected. @throws the signal's reason */
  ask: (relayPeerId: string, signal: AbortSignal) => Promise<UsedQuotas | undefined>
  /**
   * The error to show in place of `err`, with which a reservation or circuit failed: ERR_QUOTA with the quota and when it is free
   * again (`detail`: quota, retryMs, relay), ERR_LIMIT when the relay has no place for other reasons, else `err` itself. Asks only
   * after a refusal for want of places; never rejects.
   */
  explain: (relayPeerId: string, what: keyof UsedQuotas, err: unknown, signal: AbortSignal) => Promise<unknown>
}

/** Creates it. */
export function createRelayQuota (components: RelayQuotaComponents): RelayQuota {
  const { clock, log, tasks } = components

  async function ask (relayPeerId: string, parent: AbortSignal): Promise<UsedQuotas | undefined> {
    const connection = components.isRelay(relayPeerId) ? components.libp2p().getConnections().findLast((one) => one.remotePeer.toString() === relayPeerId && isOwnConnection(one)) : undefined
    if (connection === undefined) return undefined
    using deadline = startDeadline(clock, LIMITS.relayQuotaAskMs, 'the relay did not say which quota is used up', AbortSignal.any([tasks().signal, parent]))
    try {
      return await talk(connection, deadline.signal)
    } catch (err) {
      parent.throwIfAborted()
      // it need not know the question
      log.debug('the relay did not say which quota is used up', { relay: relayPeerId, reason: errorMessage(err) })
      return undefined
    }
  }

  return {
    ask,
    explain: async (relayPeerId, what, err, signal) => {
      if (!NO_PLACE.test(textOf(err)) || signal.aborted) return err
      let used: UsedQuotas | undefined
      try {
        used = await ask(relayPeerId, signal)
      } catch {
        // given up meanwhile: what is known stays true
        return err
      }
      if (what === 'circuits' && used !== undefined) components.onCircuits?.(relayPeerId, used.circuits)
      const usedUp = used?.[what]
      if (usedUp !== undefined) return quotaError(relayPeerId, usedUp, clock.now(), err)
      return used === undefined ? err : new CarrierError('ERR_LIMIT', NO_PLACE_WORDS[what], { cause: err })
    }
  }
}

/** The statuses of circuit relay v2 for "no place", as the stock client words them. */
const NO_PLACE = /RESERVATION_REFUSED|RESOURCE_LIMIT_EXCEEDED/

const NO_PLACE_WORDS: Record<keyof UsedQuotas, string> = {
  circuits: 'the relay takes no further circuit to the device now: it is full, about to stop, or what the device itself may use there is used up',
  reservations: 'the relay is full or about to stop; use another one, or ask its operator'
}

/** The error that names a quota and when it is free again. */
export function quotaError (relayPeerId: string, usedUp: UsedUpQuota, nowMs: number, cause?: unknown): CarrierError {
  return new CarrierError('ERR_QUOTA', `${describeQuota(usedUp, nowMs)}, or use another relay`, { cause, detail: { quota: usedUp.quota, retryMs: usedUp.retryMs, relay: relayPeerId } })
}

/** A quota of a relay in words, by its name; the empty name is that of a relay which names none. `isShared`: of all strangers together. Pure. */
export function nameQuota (quota: string, isShared = false): string {
  const words = QUOTA_WORDS.get(quota)
  if (words === undefined) return quota === '' ? 'a quota' : `the quota "${quota}"`
  return isShared ? words.strangers : words.you
}

/** Which quota is used up, and until when, as half a sentence. Pure. */
export function describeQuota ({ quota, retryMs, shared }: UsedUpQuota, nowMs: number): string {
  return `${nameQuota(quota, shared)} is used up at this relay; ${QUOTA_WORDS.get(quota)?.isCount === true ? 'it is free again when one of them ends' : describeTime(retryMs, nowMs)}`
}

/** An instant, not a duration: the sentence is shown for as long as it is true. */
function describeTime (retryMs: number, nowMs: number): string {
  return `it is free again at ${new Date(Math.round((nowMs + retryMs) / 60_000) * 60_000).toISOString().slice(11, 16)} UTC`
}

const QUOTA_WORDS = new Map([
  ['circuits', { you: 'the number of circuits and splices that you may have at once', strangers: 'the number of circuits and splices that strangers together may have at once', isCount: true }],
  ['reservations', { you: 'the number of reservations that you may have', strangers: 'the number of reservations that strangers together may have', isCount: true }],
  ['bytes_per_day', { you: 'what you may send in a day', strangers: 'what strangers together may send in a day', isCount: false }]
])

async function talk (connection: Connection, signal: AbortSignal): Promise<UsedQuotas> {
  const stream = createPeerStream(await connection.newStream(QUOTA_PROTOCOL, { signal, maxOutboundStreams: LIMITS.peerStreamCount }))
  return talkOver(stream, signal, 'the question was given up', async (exchange) => {
    exchange.write(encodeQuotaAsk())
    const answer = await exchange.read(LIMITS.spliceMessageBytes)
    if (answer === undefined) throw new CarrierError('ERR_PROTOCOL', 'the relay ended the talk about quotas')
    return decodeQuotaAnswer(answer)
  })
}

/** The texts of an error and of all that are inside. */
function textOf (err: unknown): string {
  const inner = err instanceof AggregateError ? err.errors.map(textOf) : []
  const cause = err instanceof Error && err.cause !== undefined ? [textOf(err.cause)] : []
  return [errorMessage(err), ...inner, ...cause].join('; ')
}
