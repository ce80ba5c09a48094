/**
 * The links of one session at one end: which one carries channel frames, planned switches between them, and resume after
 * a loss. A state machine over AttachedLinks; the session's channels are behind LinkSetCore.
 *
 * Only the controller starts a switch or a resume. A switch is the last frame on the old link in each direction; whatever
 * is lost meanwhile makes it a resume.
 */
import { timingSafeEqual } from 'node:crypto'
import { CarrierError, equalBytes, LIMITS } from '../base/index.ts'
import type { Clock, ErrorCode, HostAndPort, KeepaliveMode, Timer } from '../base/index.ts'
import { AttachedLink } from './attached-link.ts'
import type { KeyLimits, LinkOwner } from './attached-link.ts'
import type { FrameDecoder, FrameSink } from './frame-decoder.ts'
import { RESUMED_ENTRIES_PER_FRAME, violation } from './frames.ts'
import type { Frame, PunchAnswer, ResumedEntry } from './frames.ts'
import type { Feature } from './hello.ts'
import type { Link, LinkHandler } from './link.ts'

/** The session's channels, as far as links concern them. */
export interface LinkSetCore extends FrameSink {
  suspend: () => void
  offsets: () => { highestId: number, entries: ResumedEntry[] }
  resume: (peer: { highestId: number, entries: ResumedEntry[] }) => void
  linkChanged: () => void
  noteRoundTrip: (rttMs: number) => void
  /** Nothing is under way. */
  rest: () => void
  readonly inFlightBytes: number
}

/** Features of link frames; all others belong to `resume`. */
const FEATURE_OF: Partial<Record<Frame['type'], Feature>> = { linkAsk: 'direct', linkTicket: 'direct', punch: 'punch', auth: 'auth' }

/** A link that is past its handshake, and the way to take it over. */
export interface LinkSource {
  readonly link: Link
  readonly decoder: FrameDecoder
  /** From now on the link talks to `next`; `onViolation` gets what goes wrong in the rest of the chunk in work. */
  adopt: (next: LinkHandler, onViolation: (err: CarrierError) => void) => void
}

/** What the session is told. Called synchronously. */
export interface LinkSetEvents {
  onBytes: (byteCount: number) => void
  /** `sending` takes messages now. */
  onReady: () => void
  /** A planned switch is complete. */
  onSwitched: (from: AttachedLink, to: AttachedLink) => void
  /** No link carries the session now. The listener may end it. */
  onLost: (err: CarrierError) => void
  onResumed: (link: AttachedLink) => void
  /** Controller: switches are possible again after a resume. */
  onSettled: () => void
  /** A resume came to nothing and there is no other link to try: one that waits in its handshake may be of use. */
  onResumeFailed: () => void
  /** A link that carried nothing is gone. */
  onSpareGone: (link: AttachedLink) => void
  /** The keys of a link have served long enough. */
  onWorn: () => void
  /** A link that was not in use is closed, because we want that. */
  onDropped: (link: AttachedLink) => void
  onViolation: (err: CarrierError) => void
  onGoaway: (code: ErrorCode) => void
  onLinkAsk: () => void
  onLinkTicket: (port: number, ticket: Uint8Array) => void
  /** The controller wants to punch; the answer goes to `link`. */
  onPunchAsk: (link: AttachedLink, round: number, candidates: readonly HostAndPort[]) => void
  onPunchAnswer: (round: number, answer: PunchAnswer) => void
  /** A piece of an auth message, in any state. @throws CarrierError as a violation */
  onAuth: (link: AttachedLink, isLast: boolean, body: Uint8Array) => void
}

/** One session's facts. */
export interface LinkSetInit { isController: boolean, sessionId: Uint8Array, token: Uint8Array, features: ReadonlySet<Feature>, keyLimits?: KeyLimits | undefined }

interface Resuming { link: AttachedLink, epoch: number, highestId: number, entries: ResumedEntry[], timer: Timer }

/** More entries than this cannot be true: channels of both ends, and those that closed a short while ago. */
const MAX_RESUMED_ENTRIES = 2 * LIMITS.sessionChannelCount + 1024

/** A link that gets its number with the resume. */
const UNNUMBERED = 0

