/** One link that belongs to a session: its frames are sorted here, its life is watched here. */
import { CarrierError, codeFromWire, keepaliveOf, LIMITS, networkPatienceMs, toCarrierError } from '../base/index.ts'
import type { Clock, ErrorCode, Keepalive, KeepaliveMode, Timer } from '../base/index.ts'
import type { FrameDecoder, FrameSink } from './frame-decoder.ts'
import { encodeSessionFrame, FIRST_CHANNEL_TYPE, FIRST_SKIPPED_TYPE, violation } from './frames.ts'
import type { Frame, LinkFrame } from './frames.ts'
import type { Link, LinkHandler } from './link.ts'

/** The owner of the links of one session. Called synchronously. */
export interface LinkOwner {
  /** Where channel frames of the link in use go. */
  readonly channelFrames: FrameSink
  /** Something is sent and not acknowledged: a silent link is asked sooner. */
  readonly isWaiting: () => boolean
  /** Nothing was under way when the link was looked after. */
  onQuiet: () => void
  onBytes: (link: AttachedLink, byteCount: number) => void
  /** The link takes messages again. */
  onDrain: (link: AttachedLink) => void
  /** The other end broke the protocol on it, or we failed to handle it. */
  onViolation: (link: AttachedLink, err: CarrierError) => void
  onGone: (link: AttachedLink, err: CarrierError) => void
  /** Its keys have served long enough: once at that point, and once at twice as many bytes. */
  onWorn: (link: AttachedLink) => void
  /** A ping was answered. */
  onRoundTrip: (link: AttachedLink, rttMs: number) => void
  onGoaway: (link: AttachedLink, code: ErrorCode) => void
  /** The frames that change what links do. */
  onLinkFrame: (link: AttachedLink, frame: Extract<Frame, { type: 'switch' | 'resume' | 'resumed' | 'lost' | 'linkAsk' | 'linkTicket' | 'punch' | 'auth' }>) => void
}

/**
 * What becomes of channel frames that arrive. `deliver`: this link is in use. `hold`: it is not; the decoder stops before
 * them, because the switch to it may be on its way on the link in use. `discard`: the session was lost; they are void
 * until it is resumed.
 */
export type Reception = 'deliver' | 'hold' | 'discard'

/** A timer that fires so much too late was held up by this process itself. */
const LATE_MS = 1_000
const MIN_WATCH_MS = 100
/** What one message, or one record, costs a key besides its bytes: four blocks. */
const MESSAGE_COST_BYTES = 64
/** More frames than this are not sent to somebody who does not read. */
const MAX_URGENT_FRAMES = 64

/** How long the keys of a link may serve: bytes in one direction, and milliseconds. */
export interface KeyLimits { maxBytes: number, maxAgeMs: number }

interface PendingPing { sentMs: number, resolve: (rttMs: number) => void, reject: (err: CarrierError) => void, done: Promise<number> }

/** A link from the moment at which it belongs to a session. */
export class AttachedLink implements LinkHandler, FrameSink {
  readonly link: Link
  /** Number of the link; a resume renumbers it. */
  epoch: number
  readonly #clock: Clock
  readonly #owner: LinkOwner
  readonly #decoder: FrameDecoder
  #reception: Reception = 'hold'
  #isGone = false
  #isReady = true
  /** Frames that were sent although the link was not ready. */
  #urgentCount = 0
  #isPongDue = false
  #pongSequence = 0
  #lastPing = 0
  #rttMs: number | undefined
  #lastReceivedMs: number
  #watchTimer: Timer | undefined
  #watchDueMs = 0
  /** The next look is far away, because nothing was on its way. */
  #isLazy = false
  /** `check` asked and nothing came since; `last`: its time is over, and what this process had no time to read is read now. */
  #checking: 'no' | 'asked' | 'last' = 'no'
  readonly #keepalive: Keepalive
  #holdTimer: Timer | undefined
  readonly #pings = new Map<number, PendingPing>()
  /** Of links with TLS: node:tls never renews the keys of a connection. Streams have ciphers that need none. */
  readonly #keyLimits: KeyLimits | undefined
  readonly #openedMs: number
  #sentCost = 0
  #receivedCost = 0
  /** The next wear that the owner is told of. */
  #nextWear = 1

