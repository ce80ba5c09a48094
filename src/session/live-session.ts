/** A live session: the core on its link, with time, pings and channel handlers. */
import { abortable, CarrierError, LIMITS, toCarrierError } from '../base/index.ts'
import type { Clock, ErrorCode, Logger, TaskOwner, Timer } from '../base/index.ts'
import type { Path } from '../node/index.ts'
import { createChannelRequest } from './channel-request.ts'
import { ChannelStream } from './channel.ts'
import type { ChannelCore } from './channel-core.ts'
import type { CreditPool } from './credit-pool.ts'
import type { FrameDecoder } from './frame-decoder.ts'
import type { WireLimits } from './hello.ts'
import type { Link } from './link.ts'
import { SessionCore } from './session-core.ts'
import type { SessionMetrics } from './session-metrics.ts'
import type { Channel, ChannelHandler, LinkKind, Session, SessionPeer } from './types.ts'

/** What sessions share. */
export interface LiveSessionComponents {
  clock: Clock
  log: Logger
  tasks: TaskOwner
  metrics: SessionMetrics
  pool: CreditPool
  handlers: ReadonlyMap<string, ChannelHandler>
}

/** One session's facts. */
export interface LiveSessionInit {
  peer: SessionPeer
  id: Uint8Array
  isController: boolean
  limits: WireLimits
  peerLimits: WireLimits
  link: Link
  decoder: FrameDecoder
  /** Once, after every channel has failed. */
  onClosed: (session: LiveSession, err: CarrierError) => void
}

/** Bytes asked of the core at once. */
const BATCH_BYTES = 64 * 1024

/** The owner passes on what the link says through `receive`, `drain` and `lost`. */
export class LiveSession implements Session {
  readonly peer: SessionPeer
  readonly id: Uint8Array
  readonly #components: LiveSessionComponents
  readonly #init: LiveSessionInit
  readonly #core: SessionCore
  #state: 'live' | 'closed' = 'live'
  #isLinkReady = true
  #isFlushPlanned = false
  #ackTimer: Timer | undefined
  #aliveTimer: Timer | undefined
  #lastReceivedMs: number
  #lastUsedMs: number
  #rttMs: number | undefined
  readonly #pings = new Map<number, { sentMs: number, resolve: (rttMs: number) => void, reject: (err: CarrierError) => void, done: Promise<number> }>()
  #ending: Promise<void> | undefined

