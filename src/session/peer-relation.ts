/** Everything between this device and one other: at most one session, the links that want to become one, and who waits. */
import { randomBytes } from 'node:crypto'
import { CarrierError, equalBytes, LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Peer } from '../node/index.ts'
import { OWN_LIMITS, SESSION_MAJOR } from './hello.ts'
import type { Feature, Hello, Welcome } from './hello.ts'
import { violation } from './frames.ts'
import { judgeHello } from './hello-verdict.ts'
import type { SessionView } from './hello-verdict.ts'
import { isSecondLink, servesOn } from './link-choice.ts'
import { LinkHandshake } from './link-handshake.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'

/** What a relation needs of the manager. */
export interface PeerRelationComponents {
  clock: Clock
  instanceId: Uint8Array
  /** What this end names in its hellos. */
  features: readonly Feature[]
  /** The next hello number of this process. */
  nextSequence: () => number
  /** Judges the other end's process; false when an older one came back. */
  isNewestInstance: (device: Did, instanceId: Uint8Array) => boolean
  /** Makes room for one more session; undefined when there is some, else why not. `isWanted`: somebody at this end waits for it. */
  admit: (isWanted: boolean) => CarrierError | undefined
  /** Builds the session on the link of `handshake`. */
  begin: (handshake: LinkHandshake, hello: Hello, welcome: Welcome, isController: boolean) => LiveSession
  /** The session is live and known to the relation. */
  onBegun: (session: LiveSession) => void
  /** One more link belongs to the session. */
  onAttached: (session: LiveSession, link: Link) => void
  onRefused: (err: CarrierError) => void
  /** Nothing is left to keep. */
  onIdle: (relation: PeerRelation) => void
}

interface Waiter { resolve: (session: LiveSession) => void, reject: (err: CarrierError) => void }

/** One per device. */
export class PeerRelation {
  readonly device: Did
  readonly #components: PeerRelationComponents
  readonly #isController: boolean
  readonly #handshakes = new Set<LinkHandshake>()
  readonly #waiters = new Set<Waiter>()
  /** Controller: a welcome was sent on it. */
  #busy: LinkHandshake | undefined
  #live: { session: LiveSession, instanceId: Uint8Array, sequence: number } | undefined
  #isDialing = false
  /** Why the dial under way is not wanted any more. */
  #dialRefusal: CarrierError | undefined
  #lastSequence = 0
  /** Links that this end wants as further ones of the session. */
  readonly #wanted = new WeakSet<Link>()

  constructor (components: PeerRelationComponents, init: { device: Did, isController: boolean }) {
    this.#components = components
    this.device = init.device
    this.#isController = init.isController
  }

