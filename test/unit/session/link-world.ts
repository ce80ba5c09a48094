/** Two session ends with as many links between them as a test wants: every byte moves when the test says so. */
import { CarrierError } from '../../../src/base/index.ts'
import type { ErrorCode } from '../../../src/base/index.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import type { ChannelCore } from '../../../src/session/channel-core.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { SessionProver } from '../../../src/node/index.ts'
import type { KeyLimits } from '../../../src/session/attached-link.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import type { FrameSink } from '../../../src/session/frame-decoder.ts'
import { FEATURES, OWN_LIMITS } from '../../../src/session/hello.ts'
import type { Link, LinkHandler } from '../../../src/session/link.ts'
import { LinkSet } from '../../../src/session/link-set.ts'
import type { LinkSource } from '../../../src/session/link-set.ts'
import { SessionAuth } from '../../../src/session/session-auth.ts'
import { SessionCore } from '../../../src/session/session-core.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import { Recorder } from './support.ts'

/** One end of a link in memory. What it sends waits until `carry`; the other end learns of a loss when told. */
export class MemoryLink implements Link {
  readonly kind: LinkKind
  readonly path = 'relayed'
  readonly relayPeerId = undefined
  readonly messageBytes: number
  readonly closed: Promise<void>
  other: MemoryLink | undefined
  isPaused = false
  isOver = false
  /** Messages on their way to the other end. */
  wire: Uint8Array[] = []
  /** Messages that the other end does not take yet. */
  capacity = 2
  #handler: LinkHandler | undefined
  #isDrainOwed = false
  readonly #closed = Promise.withResolvers<undefined>()

  constructor (kind: LinkKind, messageBytes: number) {
    this.kind = kind
    this.messageBytes = messageBytes
    this.closed = this.#closed.promise
  }

  open (handler: LinkHandler): void { this.#handler = handler }

  write (message: Uint8Array): boolean {
    if (this.isOver) return true
    this.wire.push(message)
    this.#isDrainOwed ||= this.wire.length >= this.capacity
    return !this.#isDrainOwed
  }

  pause (): void { this.isPaused = true }
  resume (): void { this.isPaused = false }
  async close (): Promise<void> { this.lose(false) }
  abort (): void { this.lose(false) }

  /** The link ends at this end; `isTold`: its owner learns of it as a loss. */
  lose (isTold = true): void {
    if (this.isOver) return
    this.isOver = true
    this.wire = []
    this.#closed.resolve(undefined)
    if (isTold) this.#handler?.onClosed(new CarrierError('ERR_LINK_LOST', 'the cable was cut'))
  }

  /** Moves up to `maxBytes` to the other end, in one chunk; bytes to a dead end are gone. */
  carry (maxBytes = Infinity): number {
    const { other } = this
    if (other === undefined || this.wire.length === 0 || other.isPaused) return 0
    const all = Buffer.concat(this.wire)
    const count = Math.min(all.length, maxBytes)
    this.wire = count < all.length ? [new Uint8Array(all.subarray(count))] : []
    if (!other.isOver) {
      const bytes = new Uint8Array(all.subarray(0, count))
      other.#handler?.onBytes(bytes)
      // the memory is the link's again: whoever kept a view of it reads nonsense
      bytes.fill(0xee)
    }
    if (this.#isDrainOwed && this.wire.length < this.capacity && !this.isOver) {
      this.#isDrainOwed = false
      this.#handler?.onDrain()
    }
    return count
  }
}

/** What a set needs of a handshake that is over. */
function sourceOf (link: MemoryLink): LinkSource {
  const nowhere: FrameSink = { onFrame: () => {}, onData: () => {}, onDataBytes: () => {} }
  return { link, decoder: new FrameDecoder(nowhere), adopt: (next) => { link.open(next) } }
}

/** One end: channels, links and what happened. */
export class LinkEnd {
  readonly core: SessionCore
  readonly links: LinkSet
  readonly pool = new CreditPool(512 * 1024 * 1024)
  readonly events: string[] = []
  opened: Array<{ channel: ChannelCore, recorder: Recorder }> = []
  violation: CarrierError | undefined
  goaway: ErrorCode | undefined
  isAckDelayed = false
  /** As in a session; none when the world has no provers. */
  readonly auth: SessionAuth | undefined
  provenCount = 0