  constructor (components: LiveSessionComponents, init: LiveSessionInit) {
    this.#components = components
    this.#init = init
    this.peer = init.peer
    this.id = init.id
    this.#lastReceivedMs = components.clock.monotonicMs()
    this.#lastUsedMs = this.#lastReceivedMs
    this.#core = new SessionCore({ isController: init.isController, limits: init.limits, peerLimits: init.peerLimits, pool: components.pool }, {
      onWake: () => { this.#planFlush() },
      // the link below may answer every message with one of its own: an acknowledgement for each piece of a burst would double the messages
      onAckDue: () => { setImmediate(() => { this.#flush() }) },
      onAckDelayed: () => { this.#planAcks() },
      onOpen: (channel, message) => { this.#receiveChannel(channel, message) },
      onPong: (sequence) => { this.#receivePong(sequence) },
      onGoaway: (code) => { this.#receiveGoaway(code) }
    })
    init.decoder.sink = this.#core
    this.#watch()
    // measures the first round trip; nobody waits for it, and its failure is the session's own
    this.#ping().catch(() => {})
  }

  get link (): LinkKind { return this.#init.link.kind }
  get path (): Path { return this.#init.link.path }
  get relayPeerId (): string | undefined { return this.#init.link.relayPeerId }
  get rttMs (): number | undefined { return this.#rttMs }
  get channelCount (): number { return this.#core.channelCount }
  /** Monotonic instant of the last open of a channel, or of the start. */
  get lastUsedMs (): number { return this.#lastUsedMs }

  openChannel (kind: string, message: Uint8Array): Channel {
    const core = this.#core.open(kind, message)
    this.#lastUsedMs = this.#components.clock.monotonicMs()
    this.#components.metrics.channelsOpened.add(1, { side: 'local' })
    return new ChannelStream(this.#core, core, this.peer)
  }

  async ping (options: { signal?: AbortSignal } = {}): Promise<number> {
    if (this.#state === 'closed') throw new CarrierError('ERR_CLOSED', 'the session has ended; open a new one')
    return abortable(this.#ping(), options.signal)
  }

  async close (err: CarrierError = new CarrierError('ERR_CLOSED', 'the session was closed')): Promise<void> {
    this.#end(err, true)
    await this.#ending
  }

  // ---- the link says

  /** Bytes came in. */
  receive (chunk: Uint8Array): void {
    this.#lastReceivedMs = this.#components.clock.monotonicMs()
    this.#components.metrics.bytes.add(chunk.length, { direction: 'in' })
    try {
      this.#init.decoder.push(chunk)
    } catch (err) {
      this.violate(err)
    }
  }

  /** The peer sent what it may not send, or we failed to handle it: the session ends with a code. */
  violate (cause: unknown): void {
    const err = toCarrierError(cause)
    this.#components.metrics.violations.add()
    this.#components.log.warn('session ended: the peer broke the protocol', { device: this.peer.device, code: err.code, reason: err.message })
    this.#end(err, true)
  }

  /** The link takes bytes again. */
  drain (): void {
    this.#isLinkReady = true
    this.#flush()
  }

  /** The link is gone. */
  lost (err: CarrierError): void {
    this.#end(err, false)
  }

  // ---- ending

  #end (err: CarrierError, isTold: boolean): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#init.decoder.stop()
    this.#ackTimer?.cancel()
    this.#aliveTimer?.cancel()
    for (const ping of this.#pings.values()) ping.reject(err)
    this.#pings.clear()
    this.#core.end(err, isTold)
    this.#flush()
    this.#ending = this.#closeLink()
    this.#init.onClosed(this, err)
  }

  /** Lets the goaway out if the link still takes it, but does not wait long for that. */
  async #closeLink (): Promise<void> {
    const { link } = this.#init
    const timer = this.#components.clock.setTimer(() => {
      link.abort(new CarrierError('ERR_LINK_LOST', 'the link was closed'))
    }, LIMITS.sessionCloseTimeoutMs)
    await link.close()
    await link.closed
    timer.cancel()
  }

  #receiveGoaway (code: ErrorCode): void {
    this.#end(new CarrierError(code, `the other side ended the session (${code})`), false)
  }

  // ---- sending

  #planFlush (): void {
    if (this.#isFlushPlanned || !this.#isLinkReady) return
    this.#isFlushPlanned = true
    queueMicrotask(() => {
      this.#isFlushPlanned = false
      this.#flush()
    })
  }

  #flush (): void {
    while (this.#isLinkReady) {
      const pieces: Uint8Array[] = []
      const byteCount = this.#core.produce(pieces, BATCH_BYTES)
      if (byteCount > 0) {
        this.#components.metrics.bytes.add(byteCount, { direction: 'out' })
        this.#isLinkReady = this.#init.link.write(pieces, byteCount)
      }
      this.#core.notifySent()
      if (byteCount === 0) return
    }
  }

  #planAcks (): void {
    this.#ackTimer ??= this.#components.clock.setTimer(() => {
      this.#ackTimer = undefined
      this.#core.flushAcks()
    }, LIMITS.sessionAckDelayMs)
  }

  // ---- is it alive

  #watch (): void {
    const silentMs = this.#components.clock.monotonicMs() - this.#lastReceivedMs
    const lostAfterMs = LIMITS.sessionPingMs + LIMITS.sessionPongTimeoutMs
    if (silentMs >= lostAfterMs) {
      this.#end(new CarrierError('ERR_LINK_LOST', `nothing came over the link for ${Math.round(silentMs / 1000)} s`), false)
      this.#init.link.abort(new CarrierError('ERR_LINK_LOST', 'the other side does not answer'))
      return
    }
    if (silentMs >= LIMITS.sessionPingMs) this.#core.ping()
    const nextMs = silentMs >= LIMITS.sessionPingMs ? lostAfterMs - silentMs : LIMITS.sessionPingMs - silentMs
    this.#aliveTimer = this.#components.clock.setTimer(() => { this.#watch() }, nextMs)
  }

  async #ping (): Promise<number> {
    const newest = [...this.#pings.values()].at(-1)
    if (newest !== undefined && this.#pings.size >= LIMITS.sessionPingCount) return newest.done
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    this.#pings.set(this.#core.ping(), { sentMs: this.#components.clock.monotonicMs(), resolve, reject, done: promise })
    return promise
  }

  #receivePong (sequence: number): void {
    const nowMs = this.#components.clock.monotonicMs()
    for (const [pending, ping] of this.#pings) {
      if (pending > sequence) continue
      this.#pings.delete(pending)
      const rttMs = nowMs - ping.sentMs
      if (pending === sequence) this.#rttMs = this.#rttMs === undefined ? rttMs : this.#rttMs * 0.875 + rttMs * 0.125
      ping.resolve(rttMs)
    }
  }

  // ---- inbound channels

  #receiveChannel (core: ChannelCore, message: Uint8Array): void {
    const { metrics, handlers, tasks, log } = this.#components
    this.#lastUsedMs = this.#lastReceivedMs
    metrics.channelsOpened.add(1, { side: 'remote' })
    const refuse = (err: CarrierError): void => {
      metrics.channelsRefused.add(1, { code: err.code })
      this.#core.reset(core, err)
    }
    const handler = handlers.get(core.kind)
    if (handler === undefined || tasks.signal.aborted) {
      refuse(new CarrierError('ERR_NOT_AVAILABLE', 'not offered to you, or not there'))
      this.#core.settle(core)
      return
    }
    const decision = createChannelRequest({
      session: this,
      core,
      message,
      accept: () => new ChannelStream(this.#core, core, this.peer),
      refuse
    })
    tasks.run('channel handler', async () => {
      try {
        await handler(decision.request)
        decision.settle(new CarrierError('ERR_INTERNAL', 'the channel was neither accepted nor refused'))
      } catch (err) {
        if (!decision.settle(toCarrierError(err))) log.error('a channel handler failed after its decision', { kind: core.kind, err })
      } finally {
        this.#core.settle(core)
      }
    })
  }
}
