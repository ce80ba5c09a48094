/**
 * Auth on control channel 0: both ends of a session prove their keys, and show what they are to show, on every link that comes
 * to carry it, and again before what was shown expires. PROTOCOL.md "Auth in a session".
 *
 * The controller begins; one exchange at a time, on the link that is in use when it begins. An exchange lives and dies with its
 * link and with the session's not being lost: what is left of one that was given up is dropped by its number.
 */
import { CarrierError, LIMITS, toCarrierError } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthChannel, SessionProofResult, SessionProver } from '../node/index.ts'
import { AuthInbox, AuthPieces, splitAuthMessage } from './session-auth-messages.ts'
import { readU32, violation } from './frames.ts'
import type { LinkFrame } from './frames.ts'

/** A link, as far as auth needs it. */
export interface AuthLink {
  /** Its number; another one after a resume on it. */
  readonly epoch: number
  send: (frame: LinkFrame) => void
  /** Resolves when the other end has read everything that was sent before. Rejects when the link is gone. */
  ping: () => Promise<unknown>
  /** Whether it lives: when nothing comes for `patienceMs` it is lost. */
  check: (patienceMs: number) => void
}

/** What sessions share. */
export interface SessionAuthComponents { clock: Clock, prover: SessionProver }

/** One session's facts. */
export interface SessionAuthInit { device: Did, sessionId: Uint8Array, isController: boolean }

/** What the session is told. */
export interface SessionAuthEvents {
  /** Both ends are proven on the link that the exchange ran on. */
  onProven: () => void
  /** The other end did not prove itself, or what it showed has expired: the session ends. */
  onFailed: (err: CarrierError) => void
}

interface Exchange { readonly link: AuthLink, readonly epoch: number, readonly number: number, readonly inbox: AuthInbox }

/** A message is to come within `limitMs`, and the last one before `endMs`, monotonic. */
interface Patience { readonly limitMs: number, endMs: number, timer: Timer | undefined }

/** What was read by the other end is answered within so long: a signature, and what goes out before the answer. */
const ANSWER_MS = 10_000
/** A timer that fires so much too late was held up by this process itself. */
const LATE_MS = 1_000
/** The wall clock may jump: expiry is looked at so often. */
const EXPIRY_LOOK_MS = 60_000

/** The state machine of one session. Everything but `receive` never throws. */
export class SessionAuth {
  readonly #clock: Clock
  readonly #prover: SessionProver
  readonly #init: SessionAuthInit
  readonly #events: SessionAuthEvents
  /** The link in use; undefined while there is none. */
  #inUse: AuthLink | undefined
  /** Number under which each link was proven. */
  readonly #proven = new WeakMap<AuthLink, number>()
  readonly #pieces = new WeakMap<AuthLink, AuthPieces>()
  #exchange: Exchange | undefined
  /** Of the newest exchange, and of the newest one that was completed. */
  #number = 0
  #completed = 0
  #lastBeginMs = -Infinity
  /** Exchanges that the controller may begin now, and when that was counted. */
  #allowance = LIMITS.sessionAuthBurstCount
  #allowanceAtMs: number
  #patience: Patience | undefined
  #begin: Timer | undefined
  #expiry: Timer | undefined
  #acceptedUntilMs = Infinity
  #renewAtMs = Infinity
  #isEnded = false

  constructor (components: SessionAuthComponents, init: SessionAuthInit, events: SessionAuthEvents) {
    this.#clock = components.clock
    this.#prover = components.prover
    this.#init = init
    this.#events = events
    this.#allowanceAtMs = this.#clock.monotonicMs()
  }