  constructor (components: { clock: Clock, owner: LinkOwner, keepalive?: KeepaliveMode | undefined }, init: { link: Link, decoder: FrameDecoder, epoch: number, keyLimits?: KeyLimits }) {
    this.#clock = components.clock
    this.#owner = components.owner
    this.#keepalive = keepaliveOf(components.keepalive)
    this.link = init.link
    this.epoch = init.epoch
    this.#decoder = init.decoder
    this.#lastReceivedMs = this.#clock.monotonicMs()
    this.#openedMs = this.#lastReceivedMs
    this.#keyLimits = init.link.kind === 'stream' ? undefined : init.keyLimits
    this.#decoder.sink = this
    this.receive('hold')
    this.#planWatch(LIMITS.sessionBusyPingMs)
  }

  get isGone (): boolean { return this.#isGone }
  /** The link takes a message now. */
  get isReady (): boolean { return this.#isReady && !this.#isGone }
  /** Smoothed round trip of the link in milliseconds; undefined before the first answer. */
  get rttMs (): number | undefined { return this.#rttMs }

  /** How much its keys have served, of what they may: from 1 on a fresh link is due, from 2 on, which age alone does not reach, any other one is better. */
  get wear (): number {
    const limits = this.#keyLimits
    if (limits === undefined) return 0
    return Math.max(Math.max(this.#sentCost, this.#receivedCost) / limits.maxBytes, Math.min(1, (this.#clock.monotonicMs() - this.#openedMs) / limits.maxAgeMs))
  }

  /** From the next frame on, also with what was held. */
  receive (reception: Reception): void {
    this.#reception = reception
    if (reception === 'hold') {
      this.#decoder.gate = (type) => this.#mayTake(type)
      return
    }
    this.#decoder.gate = undefined
    this.#holdTimer?.cancel()
    this.#holdTimer = undefined
    if (this.#isGone || !this.#decoder.isHeld) return
    this.#guarded(() => { this.#decoder.release() })
    this.link.resume()
  }

  /** Sends a message of channel frames. */
  write (message: Uint8Array): void {
    if (this.#isGone) return
    this.#put(message)
    if (this.#isLazy) {
      this.#isLazy = false
      this.#planWatch(LIMITS.sessionBusyPingMs)
    }
  }

  /** Sends a link frame, whether the link is ready or not: there are only few of them. */
  send (frame: LinkFrame): void {
    if (this.#isGone) return
    if (!this.#isReady && ++this.#urgentCount > MAX_URGENT_FRAMES) {
      const err = new CarrierError('ERR_LINK_LOST', 'the other side asks and does not read the answers')
      this.abort(err)
      this.#owner.onGone(this, err)
      return
    }
    this.#put(encodeSessionFrame(frame))
  }

  #put (message: Uint8Array): void {
    this.#isReady = this.link.write(message)
    this.#sentCost += message.length + MESSAGE_COST_BYTES
    this.#lookAtKeys(this.#sentCost)
  }

  /** Round trip in milliseconds. @throws CarrierError ERR_LINK_LOST */
  async ping (): Promise<number> {
    if (this.#isGone) throw new CarrierError('ERR_LINK_LOST', 'the link is gone')
    const newest = [...this.#pings.values()].at(-1)
    if (newest !== undefined && this.#pings.size >= LIMITS.sessionPingCount) return newest.done
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    // whoever waits gets the failure; nobody has to
    promise.catch(() => {})
    this.#lastPing++
    this.#pings.set(this.#lastPing, { sentMs: this.#clock.monotonicMs(), resolve, reject, done: promise })
    this.send({ type: 'ping', sequence: this.#lastPing })
    return promise
  }

  /** Asks now, because something changed: when nothing comes for `patienceMs` (three round trips, when absent) the link is lost. */
  check (patienceMs = networkPatienceMs(this.#rttMs)): void {
    if (this.#isGone || this.#checking !== 'no') return
    const { patienceMs: usualMs } = this.#watchTimes()
    const [oldest] = this.#pings.values()
    const restMs = oldest === undefined ? Infinity : oldest.sentMs + usualMs - this.#clock.monotonicMs()
    // it was asked before: whoever asks now must not give it more time
    if (restMs <= patienceMs) {
      this.#planWatch(Math.max(0, restMs))
      return
    }
    this.#checking = 'asked'
    this.ping().catch(() => { /* the watch sees for itself */ })
    this.#planWatch(patienceMs)
  }

  /** Sends what was written and ends the link; it is cut when that takes too long. */
  async close (): Promise<void> {
    this.#retire(new CarrierError('ERR_LINK_LOST', 'the link was closed'))
    const timer = this.#clock.setTimer(() => {
      this.link.abort(new CarrierError('ERR_LINK_LOST', 'the link was closed'))
    }, LIMITS.sessionCloseTimeoutMs)
    await this.link.close()
    await this.link.closed
    timer.cancel()
  }

  /** Ends the link now. */
  abort (err: CarrierError): void {
    this.#retire(err)
    this.link.abort(err)
  }

  // ---- the link says

  onBytes (chunk: Uint8Array): void {
    if (this.#isGone) return
    this.#lastReceivedMs = this.#clock.monotonicMs()
    this.#checking = 'no'
    this.#receivedCost += chunk.length + MESSAGE_COST_BYTES
    this.#owner.onBytes(this, chunk.length)
    this.#guarded(() => { this.#decoder.push(chunk) })
    if (this.#decoder.isHeld) this.#hold()
    this.#lookAtKeys(this.#receivedCost)
  }

  onDrain (): void {
    if (this.#isGone) return
    this.#isReady = true
    this.#urgentCount = 0
    this.#pong()
    if (this.isReady) this.#owner.onDrain(this)
  }

  onClosed (err: CarrierError): void {
    if (this.#isGone) return
    this.#retire(err)
    this.#owner.onGone(this, err)
  }

  // ---- frames

  onFrame (frame: Frame): void {
    switch (frame.type) {
      case 'ping':
        // only the newest needs an answer, so a flood costs one
        this.#isPongDue = true
        this.#pongSequence = frame.sequence
        if (this.#isReady) queueMicrotask(() => { this.#pong() })
        return
      case 'pong': this.#receivePong(frame.sequence); return
      case 'goaway': this.#owner.onGoaway(this, codeFromWire(frame.code)); return
      case 'switch': case 'resume': case 'resumed': case 'lost': case 'linkAsk': case 'linkTicket': case 'punch': case 'auth':
        this.#owner.onLinkFrame(this, frame)
        return
      case 'hello': case 'welcome': case 'confirm': throw violation(`a ${frame.type} frame in a live session`)
      case 'datagram':
        throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the peer sent a ${frame.type} frame, a feature that was not agreed on`)
      default:
        // open credit is absolute and may come early
        if (this.#reception === 'deliver' || (frame.type === 'openCredit' && this.#reception === 'hold')) this.#owner.channelFrames.onFrame(frame)
    }
  }

  onData (channelId: number, offsetBytes: number, payloadBytes: number): void {
    if (this.#reception === 'deliver') this.#owner.channelFrames.onData(channelId, offsetBytes, payloadBytes)
  }

  onDataBytes (bytes: Uint8Array): void {
    if (this.#reception === 'deliver') this.#owner.channelFrames.onDataBytes(bytes)
  }

  #mayTake (type: number): boolean {
    return type < FIRST_CHANNEL_TYPE || type >= FIRST_SKIPPED_TYPE
  }

  /** The switch to this link has to come soon, on the link in use. */
  #hold (): void {
    this.link.pause()
    this.#holdTimer ??= this.#clock.setTimer(() => {
      this.#owner.onViolation(this, violation('channel frames on a link that is not in use'))
    }, LIMITS.sessionSwitchTimeoutMs)
  }

  #pong (): void {
    if (!this.#isPongDue || !this.isReady) return
    this.#isPongDue = false
    this.send({ type: 'pong', sequence: this.#pongSequence })
  }

  #receivePong (sequence: number): void {
    if (sequence > this.#lastPing) throw violation('a pong to a ping that was not sent')
    const nowMs = this.#clock.monotonicMs()
    for (const [pending, ping] of this.#pings) {
      if (pending > sequence) continue
      this.#pings.delete(pending)
      const rttMs = nowMs - ping.sentMs
      if (pending === sequence) {
        this.#rttMs = this.#rttMs === undefined ? rttMs : this.#rttMs * 0.875 + rttMs * 0.125
        this.#owner.onRoundTrip(this, rttMs)
      }
      ping.resolve(rttMs)
    }
  }

  /** Cheap, for every message: the clock is looked at by the watch. */
  #lookAtKeys (cost: number): void {
    if (this.#keyLimits !== undefined && cost >= this.#nextWear * this.#keyLimits.maxBytes) this.#tellWear()
  }

  #tellWear (): void {
    if (this.#isGone || this.wear < this.#nextWear) return
    this.#nextWear = this.#nextWear === 1 ? 2 : Infinity
    this.#owner.onWorn(this)
  }

  // ---- is it alive

  #watch (): void {
    const nowMs = this.#clock.monotonicMs()
    // a link that is held does not read, and a timer that is late means that this process slept: what came is still to be read
    if (this.#decoder.isHeld || nowMs - this.#watchDueMs > LATE_MS) {
      this.#lastReceivedMs = nowMs
      this.#checking = 'no'
    }
    const silentMs = nowMs - this.#lastReceivedMs
    const { isWaiting, askAfterMs, patienceMs } = this.#watchTimes()
    // silence counts from a question on: what was quiet because nobody had anything to say is not lost
    const [oldest] = this.#pings.values()
    const unansweredMs = oldest === undefined ? 0 : Math.min(silentMs, nowMs - oldest.sentMs)
    if (this.#checking === 'asked') {
      this.#checking = 'last'
      this.#planWatch(MIN_WATCH_MS)
      return
    }
    if (this.#checking === 'last' || (oldest !== undefined && unansweredMs >= patienceMs)) {
      const err = new CarrierError('ERR_LINK_LOST', `nothing came over the link for ${Math.round(silentMs / 1000)} s`)
      this.abort(err)
      this.#owner.onGone(this, err)
      return
    }
    if (silentMs >= askAfterMs && oldest === undefined) this.ping().catch(() => { /* the watch sees for itself */ })
    this.#tellWear()
    this.#isLazy = !isWaiting
    if (!isWaiting) this.#owner.onQuiet()
    this.#planWatch(silentMs >= askAfterMs ? Math.max(MIN_WATCH_MS, patienceMs - unansweredMs) : Math.max(MIN_WATCH_MS, askAfterMs - silentMs))
  }

  /** When a silent link is asked, and how long it has for an answer. */
  #watchTimes (): { isWaiting: boolean, askAfterMs: number, patienceMs: number } {
    const isWaiting = this.#owner.isWaiting()
    const askAfterMs = isWaiting ? LIMITS.sessionBusyPingMs : this.#keepalive.linkAskMs
    const lostAfterMs = isWaiting ? LIMITS.sessionBusySilenceMs : this.#keepalive.linkLostMs
    return { isWaiting, askAfterMs, patienceMs: lostAfterMs - askAfterMs }
  }

  #planWatch (delayMs: number): void {
    this.#watchTimer?.cancel()
    this.#watchDueMs = this.#clock.monotonicMs() + delayMs
    this.#watchTimer = this.#clock.setTimer(() => { this.#watch() }, delayMs)
  }

  // ---- ending

  #guarded (work: () => void): void {
    try {
      work()
    } catch (err) {
      this.#owner.onViolation(this, toCarrierError(err))
    }
  }

  #retire (err: CarrierError): void {
    if (this.#isGone) return
    this.#isGone = true
    this.#decoder.stop()
    this.#watchTimer?.cancel()
    this.#holdTimer?.cancel()
    for (const ping of this.#pings.values()) ping.reject(new CarrierError('ERR_LINK_LOST', err.message, { cause: err }))
    this.#pings.clear()
  }
}
