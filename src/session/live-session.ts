/** A live session: its channels over its links, with time, handlers and events. It outlives every single link. */
import { abortable, CarrierError, LIMITS, toCarrierError, wireCode } from '../base/index.ts'
import type { Clock, HostAndPort, KeepaliveMode, Logger, TaskOwner, Timer } from '../base/index.ts'
import type { Path, SessionProver } from '../node/index.ts'
import type { AttachedLink, KeyLimits } from './attached-link.ts'
import { createChannelRequest } from './channel-request.ts'
import { ChannelStream } from './channel.ts'
import type { ChannelCore } from './channel-core.ts'
import type { CreditPool } from './credit-pool.ts'
import type { PunchAnswer } from './frames.ts'
import type { Feature, WireLimits } from './hello.ts'
import type { Link } from './link.ts'
import { LinkAsks } from './link-asks.ts'
import { LinkSet } from './link-set.ts'
import type { LinkSource } from './link-set.ts'
import { SessionAuth } from './session-auth.ts'
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
  /** How long a session without a link waits for one, milliseconds. */
  resumeWindowMs: number
  keepalive?: KeepaliveMode | undefined
  /** How long the keys of a TLS link serve; LIMITS.linkKeyBytes and linkKeyAgeMs when absent. */
  keyLimits?: KeyLimits | undefined
  /** For sessions with the feature "auth". */
  prover?: SessionProver | undefined
}

/** What the owner of a session is told; each synchronously. */
export interface LiveSessionEvents {
  /** No link carries it now: one is needed within the resume window. */
  onLost: (session: LiveSession, err: CarrierError) => void
  onResumed: (session: LiveSession, stallMs: number) => void
  /** A resume came to nothing; a link in its handshake may be of use now. */
  onResumeFailed: (session: LiveSession) => void
  /** Another link carries it, as planned. */
  onSwitched: (session: LiveSession, from: Link) => void
  /** A link that carried nothing is gone, or switches are possible again. */
  onLinksChanged: (session: LiveSession) => void
  /** A channel was opened, by either end. */
  onUsed: (session: LiveSession) => void
  /** The other end wants to connect to our link port; undefined when there is none. */
  issueTicket: (session: LiveSession) => { port: number, ticket: Uint8Array } | undefined
  /** The controller wants to punch. `answer` is called once: with our candidates, or with nothing. */
  onPunchAsk: (session: LiveSession, candidates: readonly HostAndPort[], answer: (answer: PunchAnswer) => void) => void
  /** Once, after every channel has failed. */
  onClosed: (session: LiveSession, err: CarrierError) => void
}

/** One session's facts. */
export interface LiveSessionInit {
  peer: SessionPeer
  id: Uint8Array
  token: Uint8Array
  isController: boolean
  limits: WireLimits
  peerLimits: WireLimits
  features: ReadonlySet<Feature>
  source: LinkSource
  epoch: number
}

const INWARD = { direction: 'in' }
const OUTWARD = { direction: 'out' }

/** Pass its links here; everything else it does by itself. */
export class LiveSession implements Session {
  readonly peer: SessionPeer
  readonly id: Uint8Array
  readonly #components: LiveSessionComponents
  readonly #init: LiveSessionInit
  readonly #events: LiveSessionEvents
  readonly #core: SessionCore
  readonly links: LinkSet
  /** What the ends ask each other about further links. */
  readonly asks: LinkAsks
  /** Absent: the ends did not agree on it. */
  readonly #auth: SessionAuth | undefined
  /** Of this session only. */
  readonly #handlers = new Map<string, ChannelHandler>()
  #isClosed = false
  /** The link in use, or the last one. */
  #shown: AttachedLink
  #isFlushPlanned = false
  #ackTimer: Timer | undefined
  #ackDueMs = 0
  #lost: { sinceMs: number, timer: Timer } | undefined
  /** Why the last dial since the loss of the link failed. */
  #dialFailure: CarrierError | undefined
  readonly #liveWaiters = new Set<PromiseWithResolvers<undefined>>()
  /** Resumes since `#resumesFromMs`, a minute ago at most. */
  #resumeCount = 0
  #resumesFromMs = 0
  #lastUsedMs: number
  #ending: Promise<void> | undefined