/** The state machine. */
export class LinkSet implements LinkOwner {
  readonly channelFrames: FrameSink
  readonly #clock: Clock
  readonly #core: LinkSetCore
  readonly #init: LinkSetInit
  readonly #events: LinkSetEvents
  readonly #links = new Set<AttachedLink>()
  readonly #keepalive: KeepaliveMode | undefined
  readonly #keyLimits: KeyLimits
  #sending: AttachedLink | undefined
  #receiving: AttachedLink | undefined
  /** Controller: the switch frame was sent, the answer is awaited. */
  #switching: { from: AttachedLink, to: AttachedLink, timer: Timer } | undefined
  #resuming: Resuming | undefined
  /** Controller: the session resumed on it, and the other end has not shown yet that it knows. */
  #settling: AttachedLink | undefined
  /** Carried the session when it was lost: frames may still be on their way on them. */
  #tainted = new Set<AttachedLink>()
  /** Numbers are given once: by the controller, for welcomes and resumes alike. The other end sees them in either order. */
  #lastGivenEpoch = 0
  #highestAttached = 0
  #highestResumed = 0
  /** Of the link in use, or of the last one. */
  #usedEpoch = 0
  #state: 'live' | 'lost' | 'ended' = 'lost'

  constructor (components: { clock: Clock, core: LinkSetCore, keepalive?: KeepaliveMode | undefined }, init: LinkSetInit, events: LinkSetEvents) {
    this.#clock = components.clock
    this.#core = components.core
    this.#keepalive = components.keepalive
    this.channelFrames = components.core
    this.#init = init
    const { maxBytes, maxAgeMs } = init.keyLimits ?? { maxBytes: LIMITS.linkKeyBytes, maxAgeMs: LIMITS.linkKeyAgeMs }
    // both ends shorten the time alike, and each session by another part: links that were opened together are not renewed together
    this.#keyLimits = { maxBytes, maxAgeMs: maxAgeMs * (1 - 0.1 * (init.sessionId[0] ?? 0) / 255) }
    this.#events = events
  }

