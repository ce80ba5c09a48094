/**
 * How fast a link carries bytes and how long its round trip is, from acknowledgements alone, and how many bytes should
 * be under way on it: enough to keep it busy, not so many that they stand in front of a keystroke. After BBR (samples as
 * in draft-cheng-iccrg-delivery-rate-estimation, start-up and drained round-trip probes as in draft-cardwell-iccrg-bbr).
 */
import { LIMITS } from '../base/index.ts'
import type { SentBlock } from './retained.ts'

/** Bytes under way, in units of rate × round trip: while the rate grows, then, and while the round trip is looked for. */
const GAIN_STARTING = 2
const GAIN = 1.5
const GAIN_PROBING = 0.75
/** A probe must empty the queue also where the floor alone fills it. */
const PROBE_FLOOR_BYTES = 16 * 1024
/** Messages on the slowest links: one full frame. */
const SLOW_MESSAGE_BYTES = 16 * 1024 + 16
/** Start-up is over when the rate has not grown by a quarter in three round trips. */
const GROWTH = 1.25
const ROUNDS_WITHOUT_GROWTH = 3
/** The rate is the highest of the last one to two of these spans. */
const RATE_SPAN_MS = 500
const RATE_SPAN_ROUND_TRIPS = 5
/** A sample so close above the shortest round trip says that it still holds. */
const SAME_ROUND_TRIP = 1.05
/** What is assumed before the first sample; too long costs credit, too short costs speed. */
const UNKNOWN_ROUND_TRIP_MS = 100

/** The estimate of one link; `restart` for the next one. */
export class DeliveryRate {
  readonly #now: () => number
  #run = 1
  #deliveredBytes = 0
  #deliveredMs = 0
  #firstSentMs = 0
  /** What is sent until so much is acknowledged belongs to a time when there was too little to send. */
  #starvedUntilBytes = 0
  #roundTripMs: number | undefined
  #roundTripAtMs = 0
  #probe: { bestMs: number, drainedMs: number | undefined } | undefined
  /** Bytes per millisecond: highest of this span and of the one before. */
  #rate = 0
  #rateBefore = 0
  #spanStartMs = 0
  #isStarting = true
  #roundEndBytes = 0
  #grownRate = 0
  #roundsWithoutGrowth = 0

  constructor (now: () => number) {
    this.#now = now
  }

  /** Shortest round trip of late in milliseconds, an assumption when there was none. */
  get roundTripMs (): number {
    return this.#roundTripMs ?? UNKNOWN_ROUND_TRIP_MS
  }

  /** Bytes per second; 0 when unknown. */
  get bytesPerSecond (): number {
    return this.#bytesPerMs * 1000
  }

