/** Everything between this device and one other: at most one session, the links that want to become one, and who waits. */
import { randomBytes } from 'node:crypto'
import { CarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Peer } from '../node/index.ts'
import { OWN_LIMITS, FEATURES, SESSION_MAJOR } from './hello.ts'
import type { Hello, Welcome } from './hello.ts'
import { judgeHello } from './hello-verdict.ts'
import type { SessionView } from './hello-verdict.ts'
import { LinkHandshake } from './link-handshake.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'

/** What a relation needs of the manager. */
export interface PeerRelationComponents {
  clock: Clock
  instanceId: Uint8Array
  /** The next hello number of this process. */
  nextSequence: () => number
  /** Judges the other end's process; false when an older one came back. */
  isNewestInstance: (device: Did, instanceId: Uint8Array) => boolean
  /** Makes room for one more session; undefined when there is some, else why not. `isWanted`: somebody at this end waits for it. */
  admit: (isWanted: boolean) => CarrierError | undefined
  /** Builds the session on the link of `handshake`. */
  begin: (handshake: LinkHandshake, hello: Hello, sessionId: Uint8Array, isController: boolean) => LiveSession
  /** The session is live and known to the relation. */
  onBegun: (session: LiveSession) => void
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
  #creating: LinkHandshake | undefined
  #live: { session: LiveSession, view: NonNullable<SessionView['live']> } | undefined
  #isDialing = false
  /** Why the dial under way is not wanted any more. */
  #dialRefusal: CarrierError | undefined
  #lastSequence = 0

  constructor (components: PeerRelationComponents, init: { device: Did, isController: boolean }) {
    this.#components = components
    this.device = init.device
    this.#isController = init.isController
  }

  get session (): LiveSession | undefined { return this.#live?.session }
  get isDialing (): boolean { return this.#isDialing }

  /** Resolves with the session when there is one; rejects when nothing is left that could make one. */
  async wait (): Promise<LiveSession> {
    if (this.#live !== undefined) return this.#live.session
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
    const refusal = this.#dialRefusal ?? (this.#live === undefined ? undefined : superseded())
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

  /** A link to this device, whoever dialled it. */
  offer (link: Link, peer: Peer): void {
    const handshake = new LinkHandshake(this.#components, { link, peer, isController: this.#isController }, {
      onHello: (from, hello) => { this.#receiveHello(from, hello) },
      onWelcome: (from, welcome) => { this.#receiveWelcome(from, welcome) },
      onConfirm: (from, sequence) => { this.#receiveConfirm(from, sequence) },
      onGone: (from, err) => { this.#handshakeGone(from, err) }
    })
    this.#handshakes.add(handshake)
    this.#lastSequence = this.#components.nextSequence()
    handshake.start({
      major: SESSION_MAJOR,
      features: [...FEATURES],
      limits: OWN_LIMITS,
      instanceId: this.#components.instanceId,
      sequence: this.#lastSequence,
      ...(this.#live === undefined ? {} : { sessionId: this.#live.session.id, epoch: FIRST_EPOCH })
    })
  }

  /** The session ended by itself. */
  sessionClosed (session: LiveSession): void {
    if (this.#live?.session !== session) return
    this.#live = undefined
    this.#components.onIdle(this)
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
    const verdict = judgeHello({ isCreating: this.#creating !== undefined, live: this.#live?.view }, hello)
    if (verdict === 'wait') return
    if (verdict === 'redundant') {
      handshake.refuse(superseded())
      return
    }
    if (!this.#admits(handshake)) return
    this.#creating = handshake
    handshake.sendWelcome({ sessionId: new Uint8Array(randomBytes(16)), token: new Uint8Array(randomBytes(32)), epoch: FIRST_EPOCH })
  }

  #receiveConfirm (handshake: LinkHandshake, sequence: number): void {
    if (this.#creating !== handshake || handshake.welcome === undefined) return
    // others may have taken the place since the welcome
    if (!this.#admits(handshake)) return
    this.#creating = undefined
    this.#begin(handshake, handshake.welcome.sessionId, sequence)
    this.#considerWaiting()
  }

  #considerWaiting (): void {
    if (!this.#isController) return
    for (const handshake of [...this.#handshakes]) {
      if (handshake.hello !== undefined && handshake.isWaiting && handshake !== this.#creating) this.#consider(handshake, handshake.hello)
    }
  }

  // ---- the other end

  #receiveWelcome (handshake: LinkHandshake, welcome: Welcome): void {
    if (!this.#admits(handshake)) return
    handshake.sendConfirm(this.#lastSequence)
    this.#begin(handshake, welcome.sessionId, this.#lastSequence)
    for (const other of [...this.#handshakes]) other.refuse(superseded())
  }

  // ---- both

  /** True when there is room for the session of this link; else the link was refused. A session that replaces one needs none. */
  #admits (handshake: LinkHandshake): boolean {
    const refusal = this.#live === undefined ? this.#components.admit(this.#waiters.size > 0) : undefined
    if (refusal !== undefined) handshake.refuse(refusal)
    return refusal === undefined
  }

  #begin (handshake: LinkHandshake, sessionId: Uint8Array, sequence: number): void {
    const hello = handshake.hello as Hello
    this.#handshakes.delete(handshake)
    const replaced = this.#live?.session
    this.#live = undefined
    if (replaced !== undefined) {
      // its channels fail before the new session is announced; what is left of the old link needs nobody's attention
      replaced.close(new CarrierError('ERR_LINK_LOST', 'the other side lost this session and began a new one')).catch(() => {})
    }
    const session = this.#components.begin(handshake, hello, sessionId, this.#isController)
    handshake.adopt(session)
    this.#live = { session, view: { sessionId, instanceId: hello.instanceId, sequence } }
    for (const waiter of [...this.#waiters]) waiter.resolve(session)
    this.#waiters.clear()
    this.#components.onBegun(session)
  }

  #handshakeGone (handshake: LinkHandshake, err: CarrierError): void {
    this.#handshakes.delete(handshake)
    this.#components.onRefused(err)
    if (this.#creating === handshake) {
      this.#creating = undefined
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

/** Links are numbered; in this release a session has one. */
const FIRST_EPOCH = 1