  get session (): LiveSession | undefined { return this.#live?.session }
  /** A stream is being dialled, or one is in its handshake and may still become a link: another one would be one too many. */
  get isOpening (): boolean {
    return this.#isDialing || [...this.#handshakes].some((handshake) => handshake.link.kind === 'stream' && handshake.ageMs < LIMITS.sessionResumeTimeoutMs)
  }

  /** Splice and direct links that have not joined the session. */
  get openingLinkCount (): number {
    return [...this.#handshakes].filter((handshake) => handshake.link.kind !== 'stream').length
  }

  /** Resolves with the session when a link carries it; rejects when nothing is left that could make one. */
  async wait (): Promise<LiveSession> {
    if (this.#live?.session.state === 'live') return this.#live.session
    const { promise, resolve, reject } = Promise.withResolvers<LiveSession>()
    this.#waiters.add({ resolve, reject })
    return promise
  }

  /** A dial begins; `dialed` or `dialFailed` ends it. */
  dialing (): void {
    this.#isDialing = true
    this.#dialRefusal = undefined
  }

  dialed (link: Link, peer: Peer): void {
    this.#isDialing = false
    const refusal = this.#dialRefusal ?? (this.#isWanted(link) ? undefined : superseded())
    if (refusal === undefined) {
      this.offer(link, peer)
    } else {
      link.abort(refusal)
      this.#giveUpIfNothingIsLeft(refusal)
    }
  }

  dialFailed (err: CarrierError): void {
    this.#isDialing = false
    this.#giveUpIfNothingIsLeft(err)
  }

  /** A link to this device, whoever dialled it. `isWanted`: this end opened it as one more link of its session. */
  offer (link: Link, peer: Peer, isWanted = false): void {
    if (isWanted) this.#wanted.add(link)
    const handshake = new LinkHandshake(this.#components, { link, peer, isController: this.#isController }, {
      onHello: (from, hello) => { this.#receiveHello(from, hello) },
      onWelcome: (from, welcome) => { this.#receiveWelcome(from, welcome) },
      onConfirm: (from, sequence) => { this.#receiveConfirm(from, sequence) },
      onResume: (from, resume) => { this.#receiveResume(from, resume) },
      onGone: (from, err) => { this.#handshakeGone(from, err) }
    })
    this.#handshakes.add(handshake)
    this.#lastSequence = this.#components.nextSequence()
    handshake.start({
      major: SESSION_MAJOR,
      features: [...this.#components.features],
      limits: OWN_LIMITS,
      instanceId: this.#components.instanceId,
      sequence: this.#lastSequence,
      ...this.#sessionInHello()
    })
  }

  /** The session has a link again. */
  sessionResumed (session: LiveSession): void {
    if (this.#live?.session !== session) return
    this.#resolveWaiters(session)
    this.#considerWaiting()
    if (!this.#isController) this.#refuseSpare()
  }

  #sessionInHello (): Pick<Hello, 'sessionId' | 'epoch' | 'isLost'> {
    const session = this.#live?.session
    if (session === undefined) return {}
    return { sessionId: session.id, epoch: Math.max(1, session.links.epoch), ...(session.state === 'resuming' ? { isLost: true } : {}) }
  }

  /** A session that has a link of this kind has no use for a second one. */
  #isWanted (link: Link): boolean {
    const session = this.#live?.session
    if (session === undefined || session.state === 'resuming') return true
    return session.features.has('resume') && !session.links.all().some((other) => other.link.kind === link.kind)
  }

  /** The session ended by itself. */
  sessionClosed (session: LiveSession, err: CarrierError): void {
    if (this.#live?.session !== session) return
    this.#live = undefined
    this.#considerWaiting()
    this.#giveUpIfNothingIsLeft(err)
  }

  /** The session has no link and none to try. */
  resumeFailed (): void {
    this.#considerWaiting()
  }

  /** Ends what is there; those who wait get `err`. */
  async close (err: CarrierError): Promise<void> {
    if (this.#isDialing) this.#dialRefusal = err
    for (const handshake of [...this.#handshakes]) handshake.refuse(err)
    for (const waiter of [...this.#waiters]) waiter.reject(err)
    this.#waiters.clear()
    await this.#live?.session.close(err)
  }

  get isIdle (): boolean {
    return this.#live === undefined && this.#handshakes.size === 0 && this.#waiters.size === 0 && !this.#isDialing
  }

  // ---- controller

  #receiveHello (handshake: LinkHandshake, hello: Hello): void {
    if (!this.#components.isNewestInstance(this.device, hello.instanceId)) {
      handshake.refuse(new CarrierError('ERR_DUPLICATE_IDENTITY', 'two processes run with the key of this device; the older one is refused'))
    } else if (this.#isController) this.#consider(handshake, hello)
  }

  #consider (handshake: LinkHandshake, hello: Hello): void {
    const session = this.#live?.session
    switch (judgeHello(this.#view(handshake.link), hello, handshake.link.kind)) {
      case 'wait': return
      case 'redundant': handshake.refuse(superseded()); return
      case 'create':
        if (!this.#admits(handshake)) return
        this.#busy = handshake
        handshake.sendWelcome({ sessionId: new Uint8Array(randomBytes(16)), token: new Uint8Array(randomBytes(32)), epoch: FIRST_EPOCH })
        return
      case 'attach':
        if (session === undefined || session.links.all().length >= LIMITS.sessionLinkCount) {
          handshake.refuse(superseded())
          return
        }
        this.#busy = handshake
        handshake.sendWelcome({ sessionId: session.id, token: session.token, epoch: session.links.nextEpoch() })
        return
      case 'resume':
        if (session !== undefined) this.#join(handshake, session, () => { session.links.resumeOn(handshake) })
    }
  }

  #view (link: Link): SessionView {
    const live = this.#live
    if (live === undefined) return { isBusy: this.#busy !== undefined, live: undefined }
    const { links } = live.session
    return {
      isBusy: this.#busy !== undefined || links.isResuming,
      live: {
        sessionId: live.session.id,
        instanceId: live.instanceId,
        sequence: live.sequence,
        isLost: live.session.state === 'resuming',
        epoch: links.epoch,
        canResume: live.session.features.has('resume'),
        kinds: new Set(links.all().filter(servesOn).map((attached) => attached.link.kind).filter((kind) => kind !== link.kind || !this.#isOneMore(live.session, link)))
      }
    }
  }

  /** Two of a kind are of use when they run over different relays, and somebody wants that. */
  #isOneMore (session: LiveSession, link: Link): boolean {
    return (this.#wanted.has(link) || (link.kind === 'stream' && session.isInUse)) && !isSecondLink(session.links.all(), link)
  }

  #receiveConfirm (handshake: LinkHandshake, sequence: number): void {
    const { welcome } = handshake
    if (this.#busy !== handshake || welcome === undefined) return
    this.#busy = undefined
    const session = this.#live?.session
    if (session !== undefined && equalBytes(session.id, welcome.sessionId)) {
      this.#join(handshake, session, () => { session.links.attach(handshake, welcome.epoch) })
    } else if (welcome.epoch !== FIRST_EPOCH) {
      // the session of which it was to be a link has ended
      handshake.refuse(superseded())
    } else if (this.#admits(handshake)) {
      // others may have taken the place since the welcome
      this.#begin(handshake, welcome, sequence)
    }
    this.#considerWaiting()
  }

  #considerWaiting (): void {
    if (!this.#isController) return
    for (const handshake of [...this.#handshakes]) {
      if (handshake.hello !== undefined && handshake.isWaiting && handshake !== this.#busy) this.#consider(handshake, handshake.hello)
    }
  }

  // ---- the other end

  #receiveWelcome (handshake: LinkHandshake, welcome: Welcome): void {
    const session = this.#live?.session
    if (session !== undefined && equalBytes(session.id, welcome.sessionId)) {
      if (!session.links.isOurs(welcome.sessionId, welcome.token) || !session.links.isNewLink(welcome.epoch)) {
        throw violation('a welcome with a wrong token or an old number')
      }
      handshake.sendConfirm(this.#lastSequence)
      this.#join(handshake, session, () => { session.links.attach(handshake, welcome.epoch) })
      return
    }
    if (welcome.epoch !== FIRST_EPOCH) {
      handshake.refuse(superseded())
      return
    }
    if (!this.#admits(handshake)) return
    handshake.sendConfirm(this.#lastSequence)
    this.#begin(handshake, welcome, this.#lastSequence)
    this.#refuseSpare()
  }

  #receiveResume (handshake: LinkHandshake, frame: { sessionId: Uint8Array, token: Uint8Array, epoch: number }): void {
    const session = this.#live?.session
    if (session?.features.has('resume') !== true || !equalBytes(session.id, frame.sessionId)) {
      handshake.refuse(new CarrierError('ERR_LINK_LOST', 'there is no such session any more'))
      return
    }
    if (!session.links.isOurs(frame.sessionId, frame.token) || !session.links.isNewResume(frame.epoch)) {
      throw violation('a resume with a wrong token or an old number')
    }
    this.#join(handshake, session, () => { session.links.acceptResume(handshake, frame.epoch) })
  }

  /** Further stream links are of no use to the session that there is now. */
  #refuseSpare (): void {
    for (const other of [...this.#handshakes]) if (!this.#isWanted(other.link)) other.refuse(superseded())
  }

  // ---- both

  /** True when there is room for the session of this link; else the link was refused. A session that replaces one needs none. */
  #admits (handshake: LinkHandshake): boolean {
    const refusal = this.#live === undefined ? this.#components.admit(this.#waiters.size > 0) : undefined
    if (refusal !== undefined) handshake.refuse(refusal)
    return refusal === undefined
  }

  #begin (handshake: LinkHandshake, welcome: Welcome, sequence: number): void {
    const hello = handshake.hello as Hello
    this.#handshakes.delete(handshake)
    const replaced = this.#live?.session
    this.#live = undefined
    if (replaced !== undefined) {
      // its channels fail before the new session is announced; what is left of the old links needs nobody's attention
      replaced.close(new CarrierError('ERR_LINK_LOST', 'the other side lost this session and began a new one')).catch(() => {})
    }
    const session = this.#components.begin(handshake, hello, welcome, this.#isController)
    this.#live = { session, instanceId: hello.instanceId, sequence }
    this.#resolveWaiters(session)
    this.#components.onBegun(session)
  }

  /** The link of `handshake` becomes one of the session's. */
  #join (handshake: LinkHandshake, session: LiveSession, attach: () => void): void {
    this.#handshakes.delete(handshake)
    attach()
    this.#components.onAttached(session, handshake.link)
  }

  #resolveWaiters (session: LiveSession): void {
    for (const waiter of [...this.#waiters]) waiter.resolve(session)
    this.#waiters.clear()
  }

  #handshakeGone (handshake: LinkHandshake, err: CarrierError): void {
    this.#handshakes.delete(handshake)
    this.#components.onRefused(err)
    if (this.#busy === handshake) {
      this.#busy = undefined
      this.#considerWaiting()
    }
    this.#giveUpIfNothingIsLeft(err)
  }

  #giveUpIfNothingIsLeft (err: CarrierError): void {
    if (this.#live === undefined && !this.#isDialing && this.#handshakes.size === 0) {
      for (const waiter of [...this.#waiters]) waiter.reject(err)
      this.#waiters.clear()
    }
    this.#components.onIdle(this)
  }
}

function superseded (): CarrierError {
  return new CarrierError('ERR_SUPERSEDED', 'another link to this device carries the session')
}

/** The number of a new session's first link. */
const FIRST_EPOCH = 1