  /** How many bytes should be under way at most. */
  get limitBytes (): number {
    const rate = this.#bytesPerMs
    if (rate === 0) return LIMITS.sessionInFlightFirstBytes
    const product = rate * Math.max(this.roundTripMs, LIMITS.sessionRoundTripFloorMs)
    if (this.#probe !== undefined) return Math.min(LIMITS.sessionInFlightBytes, Math.floor(Math.max(PROBE_FLOOR_BYTES, GAIN_PROBING * product)))
    const bytes = this.#isStarting ? Math.max(LIMITS.sessionInFlightFirstBytes, GAIN_STARTING * product) : Math.max(LIMITS.sessionInFlightFloorBytes, GAIN * product)
    return Math.min(LIMITS.sessionInFlightBytes, Math.floor(bytes))
  }

  /** How long a message should be at most: a long one is a good part of all that may be under way on a slow link, and nothing overtakes it. */
  get messageBytes (): number {
    return this.#bytesPerMs === 0 ? Infinity : Math.max(SLOW_MESSAGE_BYTES, Math.floor(this.limitBytes / 8))
  }

  /** Another link: nothing that is known holds. */
  restart (): void {
    this.#run++
    this.#starvedUntilBytes = 0
    this.#roundTripMs = undefined
    this.#probe = undefined
    this.#rate = 0
    this.#rateBefore = 0
    this.#isStarting = true
    this.#roundEndBytes = this.#deliveredBytes
    this.#grownRate = 0
    this.#roundsWithoutGrowth = 0
  }

  /** There is nothing to send, or no credit, although more could be under way: what is says little about the link. */
  noteStarved (inFlightBytes: number): void {
    // more than fits on the link is under way, so the sender is not what holds it up
    if (this.#bytesPerMs > 0 && inFlightBytes > GROWTH * this.#bytesPerMs * this.roundTripMs) return
    this.#starvedUntilBytes = this.#deliveredBytes + inFlightBytes
  }

  /** `block` leaves now; `inFlightBytes` were under way before. */
  noteSent (block: SentBlock, inFlightBytes: number): void {
    const nowMs = this.#now()
    if (inFlightBytes === 0) {
      this.#firstSentMs = nowMs
      this.#deliveredMs = nowMs
    }
    block.run = this.#run
    block.sentMs = nowMs
    block.firstSentMs = this.#firstSentMs
    block.deliveredMs = this.#deliveredMs
    block.deliveredBytes = this.#deliveredBytes
    block.isStarved = this.#starvedUntilBytes > 0
  }

  /** `ackedBytes` more were acknowledged, the newest of them in `block`; `inFlightBytes` are left. */
  noteAcked (block: SentBlock, ackedBytes: number, inFlightBytes: number): void {
    const nowMs = this.#now()
    this.#deliveredBytes += ackedBytes
    this.#deliveredMs = nowMs
    if (this.#deliveredBytes >= this.#starvedUntilBytes) this.#starvedUntilBytes = 0
    if (block.run !== this.#run) return
    this.#firstSentMs = Math.max(this.#firstSentMs, block.sentMs)
    this.#noteSample(nowMs - block.sentMs, block.sentMs, nowMs, inFlightBytes)
    const spanMs = Math.max(nowMs - block.deliveredMs, block.sentMs - block.firstSentMs)
    if (spanMs > 0) this.#noteRate((this.#deliveredBytes - block.deliveredBytes) / spanMs, block.isStarved, nowMs)
    this.#noteRound(block)
  }

  /** So many bytes will never be acknowledged; `inFlightBytes` are left. */
  noteDropped (inFlightBytes: number): void {
    this.#starvedUntilBytes = Math.min(this.#starvedUntilBytes, this.#deliveredBytes + inFlightBytes)
  }

  /** A round trip of this link that was measured otherwise, in milliseconds. */
  noteRoundTrip (milliseconds: number): void {
    if (!(milliseconds >= 0) || milliseconds > (this.#roundTripMs ?? Infinity)) return
    this.#roundTripMs = milliseconds
    this.#roundTripAtMs = this.#now()
  }

  get #bytesPerMs (): number {
    return Math.max(this.#rate, this.#rateBefore)
  }

  /** Own messages that wait on the way make every round trip longer; now and then they have to be let out to see the real one. */
  #noteSample (sampleMs: number, sentMs: number, nowMs: number, inFlightBytes: number): void {
    if (this.#roundTripMs === undefined || sampleMs <= this.#roundTripMs * SAME_ROUND_TRIP) {
      this.#roundTripMs = Math.min(sampleMs, this.#roundTripMs ?? Infinity)
      this.#roundTripAtMs = nowMs
      this.#probe = undefined
      return
    }
    if (this.#probe === undefined) {
      if (nowMs - this.#roundTripAtMs < LIMITS.sessionRoundTripWindowMs) return
      this.#probe = { bestMs: Infinity, drainedMs: undefined }
    }
    const probe = this.#probe
    probe.bestMs = Math.min(probe.bestMs, sampleMs)
    if (probe.drainedMs === undefined) {
      if (inFlightBytes <= this.limitBytes) probe.drainedMs = nowMs
    } else if (sentMs >= probe.drainedMs) {
      this.#roundTripMs = probe.bestMs
      this.#roundTripAtMs = nowMs
      this.#probe = undefined
    }
  }

  #noteRate (rate: number, isStarved: boolean, nowMs: number): void {
    // with too little to send, the link may be faster than it looks
    if (isStarved && rate <= this.#bytesPerMs) return
    if (nowMs - this.#spanStartMs >= Math.max(RATE_SPAN_MS, RATE_SPAN_ROUND_TRIPS * this.roundTripMs)) {
      this.#spanStartMs = nowMs
      this.#rateBefore = this.#rate
      this.#rate = 0
    }
    this.#rate = Math.max(this.#rate, rate)
  }

  /** A round trip is over when something is acknowledged that was sent after the last one was. */
  #noteRound (block: SentBlock): void {
    if (!this.#isStarting || block.deliveredBytes < this.#roundEndBytes) return
    this.#roundEndBytes = this.#deliveredBytes
    if (block.isStarved) return
    if (this.#bytesPerMs >= this.#grownRate * GROWTH) {
      this.#grownRate = this.#bytesPerMs
      this.#roundsWithoutGrowth = 0
    } else if (++this.#roundsWithoutGrowth >= ROUNDS_WITHOUT_GROWTH) this.#isStarting = false
  }
}
