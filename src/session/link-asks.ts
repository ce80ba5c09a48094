/** What the two ends of a session ask each other about further links: a ticket to a link port, candidates for a punch. */
import { abortable, CarrierError } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'
import type { AttachedLink } from './attached-link.ts'
import type { PunchAnswer } from './frames.ts'
import type { Feature } from './hello.ts'

/** A ticket to the link port of the other end. */
export interface LinkTicket { port: number, ticket: Uint8Array }

/** What the asking needs of its session. */
export interface LinkAsksInit {
  /** The link on which frames go out; undefined while there is none. */
  sending: () => AttachedLink | undefined
  features: ReadonlySet<Feature>
  /** The other end wants to connect to our link port; undefined when there is none. */
  issueTicket: () => LinkTicket | undefined
}

/** Bytes of a ticket; zeros stand for none. */
const NO_TICKET = new Uint8Array(32)

/** The questions of one session. One of each kind at a time. */
export class LinkAsks {
  readonly #init: LinkAsksInit
  #ticketWaiter: PromiseWithResolvers<LinkTicket> | undefined
  #punchWaiter: { round: number, resolve: (answer: PunchAnswer) => void, reject: (err: CarrierError) => void } | undefined
  #lastPunch = 0
  #isAskAnswered = false

  constructor (init: LinkAsksInit) {
    this.#init = init
  }

  /** Asks for a ticket to the other end's link port; undefined when it has none, or no link to ask on. @throws CarrierError when the link or the session is lost meanwhile */
  async askLink (signal: AbortSignal): Promise<LinkTicket | undefined> {
    const sending = this.#init.sending()
    if (sending === undefined || !this.#init.features.has('direct') || this.#ticketWaiter !== undefined) return undefined
    const waiter = Promise.withResolvers<LinkTicket>()
    this.#ticketWaiter = waiter
    sending.send({ type: 'linkAsk' })
    try {
      const answer = await abortable(waiter.promise, signal)
      return answer.port === 0 ? undefined : answer
    } finally {
      if (this.#ticketWaiter === waiter) this.#ticketWaiter = undefined
    }
  }

  /** Controller: names our candidates for a punch and gets the other end's answer. @throws CarrierError when the link or the session is lost meanwhile */
  async askPunch (candidates: readonly HostAndPort[], signal: AbortSignal): Promise<PunchAnswer> {
    const sending = this.#init.sending()
    if (sending === undefined || !this.#init.features.has('punch') || this.#punchWaiter !== undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'there is no link on which the other side could be asked now')
    const { promise, resolve, reject } = Promise.withResolvers<PunchAnswer>()
    const round = ++this.#lastPunch
    this.#punchWaiter = { round, resolve, reject }
    sending.send({ type: 'punch', what: 'ask', round, candidates: [...candidates] })
    try {
      return await abortable(promise, signal)
    } finally {
      this.#punchWaiter = undefined
    }
  }

  /** The other end asks for a ticket. One costs more than the question: one in a turn of the event loop, and none for who does not read the answers. */
  receiveLinkAsk (): void {
    const sending = this.#init.sending()
    if (sending?.isReady !== true || this.#isAskAnswered) return
    this.#isAskAnswered = true
    setImmediate(() => { this.#isAskAnswered = false })
    const answer = this.#init.issueTicket()
    sending.send({ type: 'linkTicket', port: answer?.port ?? 0, ticket: answer?.ticket ?? NO_TICKET })
  }

  /** A ticket came. */
  receiveTicket (answer: LinkTicket): void {
    this.#ticketWaiter?.resolve(answer)
  }

  /** An answer to a punch came; those of earlier rounds mean nothing. */
  receivePunchAnswer (round: number, answer: PunchAnswer): void {
    if (this.#punchWaiter?.round === round) this.#punchWaiter.resolve(answer)
  }

  /** The link on which was asked is gone: no answer will come. */
  forget (err: CarrierError): void {
    this.#punchWaiter?.reject(err)
    this.#ticketWaiter?.reject(err)
  }
}
