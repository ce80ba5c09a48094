/** The first frames on a link: hello both ways, then welcome and confirm, or resume. */
import { CarrierError, codeFromWire, errorMessage, LIMITS, toCarrierError, wireCode } from '../base/index.ts'
import type { Clock, ErrorCode, Timer } from '../base/index.ts'
import type { Peer } from '../node/index.ts'
import { FrameDecoder } from './frame-decoder.ts'
import type { FrameSink } from './frame-decoder.ts'
import { encodeSessionFrame, violation } from './frames.ts'
import type { Frame } from './frames.ts'
import { decodeHello, decodeWelcome, encodeHello, encodeWelcome, SESSION_MAJOR } from './hello.ts'
import type { Hello, Welcome } from './hello.ts'
import type { Link, LinkHandler } from './link.ts'

/** What the owner of the handshakes with one device decides. Called synchronously. */
export interface HandshakeEvents {
  onHello: (handshake: LinkHandshake, hello: Hello) => void
  onWelcome: (handshake: LinkHandshake, welcome: Welcome) => void
  onConfirm: (handshake: LinkHandshake, sequence: number) => void
  onResume: (handshake: LinkHandshake, resume: { sessionId: Uint8Array, token: Uint8Array, epoch: number }) => void
  /** The link will not become a session. Not called after `adopt`. */
  onGone: (handshake: LinkHandshake, err: CarrierError) => void
}

/** A link from its first byte until it belongs to a session; from then on it only passes on. */
export class LinkHandshake implements LinkHandler, FrameSink {
  readonly link: Link
  readonly peer: Peer
  readonly decoder: FrameDecoder
  hello: Hello | undefined
  readonly #clock: Clock
  readonly #isController: boolean
  readonly #events: HandshakeEvents
  #state: { kind: 'waiting', timer: Timer } | { kind: 'adopted', next: LinkHandler } | { kind: 'gone' } | { kind: 'idle' } = { kind: 'idle' }
  #welcome: Welcome | undefined
  #startedMs = 0
  /** Waits for that of the other end. */
  #ownHello: Hello | undefined
  #onViolation: (err: CarrierError) => void = () => {}

  constructor (components: { clock: Clock }, init: { link: Link, peer: Peer, isController: boolean }, events: HandshakeEvents) {
    this.#clock = components.clock
    this.link = init.link
    this.peer = init.peer
    this.#isController = init.isController
    this.#events = events
    this.decoder = new FrameDecoder(this)
  }