  constructor (components: LiveSessionComponents, init: LiveSessionInit, events: LiveSessionEvents) {
    this.#components = components
    this.#init = init
    this.#events = events
    this.peer = init.peer
    this.id = init.id
    this.#lastUsedMs = components.clock.monotonicMs()
    this.#core = new SessionCore({
      isController: init.isController,
      limits: init.limits,
      peerLimits: init.peerLimits,
      pool: components.pool,
      now: () => components.clock.monotonicMs()
    }, {
      onWake: () => { this.#planFlush() },
      // the link below may answer every message with one of its own: an acknowledgement for each piece of a burst would double the messages
      onAckDue: () => { setImmediate(() => { this.#flush() }) },
      // a read of the link brings several pieces: one by one each of them would cost the reader a turn and a system call
      onDeliveryDue: () => { setImmediate(() => { this.#core.deliver() }) },
      onAckDelayed: (delayMs) => { this.#planAcks(delayMs) },
      onOpen: (channel, message) => { this.#receiveChannel(channel, message) }
    })
    this.asks = new LinkAsks({ sending: () => this.links.sending, features: init.features, issueTicket: () => events.issueTicket(this) })
    this.#auth = this.#createAuth()
    this.links = new LinkSet({ clock: components.clock, core: this.#core, keepalive: components.keepalive }, {
      isController: init.isController, sessionId: init.id, token: init.token, features: init.features, keyLimits: components.keyLimits
    }, {
      onBytes: (byteCount) => { components.metrics.bytes.add(byteCount, INWARD) },
      onReady: () => { this.#flush() },
      onSwitched: (from, to) => { this.#switched(from, to) },
      onLost: (err) => { this.#loseLink(err) },
      onResumed: (link) => { this.#resumed(link) },
      onResumeFailed: () => { events.onResumeFailed(this) },
      onSettled: () => { events.onLinksChanged(this) },
      onSpareGone: (link) => {
        this.#auth?.forget(link)
        events.onLinksChanged(this)
      },
      onDropped: (link) => { this.#auth?.forget(link) },
      // not in the middle of a message
      onWorn: () => { setImmediate(() => { if (!this.#isClosed) events.onLinksChanged(this) }) },
      onViolation: (err) => { this.violate(err) },
      onGoaway: (code) => { this.#end(new CarrierError(code, `the other side ended the session (${code})`), false) },
      onLinkAsk: () => { this.asks.receiveLinkAsk() },
      onLinkTicket: (port, ticket) => { this.asks.receiveTicket({ port, ticket }) },
      onPunchAsk: (link, round, candidates) => { this.#events.onPunchAsk(this, candidates, (answer) => { link.send({ type: 'punch', what: typeof answer === 'string' ? answer : 'answer', round, candidates: typeof answer === 'string' ? [] : [...answer] }) }) },
      onPunchAnswer: (round, answer) => { this.asks.receivePunchAnswer(round, answer) },
      onAuth: (link, isLast, body) => { this.#auth?.receive(link, isLast, body) }
    })
    this.#shown = this.links.begin(init.source, init.epoch)
    this.#measure(this.#shown)
    this.#auth?.use(this.#shown)
  }

  get link (): LinkKind { return this.#shown.link.kind }
  get path (): Path { return this.#shown.link.path }
  get relayPeerId (): string | undefined { return this.#shown.link.relayPeerId }
  get rttMs (): number | undefined { return this.#shown.rttMs }
  get channelCount (): number { return this.#core.channelCount }
  get state (): 'live' | 'resuming' | 'closed' { return this.#isClosed ? 'closed' : this.#lost === undefined ? 'live' : 'resuming' }
  get isController (): boolean { return this.#init.isController }
  get features (): ReadonlySet<Feature> { return this.#init.features }
  get token (): Uint8Array { return this.#init.token }
  /** Monotonic instant of the last open or close of a channel, or of the start. */
  get lastUsedMs (): number { return this.#lastUsedMs }
  /** Somebody uses it, or did a short while ago. */
  get isInUse (): boolean { return this.channelCount > 0 || this.#components.clock.monotonicMs() - this.#lastUsedMs < LIMITS.sessionInUseMs }

  openChannel (kind: string, message: Uint8Array, options: { signal?: AbortSignal } = {}): Channel {
    const { signal } = options
    signal?.throwIfAborted()
    const core = this.#core.open(kind, message)
    this.#components.metrics.channelsOpened.add(1, { side: 'local' })
    const channel = this.#createStream(core)
    this.#used()
    if (signal !== undefined) {
      const onAbort = (): void => { channel.destroy(toCarrierError(signal.reason, 'ERR_CANCELLED', 'the channel was cancelled')) }
      signal.addEventListener('abort', onAbort, { once: true })
      channel.once('close', () => { signal.removeEventListener('abort', onAbort) })
    }
    return channel
  }

  onChannel (kind: string, handler: ChannelHandler): () => void {
    this.#handlers.set(kind, handler)
    return () => { if (this.#handlers.get(kind) === handler) this.#handlers.delete(kind) }
  }

  markUsed (): void {
    if (!this.#isClosed) this.#used()
  }

  async ping (options: { signal?: AbortSignal } = {}): Promise<number> {
    while (true) {
      await this.whenLive(options)
      try {
        return await abortable(this.#shown.ping(), options.signal)
      } catch (err) {
        options.signal?.throwIfAborted()
        // the link went away, not the session: the next one answers
        if (!(err instanceof CarrierError) || err.code !== 'ERR_LINK_LOST') throw err
      }
    }
  }

  /** Resolves when a link carries the session. @throws CarrierError when it ended */
  async whenLive (options: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.state === 'closed') throw new CarrierError('ERR_CLOSED', 'the session has ended; open a new one')
    if (this.state === 'live') return
    const waiter = Promise.withResolvers<undefined>()
    this.#liveWaiters.add(waiter)
    try {
      await abortable(waiter.promise, options.signal)
    } finally {
      this.#liveWaiters.delete(waiter)
    }
  }

  async close (err: CarrierError = new CarrierError('ERR_CLOSED', 'the session was closed')): Promise<void> {
    this.#end(err, true)
    await this.#ending
  }

  /** The peer sent what it may not send, or we failed to handle it: the session ends with a code. */
  violate (cause: unknown): void {
    if (this.#isClosed) return
    const err = toCarrierError(cause)
    this.#components.metrics.violations.add()
    this.#components.log.warn('session ended: the peer broke the protocol', { device: this.peer.device, code: err.code, reason: err.message })
    this.#end(err, true)
  }

  // ---- links

  #switched (from: AttachedLink, to: AttachedLink): void {
    this.#shown = to
    this.#components.metrics.switches.add(1, { from: from.link.kind, to: to.link.kind })
    this.#components.log.info('the session moved to another link', { device: this.peer.device, link: to.link.kind, path: to.link.path })
    this.#measure(to)
    this.#auth?.use(to)
    this.#events.onSwitched(this, from.link)
  }

  #loseLink (err: CarrierError): void {
    const { clock, metrics, log } = this.#components
    metrics.linksLost.add(1, { link: this.link })
    this.asks.forget(err)
    this.#auth?.lose()
    if (!this.#init.features.has('resume')) {
      this.#end(err, false)
      return
    }
    if (this.#isRestless()) {
      this.#end(new CarrierError('ERR_LIMIT', `the session lost its link more than ${LIMITS.sessionResumesPerMinuteCount} times in a minute`, { cause: err }), true)
      return
    }
    log.info('the session lost its link', { device: this.peer.device, link: this.link, reason: err.message })
    if (this.#lost === undefined) this.#dialFailure = undefined
    this.#lost ??= {
      sinceMs: clock.monotonicMs(),
      timer: clock.setTimer(() => {
        this.#end(this.#neverFound(err), false)
      }, this.#components.resumeWindowMs)
    }
    this.#events.onLost(this, err)
  }

  /** Why no link was found: what kept the last dial from it is named, a quota of a relay for example. */
  #neverFound (cause: CarrierError): CarrierError {
    const why = this.#dialFailure
    const text = `no way to the other side was found within ${this.#components.resumeWindowMs / 1000} s after the link was lost`
    return new CarrierError('ERR_LINK_LOST', why === undefined ? text : `${text}: ${why.message}`, { cause, ...(why?.detail === undefined ? {} : { detail: why.detail }) })
  }

  /** A dial for a link of this session failed. */
  noteDialFailure (err: CarrierError): void {
    if (this.#lost !== undefined) this.#dialFailure = err
  }

  /** Each loss costs both ends something: a peer that makes them up gets only so many. */
  #isRestless (): boolean {
    const nowMs = this.#components.clock.monotonicMs()
    if (nowMs - this.#resumesFromMs > 60_000) {
      this.#resumesFromMs = nowMs
      this.#resumeCount = 0
    }
    return ++this.#resumeCount > LIMITS.sessionResumesPerMinuteCount
  }

  #resumed (link: AttachedLink): void {
    const lost = this.#lost
    this.#shown = link
    this.#lost = undefined
    lost?.timer.cancel()
    const stallMs = lost === undefined ? 0 : this.#components.clock.monotonicMs() - lost.sinceMs
    this.#components.metrics.resumes.add(1, { link: link.link.kind })
    this.#components.metrics.stall.observe(stallMs / 1000)
    this.#components.log.info('the session resumed', { device: this.peer.device, link: link.link.kind, path: link.link.path, stallMs: Math.round(stallMs) })
    // the controller's links ask by themselves, before they switch again
    if (!this.#init.isController) this.#measure(link)
    this.#auth?.use(link)
    for (const waiter of this.#liveWaiters) waiter.resolve(undefined)
    this.#events.onResumed(this, stallMs)
  }

  #createAuth (): SessionAuth | undefined {
    const { clock, prover, metrics, log } = this.#components
    if (prover === undefined || !this.#init.features.has('auth')) return undefined
    return new SessionAuth({ clock, prover }, { device: this.peer.device, sessionId: this.id, isController: this.#init.isController }, {
      onProven: () => { metrics.auths.add(1, { result: 'ok' }) },
      onFailed: (err) => {
        metrics.auths.add(1, { result: err.code })
        if (err.code === 'ERR_PROTOCOL') this.violate(err)
        else {
          log.warn('session ended: the other side is not proven (any more)', { device: this.peer.device, code: err.code, reason: err.message })
          this.#end(err, true)
        }
      }
    })
  }

  /** The first round trip of a link; nobody waits for it, and its failure is the link's own. */
  #measure (link: AttachedLink): void {
    link.ping().catch(() => { /* the watch of the link sees for itself */ })
  }

  // ---- ending

  #end (err: CarrierError, isTold: boolean): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#ackTimer?.cancel()
    this.#lost?.timer.cancel()
    this.asks.forget(err)
    this.#auth?.end()
    this.#core.end(err)
    for (const waiter of this.#liveWaiters) waiter.reject(err)
    this.#ending = this.links.end(isTold ? wireCode(err.code) : undefined)
    this.#events.onClosed(this, err)
  }

  // ---- sending

  #planFlush (): void {
    if (this.#isFlushPlanned || this.links.sending?.isReady !== true) return
    this.#isFlushPlanned = true
    queueMicrotask(() => {
      this.#isFlushPlanned = false
      this.#flush()
    })
  }

  #flush (): void {
    for (let link = this.links.sending; link?.isReady === true; link = this.links.sending) {
      const message = this.#core.produce(link.link.messageBytes)
      if (message !== undefined) {
        this.#components.metrics.bytes.add(message.length, OUTWARD)
        link.write(message)
      }
      this.#core.notifySent()
      if (message === undefined) return
    }
  }

  #planAcks (delayMs: number): void {
    const { clock } = this.#components
    const dueMs = clock.monotonicMs() + delayMs
    if (this.#ackTimer !== undefined && this.#ackDueMs <= dueMs) return
    this.#ackTimer?.cancel()
    this.#ackDueMs = dueMs
    this.#ackTimer = clock.setTimer(() => {
      this.#ackTimer = undefined
      this.#core.flushAcks()
    }, delayMs)
  }

  // ---- inbound channels

  #createStream (core: ChannelCore): ChannelStream {
    const channel = new ChannelStream(this.#core, core, this.peer)
    channel.once('close', () => { this.#lastUsedMs = this.#components.clock.monotonicMs() })
    return channel
  }

  #used (): void {
    this.#lastUsedMs = this.#components.clock.monotonicMs()
    this.#events.onUsed(this)
  }

  #receiveChannel (core: ChannelCore, message: Uint8Array): void {
    const { metrics, handlers, tasks, log } = this.#components
    metrics.channelsOpened.add(1, { side: 'remote' })
    const refuse = (err: CarrierError): void => {
      metrics.channelsRefused.add(1, { code: err.code })
      this.#core.reset(core, err)
    }
    const handler = this.#handlers.get(core.kind) ?? handlers.get(core.kind)
    if (handler === undefined || tasks.signal.aborted) {
      refuse(new CarrierError('ERR_NOT_AVAILABLE', 'not offered to you, or not there'))
      this.#core.settle(core)
      return
    }
    this.#used()
    const decision = createChannelRequest({
      session: this,
      core,
      message,
      accept: () => this.#createStream(core),
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