  constructor (clock: FakeClock, isController: boolean, secrets: { sessionId: Uint8Array, token: Uint8Array }, first: MemoryLink, { proof, keyLimits }: { proof?: { prover: SessionProver, device: Did } | undefined, keyLimits?: KeyLimits | undefined } = {}) {
    this.auth = proof === undefined
      ? undefined
      : new SessionAuth({ clock, prover: proof.prover }, { device: proof.device, sessionId: secrets.sessionId, isController }, {
        onProven: () => { this.provenCount++ },
        onFailed: (err) => {
          this.violation ??= err
          void this.links.end(undefined)
        }
      })
    this.core = new SessionCore({ isController, limits: OWN_LIMITS, peerLimits: OWN_LIMITS, pool: this.pool, now: () => clock.monotonicMs() }, {
      onWake: () => {},
      onAckDue: () => {},
      onDeliveryDue: () => { this.core.deliver() },
      onAckDelayed: () => { this.isAckDelayed = true },
      onOpen: (channel) => {
        const recorder = new Recorder()
        channel.listener = recorder
        this.opened.push({ channel, recorder })
        this.core.settle(channel)
      }
    })
    this.links = new LinkSet({ clock, core: this.core }, { isController, ...secrets, features: new Set(FEATURES.filter((name) => name !== 'auth' || proof !== undefined)), keyLimits }, {
      onBytes: () => {},
      onReady: () => { this.flush() },
      onSwitched: (from, to) => {
        this.events.push(`switched ${from.link.kind} ${to.link.kind}`)
        this.auth?.use(to)
      },
      onLost: () => {
        this.events.push('lost')
        this.auth?.lose()
      },
      onResumed: (link) => {
        this.events.push(`resumed ${link.link.kind}`)
        this.auth?.use(link)
      },
      onResumeFailed: () => { this.events.push('resume failed') },
      onSettled: () => { this.events.push('settled') },
      onSpareGone: (link) => {
        this.events.push(`spare gone ${link.link.kind}`)
        this.auth?.forget(link)
      },
      onDropped: (link) => { this.auth?.forget(link) },
      onWorn: () => { this.events.push('worn') },
      onViolation: (err) => {
        this.violation ??= err
        this.auth?.end()
        void this.links.end(undefined)
      },
      onGoaway: (code) => { this.goaway = code },
      onLinkAsk: () => { this.events.push('asked') },
      onLinkTicket: (port) => { this.events.push(`ticket ${port}`) },
      onPunchAsk: (_link, round, candidates) => { this.events.push(`punch ${round} ${candidates.length}`) },
      onPunchAnswer: (round, answer) => { this.events.push(`punch answer ${round} ${typeof answer === 'string' ? answer : answer.length}`) },
      onAuth: (link, isLast, body) => { this.auth?.receive(link, isLast, body) }
    })
    const begun = this.links.begin(sourceOf(first), 1)
    this.auth?.use(begun)
  }

  open (): { channel: ChannelCore, recorder: Recorder } {
    const channel = this.core.open('test', new Uint8Array(0))
    const recorder = new Recorder()
    channel.listener = recorder
    return { channel, recorder }
  }

  /** Sends what may be sent now. */
  flush (): void {
    for (let link = this.links.sending; link?.isReady === true; link = this.links.sending) {
      const message = this.core.produce(link.link.messageBytes)
      if (message !== undefined) link.write(message)
      this.core.notifySent()
      if (message === undefined) return
    }
  }
}

/** Both ends; the first is the controller. */
export class LinkWorld {
  readonly ends: [LinkEnd, LinkEnd]
  readonly pairs: Array<[MemoryLink, MemoryLink]> = []
  readonly #clock: FakeClock

  constructor (clock: FakeClock, init: { messageBytes?: number, keyLimits?: KeyLimits, proofs?: [{ prover: SessionProver, device: Did }, { prover: SessionProver, device: Did }] } = {}) {
    this.#clock = clock
    const first = this.createPair('stream', init.messageBytes)
    const secrets = { sessionId: new Uint8Array(16).fill(1), token: new Uint8Array(32).fill(2) }
    // the end that is welcomed has the session first, as on the wire
    const other = new LinkEnd(clock, false, secrets, first[1], { proof: init.proofs?.[1], keyLimits: init.keyLimits })
    this.ends = [new LinkEnd(clock, true, secrets, first[0], { proof: init.proofs?.[0], keyLimits: init.keyLimits }), other]
  }

  get clock (): FakeClock { return this.#clock }

  createPair (kind: LinkKind, messageBytes = 4096): [MemoryLink, MemoryLink] {
    const pair: [MemoryLink, MemoryLink] = [new MemoryLink(kind, messageBytes), new MemoryLink(kind, messageBytes)]
    pair[0].other = pair[1]
    pair[1].other = pair[0]
    this.pairs.push(pair)
    return pair
  }

  /** As after welcome and confirm: both ends know one more link by its number. */
  attach (kind: LinkKind): [MemoryLink, MemoryLink] {
    const pair = this.createPair(kind)
    const epoch = this.ends[0].links.nextEpoch()
    this.ends[1].links.attach(sourceOf(pair[1]), epoch)
    this.ends[0].links.attach(sourceOf(pair[0]), epoch)
    return pair
  }

  /** As after two hellos that say that the session is lost: the controller resumes on a fresh link. */
  resumeOnFresh (kind: LinkKind): [MemoryLink, MemoryLink] {
    const pair = this.createPair(kind)
    const far = sourceOf(pair[1])
    // the handshake of the other end hands the link over with the resume frame
    const waiting = new FrameDecoder({
      onFrame: (frame) => { if (frame.type === 'resume') this.ends[1].links.acceptResume({ ...far, decoder: waiting }, frame.epoch) },
      onData: () => {},
      onDataBytes: () => {}
    })
    pair[1].open({ onBytes: (chunk) => { waiting.push(chunk) }, onDrain: () => {}, onClosed: () => {} })
    this.ends[0].links.resumeOn(sourceOf(pair[0]))
    return pair
  }

  controllerLink (link: MemoryLink): ReturnType<LinkSet['all']>[number] | undefined {
    return this.ends[0].links.all().find((attached) => attached.link === link)
  }

  /** Carries everything in both directions until nothing moves. */
  async rest (): Promise<void> {
    for (let round = 0; round < 100_000; round++) {
      let moved = 0
      for (const end of this.ends) {
        if (end.isAckDelayed) {
          end.isAckDelayed = false
          end.core.flushAcks()
        }
        end.flush()
      }
      for (const pair of this.pairs) for (const link of pair) moved += link.carry()
      // pongs leave with the microtasks
      await Promise.resolve()
      if (moved === 0 && !this.ends.some((end) => end.isAckDelayed)) return
    }
    throw new Error('the ends never came to rest')
  }
}
