/**
 * /carrier/relays/1.0.0: a friend tells which relays it is on, and under what its record can be looked up. PROTOCOL.md "Relay news".
 *
 *   news   {ls: bytes32, r: relay record, v: 1}
 *   answer {ok: true}
 *
 * One message and one answer per stream. Unknown members are skipped. A friend request may carry `ls` and `r` too.
 */
import { z } from 'zod'
import { CarrierError, createFrameReader, decodeCbor, encodeCbor, encodeFrame, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { LOOK_UP_SECRET_BYTES, verifyRelayRecord } from '../node/index.ts'
import type { CarrierNode, PeerStream, StreamHandler } from '../node/index.ts'
import type { RelayBook } from './relay-book.ts'

/** The protocol id. */
export const RELAY_NEWS_PROTOCOL = '/carrier/relays/1.0.0'

/** What one device tells another: its signed record, and the secret under which later ones lie. */
export interface RelayNews { record: Uint8Array, lookUpSecret: Uint8Array }

const MAX_ANSWER_BYTES = 64
const MINUTE_MS = 60_000

const newsSchema = z.object({ ls: bytesSchema(LOOK_UP_SECRET_BYTES, LOOK_UP_SECRET_BYTES), r: bytesSchema(1, LIMITS.relayRecordBytes), v: z.literal(1) })

/** Canonical bytes of a message. */
export function encodeRelayNews (news: RelayNews): Uint8Array {
  return encodeCbor({ ls: news.lookUpSecret, r: news.record, v: 1 })
}

/** Decodes a message; the record in it is not verified yet. @throws CarrierError ERR_PROTOCOL */
export function decodeRelayNews (bytes: Uint8Array): RelayNews {
  const { ls, r } = decodeCbor(newsSchema, bytes)
  return { record: r, lookUpSecret: ls }
}

/**
 * Verifies what a device told and keeps it; an older record than the one known changes nothing.
 *
 * @throws CarrierError ERR_PROTOCOL when the record is not the device's
 */
export function takeRelayNews (book: RelayBook, device: Did, news: RelayNews, nowMs: number): void {
  const record = verifyRelayRecord(news.record, device, nowMs)
  book.keep(record, news.record)
  book.keepSecret(device, news.lookUpSecret)
}

/** The answering side. `take` verifies and keeps, and may throw. */
export function createRelayNewsHandler (components: { clock: Clock, signal: AbortSignal, take: (device: Did, news: RelayNews) => void }): StreamHandler {
  const { clock } = components
  const counts = new Map<Did, { startedAtMs: number, count: number }>()

  /** A record costs a signature and a write: nobody gets us to do that without end. */
  function count (device: Did): void {
    const nowMs = clock.monotonicMs()
    for (const [known, { startedAtMs }] of counts) if (nowMs - startedAtMs >= MINUTE_MS) counts.delete(known)
    const tally = counts.get(device) ?? { startedAtMs: nowMs, count: 0 }
    counts.set(device, tally)
    tally.count++
    if (tally.count > LIMITS.relayRecordsPerMinuteCount) throw new CarrierError('ERR_LIMIT', 'this device tells its relays too often')
  }

  return async (stream, peer) => {
    using deadline = startDeadline(clock, LIMITS.friendExchangeMs, 'the other side did not finish telling its relays in time', components.signal)
    await guarded(stream, deadline.signal, async () => {
      const body = await createFrameReader(stream.source).read(LIMITS.relayEnvelopeBytes)
      if (body === undefined) return
      count(peer.device)
      components.take(peer.device, decodeRelayNews(body))
      await stream.sink((async function * () { yield encodeFrame(encodeCbor({ ok: true })) })())
    })
  }
}

/** Tells a connected device. @throws CarrierError as openStream; ERR_PROTOCOL when it does not answer */
export async function tellRelayNews (components: { node: Pick<CarrierNode, 'openStream'>, clock: Clock }, device: Did, news: RelayNews, parent: AbortSignal): Promise<void> {
  using deadline = startDeadline(components.clock, LIMITS.friendExchangeMs, 'the friend did not answer in time', parent)
  const { stream } = await components.node.openStream(device, RELAY_NEWS_PROTOCOL, { signal: deadline.signal })
  try {
    await guarded(stream, deadline.signal, async () => {
      await stream.sink((async function * () { yield encodeFrame(encodeRelayNews(news)) })())
      if (await createFrameReader(stream.source).read(MAX_ANSWER_BYTES) === undefined) throw new CarrierError('ERR_PROTOCOL', 'the friend gave no answer')
    })
  } finally {
    stream.abort(new CarrierError('ERR_CLOSED', 'the exchange is over'))
  }
}

/** Runs a short exchange; the signal resets its stream. */
async function guarded (stream: PeerStream, signal: AbortSignal, exchange: () => Promise<void>): Promise<void> {
  const onAbort = (): void => { stream.abort(toCarrierError(signal.reason)) }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    await exchange()
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

function bytesSchema (minBytes: number, maxBytes: number): z.ZodType<Uint8Array> {
  return z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= minBytes && value.length <= maxBytes, `must be ${minBytes} to ${maxBytes} bytes`)
}