  get state (): 'live' | 'lost' | 'ended' { return this.#state }
  /** The link on which channel frames go out; undefined while there is none. */
  get sending (): AttachedLink | undefined { return this.#state === 'live' ? this.#sending : undefined }
  /** Number of the link in use, or of the last one. */
  get epoch (): number { return this.#usedEpoch }
  get isResuming (): boolean { return this.#resuming !== undefined }
  /** A switch is under way, or a resume of which the other end may not know. */
  get isSwitching (): boolean { return this.#switching !== undefined || this.#settling !== undefined }
  all (): AttachedLink[] { return [...this.#links] }
  readonly isWaiting = (): boolean => this.#core.inFlightBytes > 0 || this.#switching !== undefined || this.#resuming !== undefined

  /** The first link of the session. */
  begin (source: LinkSource, epoch: number): AttachedLink {
    const attached = this.#add(source, epoch)
    this.#highestResumed = epoch
    this.#state = 'live'
    this.#use(attached)
    this.#receiving = attached
    attached.receive('deliver')
    return attached
  }

  /** Controller: the number for one more link; each call gives another one. */
  nextEpoch (): number {
    this.#lastGivenEpoch++
    return this.#lastGivenEpoch
  }

  /** True for the number of a link that may join. */
  isNewLink (epoch: number): boolean {
    return epoch > this.#highestAttached
  }

  /** True for the number of a resume that is not an old one. */
  isNewResume (epoch: number): boolean {
    return epoch > this.#highestResumed
  }

  /** One more link, which both ends know by `epoch`; a lost session resumes on it when its turn comes. @throws CarrierError ERR_PROTOCOL */
  attach (source: LinkSource, epoch: number): AttachedLink {
    if (!this.isNewLink(epoch)) throw violation(`a link with the number ${epoch}, which is not above ${this.#highestAttached}`)
    const attached = this.#add(source, epoch)
    if (this.#state === 'lost') {
      attached.receive('discard')
      // the controller may not have noticed
      if (!this.#init.isController) attached.send({ type: 'lost', epoch: this.#usedEpoch })
      this.#tryResume()
    }
    return attached
  }

  /** Controller: the session shall go on on this fresh link, whatever carries it now. */
  resumeOn (source: LinkSource): void {
    const attached = this.#add(source, UNNUMBERED)
    attached.receive('discard')
    if (this.#state === 'live') this.#lose(new CarrierError('ERR_LINK_LOST', 'the other side lost the link'), attached)
    else this.#tryResume()
  }

  /** Other end: a fresh link on which the controller resumes. @throws CarrierError ERR_PROTOCOL for an old number */
  acceptResume (source: LinkSource, epoch: number): void {
    this.#assertNewEpoch(epoch)
    const attached = this.#add(source, UNNUMBERED)
    attached.receive('discard')
    this.#beginAnswer(attached, epoch)
  }

  /** Controller: moves the session to a link that it has. False when that is not possible now. */
  switchTo (to: AttachedLink): boolean {
    const from = this.#sending
    if (this.#state !== 'live' || from === undefined || this.#switching !== undefined || this.#settling !== undefined || to === from || to.isGone || !this.#links.has(to)) return false
    from.send({ type: 'switch', epoch: to.epoch })
    this.#use(to)
    this.#switching = {
      from,
      to,
      timer: this.#clock.setTimer(() => { this.#cut(from, new CarrierError('ERR_LINK_LOST', 'the other side did not complete the switch to another link')) }, LIMITS.sessionSwitchTimeoutMs)
    }
    this.#core.linkChanged()
    this.#events.onReady()
    return true
  }

  /** Asks every link whether it still lives; what is silent for `patienceMs`, or three of its round trips, is lost. */
  check (patienceMs?: number): void {
    for (const link of [...this.#links]) link.check(patienceMs)
  }

  /** Drops a link that is not in use. */
  async drop (link: AttachedLink): Promise<void> {
    if (link === this.#sending || link === this.#receiving) return
    this.#links.delete(link)
    this.#events.onDropped(link)
    await link.close()
  }

  /** Ends all links; with `code` the other end is told why. Resolves when nothing is left of them. */
  async end (code: number | undefined): Promise<void> {
    this.#state = 'ended'
    this.#switching?.timer.cancel()
    this.#resuming?.timer.cancel()
    this.#switching = undefined
    this.#resuming = undefined
    const links = [...this.#links]
    this.#links.clear()
    this.#sending = undefined
    this.#receiving = undefined
    if (code !== undefined) for (const link of links) link.send({ type: 'goaway', code })
    await Promise.all(links.map(async (link) => { await link.close() }))
  }

  /** True for the id and the token of this session; constant time in the token. */
  isOurs (sessionId: Uint8Array, token: Uint8Array): boolean {
    return equalBytes(sessionId, this.#init.sessionId) && timingSafeEqual(token, this.#init.token)
  }

  // ---- links say

  onQuiet (): void {
    this.#core.rest()
  }

  onBytes (_link: AttachedLink, byteCount: number): void {
    this.#events.onBytes(byteCount)
  }

  onDrain (link: AttachedLink): void {
    if (link === this.sending) this.#events.onReady()
  }

  onWorn (): void {
    if (this.#state !== 'ended') this.#events.onWorn()
  }

  onRoundTrip (link: AttachedLink, rttMs: number): void {
    if (link === this.#sending) this.#core.noteRoundTrip(rttMs)
  }

  onViolation (_link: AttachedLink, err: CarrierError): void {
    if (this.#state !== 'ended') this.#events.onViolation(err)
  }

  onGoaway (link: AttachedLink, code: ErrorCode): void {
    if (this.#state === 'ended') return
    // said in the handshake, before the other end could know that the session resumes on this very link
    if (code === 'ERR_SUPERSEDED' && this.#resuming?.link === link) this.#cut(link, new CarrierError('ERR_LINK_LOST', 'the other side had no use for this link'))
    else this.#events.onGoaway(code)
  }

  onGone (link: AttachedLink, err: CarrierError): void {
    if (!this.#links.delete(link) || this.#state === 'ended') return
    const hasFailed = this.#resuming?.link === link
    if (hasFailed) {
      this.#resuming?.timer.cancel()
      this.#resuming = undefined
    }
    const isInUse = link === this.#sending || link === this.#receiving || link === this.#switching?.to
    if (this.#state === 'live' && isInUse) this.#lose(err)
    else if (this.#state === 'lost') {
      this.#tryResume()
      if (hasFailed && this.#resuming === undefined) this.#events.onResumeFailed()
    } else {
      // what took this one may have taken the link in use
      this.check(LIMITS.sessionBusySilenceMs - LIMITS.sessionBusyPingMs)
      this.#events.onSpareGone(link)
    }
  }

  onLinkFrame (link: AttachedLink, frame: Extract<Frame, { type: 'switch' | 'resume' | 'resumed' | 'lost' | 'linkAsk' | 'linkTicket' | 'punch' | 'auth' }>): void {
    if (this.#state === 'ended') return
    if (!this.#init.features.has(FEATURE_OF[frame.type] ?? 'resume')) throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the peer sent a ${frame.type} frame, a feature that was not agreed on`)
    switch (frame.type) {
      case 'switch': this.#receiveSwitch(link, frame.epoch); return
      case 'resume': this.#receiveResume(link, frame); return
      case 'resumed': this.#receiveResumed(link, frame); return
      case 'lost': this.#receiveLost(link, frame.epoch); return
      case 'linkAsk': this.#events.onLinkAsk(); return
      case 'linkTicket': this.#events.onLinkTicket(frame.port, frame.ticket); return
      case 'punch': this.#receivePunch(link, frame); return
      case 'auth': this.#events.onAuth(link, frame.isLast, frame.body)
    }
  }

  #receivePunch (link: AttachedLink, frame: Extract<Frame, { type: 'punch' }>): void {
    if ((frame.what === 'ask') === this.#init.isController) throw violation('a punch frame in the wrong direction')
    if (frame.what === 'ask') this.#events.onPunchAsk(link, frame.round, frame.candidates)
    else this.#events.onPunchAnswer(frame.round, frame.what === 'answer' ? frame.candidates : frame.what)
  }

  // ---- planned switch

  #receiveSwitch (link: AttachedLink, epoch: number): void {
    // the session was lost on the way: what the frame meant is void
    if (this.#state === 'lost') return
    if (link !== this.#receiving) throw violation('a switch on a link that is not in use')
    if (this.#init.isController) {
      const switching = this.#switching
      if (switching?.to.epoch !== epoch) throw violation('an answer to a switch that was not made')
      switching.timer.cancel()
      this.#switching = undefined
      this.#switchReceiving(link, switching.to)
      return
    }
    if (epoch > Math.max(this.#highestAttached, this.#highestResumed)) throw violation(`a switch to the unknown link ${epoch}`)
    const to = [...this.#links].find((candidate) => candidate.epoch === epoch)
    if (to === undefined) {
      this.#lose(new CarrierError('ERR_LINK_LOST', 'the link to which the session was to move is gone'))
      return
    }
    if (to === link) throw violation('a switch to the link in use')
    link.send({ type: 'switch', epoch })
    this.#use(to)
    this.#core.linkChanged()
    this.#switchReceiving(link, to)
  }

  #switchReceiving (from: AttachedLink, to: AttachedLink): void {
    from.receive('hold')
    this.#receiving = to
    this.#events.onSwitched(from, to)
    to.receive('deliver')
    this.#events.onReady()
  }

  // ---- loss and resume

  /** Nothing carries the session any more; links that are left are of use for a resume only. */
  #lose (err: CarrierError, preferred?: AttachedLink): void {
    this.#state = 'lost'
    for (const link of [this.#sending, this.#receiving, this.#switching?.to]) if (link !== undefined) this.#tainted.add(link)
    this.#switching?.timer.cancel()
    this.#switching = undefined
    this.#settling = undefined
    this.#sending = undefined
    this.#receiving = undefined
    this.#core.suspend()
    for (const link of this.#links) link.receive('discard')
    // what was held may have ended the session
    if (this.#isEnded()) return
    this.#events.onLost(err)
    if (this.#isEnded()) return
    if (!this.#init.isController) this.#best()?.send({ type: 'lost', epoch: this.#usedEpoch })
    this.#tryResume(preferred)
  }

  #tryResume (preferred?: AttachedLink): void {
    if (!this.#init.isController || this.#state !== 'lost' || this.#resuming !== undefined) return
    const link = preferred ?? this.#best()
    if (link === undefined) return
    const epoch = this.nextEpoch()
    this.#highestResumed = epoch
    link.epoch = epoch
    this.#resuming = { link, epoch, highestId: 0, entries: [], timer: this.#resumeTimer(link) }
    link.send({ type: 'resume', sessionId: this.#init.sessionId, token: this.#init.token, epoch })
  }

  #receiveLost (link: AttachedLink, epoch: number): void {
    if (!this.#init.isController) throw violation('a lost frame from the controller')
    const inUse = [this.#sending, this.#receiving, this.#switching?.from]
    if (this.#state === 'live' && inUse.some((one) => one?.epoch === epoch)) this.#lose(new CarrierError('ERR_LINK_LOST', 'the other side lost the link'), link)
  }

  #receiveResume (link: AttachedLink, frame: { sessionId: Uint8Array, token: Uint8Array, epoch: number }): void {
    if (this.#init.isController) throw violation('a resume from the end that does not control the session')
    if (!this.isOurs(frame.sessionId, frame.token)) throw violation('a resume with a wrong token')
    this.#assertNewEpoch(frame.epoch)
    this.#beginAnswer(link, frame.epoch)
  }

  #beginAnswer (link: AttachedLink, epoch: number): void {
    this.#resuming?.timer.cancel()
    this.#resuming = undefined
    this.#highestResumed = epoch
    if (this.#state === 'live') {
      this.#lose(new CarrierError('ERR_LINK_LOST', 'the other side lost the link'))
      if (this.#isEnded()) return
    }
    link.receive('discard')
    link.epoch = epoch
    this.#resuming = { link, epoch, highestId: 0, entries: [], timer: this.#resumeTimer(link) }
    this.#sendResumed(link, epoch)
  }

  #receiveResumed (link: AttachedLink, frame: { isLast: boolean, epoch: number, highestId: number, entries: ResumedEntry[] }): void {
    const resuming = this.#resuming
    // belongs to an attempt that was given up
    if (frame.epoch < this.#highestResumed) return
    if (resuming?.link !== link || frame.epoch !== resuming.epoch) throw violation('an answer to a resume that was not made')
    if (resuming.entries.length + frame.entries.length > MAX_RESUMED_ENTRIES) throw violation('more channels than a session can have')
    resuming.entries.push(...frame.entries)
    resuming.highestId = frame.highestId
    if (!frame.isLast) return
    resuming.timer.cancel()
    this.#resuming = undefined
    if (this.#init.isController) this.#sendResumed(link, resuming.epoch)
    this.#core.resume({ highestId: resuming.highestId, entries: resuming.entries })
    this.#state = 'live'
    this.#use(link)
    this.#receiving = link
    const tainted = this.#tainted
    this.#tainted = new Set()
    for (const other of [...this.#links]) {
      if (other === link) continue
      if (tainted.has(other)) {
        this.#links.delete(other)
        other.abort(new CarrierError('ERR_LINK_LOST', 'another link carries the session'))
      } else other.receive('hold')
    }
    if (this.#init.isController) this.#settle(link)
    this.#events.onResumed(link)
    link.receive('deliver')
    this.#events.onReady()
  }

  /** What came on another link before the other end has read our `resumed` would be void there: no switch until it has answered. */
  #settle (link: AttachedLink): void {
    this.#settling = link
    link.ping().then(() => {
      if (this.#settling !== link) return
      this.#settling = undefined
      this.#events.onSettled()
    }, () => { /* the link is gone, and what follows is another resume */ })
  }

  #sendResumed (link: AttachedLink, epoch: number): void {
    const { highestId, entries } = this.#core.offsets()
    for (let at = 0; at === 0 || at < entries.length; at += RESUMED_ENTRIES_PER_FRAME) {
      const part = entries.slice(at, at + RESUMED_ENTRIES_PER_FRAME)
      link.send({ type: 'resumed', isLast: at + RESUMED_ENTRIES_PER_FRAME >= entries.length, epoch, highestId, entries: part })
    }
  }

  #assertNewEpoch (epoch: number): void {
    if (!this.isNewResume(epoch)) throw violation(`a resume with the number ${epoch}, which is not above ${this.#highestResumed}`)
  }

  #resumeTimer (link: AttachedLink): Timer {
    return this.#clock.setTimer(() => { this.#cut(link, new CarrierError('ERR_LINK_LOST', 'the other side did not answer on this link')) }, LIMITS.sessionResumeTimeoutMs)
  }

  // ---- the set

  #add (source: LinkSource, epoch: number): AttachedLink {
    const attached = new AttachedLink({ clock: this.#clock, owner: this, keepalive: this.#keepalive }, { link: source.link, decoder: source.decoder, epoch, keyLimits: this.#keyLimits })
    source.adopt(attached, (err) => { this.onViolation(attached, err) })
    this.#highestAttached = Math.max(this.#highestAttached, epoch)
    this.#lastGivenEpoch = Math.max(this.#lastGivenEpoch, epoch)
    this.#links.add(attached)
    return attached
  }

  #use (link: AttachedLink): void {
    this.#sending = link
    this.#usedEpoch = link.epoch
  }

  #cut (link: AttachedLink, err: CarrierError): void {
    link.abort(err)
    this.onGone(link, err)
  }

  /** The link that is most likely to work: one that carried nothing when the session was lost, the newest of them. */
  #best (): AttachedLink | undefined {
    const links = [...this.#links]
    return links.findLast((link) => !this.#tainted.has(link)) ?? links.at(-1)
  }

  /** An event may have ended the session. */
  #isEnded (): boolean {
    return (this.#state as string) === 'ended'
  }
}