  /** This link carries the session now. */
  use (link: AuthLink): void {
    if (this.#isEnded) return
    this.#inUse = link
    this.#consider()
  }

  /** No link carries the session. */
  lose (): void {
    this.#inUse = undefined
    this.#giveUp()
    this.#cancelPatience()
    this.#begin?.cancel()
    this.#begin = undefined
  }

  /** A link is gone. */
  forget (link: AuthLink): void {
    if (this.#isEnded || this.#exchange?.link !== link) return
    this.#giveUp()
    this.#consider()
  }

  /** A piece of a message. @throws CarrierError ERR_PROTOCOL, ERR_LIMIT */
  receive (link: AuthLink, isLast: boolean, body: Uint8Array): void {
    let pieces = this.#pieces.get(link)
    if (pieces === undefined) this.#pieces.set(link, pieces = new AuthPieces())
    const message = pieces.add(body, isLast)
    if (message === undefined || this.#isEnded) return
    const number = readU32(message, 0)
    const exchange = this.#exchange
    if (exchange?.number === number && exchange.link === link) {
      this.#renewPatience()
      exchange.inbox.put(message.subarray(4))
      return
    }
    if (number !== 0 && number === this.#completed) throw violation('a further message of an auth exchange that is complete')
    // given up here before the other end could know
    if (number <= this.#number) return
    if (this.#init.isController) throw violation('an auth exchange that nobody began')
    this.#number = number
    this.#allow()
    if (this.#inUse === undefined) return
    this.#giveUp()
    this.#renewPatience()
    this.#run(link).inbox.put(message.subarray(4))
  }

  /** The session has ended. */
  end (): void {
    this.#isEnded = true
    this.lose()
    this.#expiry?.cancel()
  }

  /** Begins what is due, or waits for it. */
  #consider (): void {
    const link = this.#inUse
    if (this.#isEnded || link === undefined) return
    const isProven = this.#isProven(link)
    if (!this.#init.isController) {
      if (isProven) this.#cancelPatience()
      else if (this.#patience === undefined) this.#wait(LIMITS.sessionAuthWaitMs)
      return
    }
    if (this.#exchange !== undefined || (isProven && this.#prover.now() < this.#renewAtMs)) return
    const delayMs = this.#lastBeginMs + LIMITS.sessionAuthIntervalMs - this.#clock.monotonicMs()
    if (delayMs <= 0) {
      this.#number++
      this.#lastBeginMs = this.#clock.monotonicMs()
      this.#run(link)
      this.#wait(LIMITS.sessionAuthTimeoutMs)
    } else {
      this.#begin ??= this.#clock.setTimer(() => {
        this.#begin = undefined
        this.#consider()
      }, delayMs)
    }
  }

  #isProven (link: AuthLink): boolean {
    return this.#proven.get(link) === link.epoch
  }

  /** One exchange of the newest number. */
  #run (link: AuthLink): Exchange {
    const exchange: Exchange = { link, epoch: link.epoch, number: this.#number, inbox: new AuthInbox() }
    this.#exchange = exchange
    const channel: AuthChannel = {
      read: async (maxBytes) => exchange.inbox.next(maxBytes),
      write: (message) => {
        if (this.#exchange !== exchange) return
        for (const [piece, isLast] of splitAuthMessage(exchange.number, message)) link.send({ type: 'auth', isLast, body: piece })
      }
    }
    const { device, isController, sessionId } = this.#init
    this.#prover.prove(channel, { device, isController, sessionId, epoch: exchange.epoch }).then((result) => {
      if (this.#exchange === exchange) this.#complete(exchange, result)
    }, (err: unknown) => {
      if (this.#exchange === exchange) this.#fail(toCarrierError(err))
    })
    return exchange
  }

  #complete (exchange: Exchange, result: SessionProofResult): void {
    this.#exchange = undefined
    this.#completed = exchange.number
    this.#cancelPatience()
    this.#proven.set(exchange.link, exchange.epoch)
    const nowMs = this.#prover.now()
    this.#acceptedUntilMs = result.acceptedUntilSeconds === 0 ? Infinity : result.acceptedUntilSeconds * 1000
    const restMs = result.expiresAtSeconds === 0 ? Infinity : result.expiresAtSeconds * 1000 - nowMs
    // half of what is left when that is little: what is shown again may be what expires
    this.#renewAtMs = nowMs + Math.max(restMs - LIMITS.sessionAuthRenewMs, restMs / 2)
    this.#lookAtExpiry()
    if (this.#isEnded) return
    this.#events.onProven()
    this.#consider()
  }

  #lookAtExpiry (): void {
    this.#expiry?.cancel()
    this.#expiry = undefined
    if (this.#isEnded) return
    const nowMs = this.#prover.now()
    if (nowMs >= this.#acceptedUntilMs) {
      this.#fail(new CarrierError('ERR_REVOKED', 'what the other side showed has expired and was not renewed'))
      return
    }
    if (nowMs >= this.#renewAtMs) this.#consider()
    const nextMs = Math.min(this.#acceptedUntilMs, this.#init.isController && nowMs < this.#renewAtMs ? this.#renewAtMs : Infinity)
    if (nextMs !== Infinity) this.#expiry = this.#clock.setTimer(() => { this.#lookAtExpiry() }, Math.min(EXPIRY_LOOK_MS, nextMs - nowMs))
  }

  /**
   * Fails when no message comes for `limitMs` although the other end has read all of ours: what waits behind bulk on a slow link is
   * no failure, and neither is a dead link, which its watch finds. At the latest after sessionAuthSlowMs in all.
   */
  #wait (limitMs: number): void {
    this.#cancelPatience()
    this.#patience = { limitMs, endMs: this.#clock.monotonicMs() + LIMITS.sessionAuthSlowMs, timer: undefined }
    this.#renewPatience()
  }

  /** Something came, or the link on which was asked is gone. */
  #renewPatience (): void {
    const patience = this.#patience
    if (patience === undefined) return
    this.#plan(patience, patience.limitMs, () => {
      const giveUp = (): void => { this.#fail(new CarrierError('ERR_TIMEOUT', 'the other side did not prove itself in the session in time')) }
      const timer = this.#plan(patience, Infinity, giveUp)
      const isMeant = (): boolean => this.#patience === patience && patience.timer === timer
      const link = this.#exchange?.link ?? this.#inUse
      link?.check(LIMITS.sessionBusySilenceMs)
      link?.ping().then(() => {
        if (isMeant()) this.#plan(patience, ANSWER_MS, giveUp)
      }, () => {
        if (isMeant()) this.#renewPatience()
      })
    })
  }

  /** Runs `next` after `delayMs`, or when the time is over. */
  #plan (patience: Patience, delayMs: number, next: () => void): Timer {
    patience.timer?.cancel()
    const waitMs = Math.max(0, Math.min(delayMs, patience.endMs - this.#clock.monotonicMs()))
    const dueMs = this.#clock.monotonicMs() + waitMs
    const timer = this.#clock.setTimer(() => {
      const lateMs = this.#clock.monotonicMs() - dueMs
      // this process slept: what came meanwhile is still to be read
      if (lateMs > LATE_MS) {
        patience.endMs += lateMs
        this.#renewPatience()
      } else next()
    }, waitMs)
    patience.timer = timer
    return timer
  }

  #cancelPatience (): void {
    this.#patience?.timer?.cancel()
    this.#patience = undefined
  }

  #giveUp (): void {
    const exchange = this.#exchange
    if (exchange === undefined) return
    this.#exchange = undefined
    if (this.#init.isController) this.#cancelPatience()
    exchange.inbox.fail(new CarrierError('ERR_LINK_LOST', 'the link on which auth ran is not in use any more'))
  }

  #fail (err: CarrierError): void {
    if (this.#isEnded) return
    this.end()
    this.#events.onFailed(err)
  }

  /** An exchange costs signatures: the controller may begin only so many; twice as many as it will, whose clock need not run like ours. @throws CarrierError ERR_LIMIT */
  #allow (): void {
    const nowMs = this.#clock.monotonicMs()
    this.#allowance = Math.min(LIMITS.sessionAuthBurstCount, this.#allowance + 2 * (nowMs - this.#allowanceAtMs) / LIMITS.sessionAuthIntervalMs)
    this.#allowanceAtMs = nowMs
    if (this.#allowance < 1) throw new CarrierError('ERR_LIMIT', 'the other side begins auth in the session too often')
    this.#allowance--
  }
}