  /** The welcome that was sent on this link. */
  get welcome (): Welcome | undefined { return this.#welcome }
  /** Milliseconds since it began. */
  get ageMs (): number { return this.#clock.monotonicMs() - this.#startedMs }
  get isWaiting (): boolean { return this.#state.kind === 'waiting' }

  /**
   * Opens the link and says hello; the other end does the same at once. On a TLS link the controller, its client, waits for
   * the other hello: it shows that the other end has accepted the client's proof too.
   */
  start (hello: Hello): void {
    this.#startedMs = this.#clock.monotonicMs()
    const timer = this.#clock.setTimer(() => {
      this.#gone(new CarrierError('ERR_TIMEOUT', 'the other side did not complete the session handshake in time'))
    }, LIMITS.sessionHelloTimeoutMs)
    this.#state = { kind: 'waiting', timer }
    this.link.open(this)
    if (this.#isController && this.link.kind !== 'stream') this.#ownHello = hello
    else this.#write({ type: 'hello', body: encodeHello(hello) })
  }

  /** Controller: this link gets a new session, or becomes one more link of the present one. */
  sendWelcome (welcome: Welcome): void {
    this.#welcome = welcome
    this.#write({ type: 'welcome', body: encodeWelcome(welcome) })
  }

  /** Other end: the welcome was taken; `sequence` is that of the newest hello sent to this peer so far. */
  sendConfirm (sequence: number): void {
    this.#write({ type: 'confirm', sequence })
  }

  /** From now on everything goes to `next`; what goes wrong in the rest of the chunk in work goes to `onViolation`. */
  adopt (next: LinkHandler, onViolation: (err: CarrierError) => void): void {
    this.#onViolation = onViolation
    if (this.#state.kind === 'waiting') this.#state.timer.cancel()
    this.#state = { kind: 'adopted', next }
  }

  /** Tells the other end why not, and closes the link. */
  refuse (err: CarrierError): void {
    if (this.#state.kind !== 'waiting') return
    this.#write({ type: 'goaway', code: wireCode(err.code) })
    this.#gone(err, true)
  }

  // ---- the link says

  onBytes (chunk: Uint8Array): void {
    if (this.#state.kind === 'adopted') {
      this.#state.next.onBytes(chunk)
      return
    }
    if (this.#state.kind === 'gone') return
    try {
      this.decoder.push(chunk)
    } catch (err) {
      // a frame may have made the link a session's within this chunk
      const state = this.#state as { kind: string }
      if (state.kind === 'adopted') this.#onViolation(toCarrierError(err))
      else this.refuse(toCarrierError(err))
    }
  }

  onDrain (): void {
    if (this.#state.kind === 'adopted') this.#state.next.onDrain()
  }

  onClosed (err: CarrierError): void {
    if (this.#state.kind === 'adopted') this.#state.next.onClosed(err)
    // a refusal of the session protocol is no loss: the device is there
    else this.#gone(err.code === 'ERR_NOT_AVAILABLE' ? err : new CarrierError('ERR_PEER_OFFLINE', `the link was lost before the session began: ${errorMessage(err)}`, { cause: err }))
  }

  // ---- frames before the session

  onFrame (frame: Frame): void {
    if (this.#state.kind !== 'waiting') return
    if (frame.type === 'goaway') {
      this.#gone(refusal(codeFromWire(frame.code)))
    } else if (frame.type === 'hello' && this.hello === undefined) {
      const hello = decodeHello(frame.body)
      this.hello = hello
      if (this.#ownHello !== undefined) this.#write({ type: 'hello', body: encodeHello(this.#ownHello) })
      if (hello.major !== SESSION_MAJOR) {
        throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the other side speaks version ${hello.major} of the session protocol, this release ${SESSION_MAJOR}; update the older one`)
      }
      this.#events.onHello(this, hello)
    } else if (frame.type === 'welcome' && !this.#isController && this.hello !== undefined) {
      this.#events.onWelcome(this, decodeWelcome(frame.body))
    } else if (frame.type === 'confirm' && this.#welcome !== undefined) {
      this.#events.onConfirm(this, frame.sequence)
    } else if (frame.type === 'resume' && !this.#isController && this.hello !== undefined) {
      this.#events.onResume(this, frame)
    } else {
      throw violation(`a ${frame.type} frame in the handshake`)
    }
  }

  onData (channelId: number): void {
    throw violation(`data of channel ${channelId} before the session began`)
  }

  onDataBytes (): void {}

  #write (frame: Frame): void {
    this.link.write(encodeSessionFrame(frame))
  }

  #gone (err: CarrierError, isFlushed = false): void {
    if (this.#state.kind !== 'waiting') return
    this.#state.timer.cancel()
    this.#state = { kind: 'gone' }
    this.decoder.stop()
    const cut = (): void => { this.link.abort(new CarrierError('ERR_LINK_LOST', err.message, { cause: err })) }
    if (isFlushed) {
      // the goaway may leave first; the other end closes when it has read it
      const timer = this.#clock.setTimer(cut, LIMITS.sessionCloseTimeoutMs)
      this.link.closed.finally(() => { timer.cancel() }).catch(() => { /* `closed` says that it is over, however */ })
      this.link.close().catch(cut)
    } else cut()
    this.#events.onGone(this, err)
  }
}

function refusal (code: ErrorCode): CarrierError {
  return new CarrierError(code, REFUSALS[code] ?? `the other side refused the session (${code})`, { detail: { refusedBy: 'peer' } })
}

const REFUSALS: Partial<Record<ErrorCode, string>> = {
  ERR_SUPERSEDED: 'another link to this device carries the session',
  ERR_LIMIT: 'the other side has as many sessions as it can hold; try again later',
  ERR_UNSUPPORTED_VERSION: 'the other side speaks another version of the session protocol; update the older one',
  ERR_DUPLICATE_IDENTITY: 'the other side saw a newer process with our key: this identity runs twice; stop one of the two'
}
