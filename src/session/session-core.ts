/**
 * One session without its link: frames in, frames out, nothing else. No clock, no I/O, no promises; the edge is live-session.ts.
 * Everything a peer may send is judged here; what it may not send throws ERR_PROTOCOL out of the frame callbacks.
 */
import { CarrierError, codeFromWire, LIMITS, wireCode } from '../base/index.ts'
import type { ErrorCode } from '../base/index.ts'
import { AckSchedule } from './ack-schedule.ts'
import { ChannelCore } from './channel-core.ts'
import { CreditLedger } from './credit-ledger.ts'
import type { CreditPool } from './credit-pool.ts'
import { FrameWriter } from './frame-writer.ts'
import { CHANNEL_KIND, violation } from './frames.ts'
import type { Frame } from './frames.ts'
import type { FrameSink } from './frame-decoder.ts'
import type { WireLimits } from './hello.ts'
import { LocalOpens } from './local-opens.ts'
import { ReceiveHalf } from './receive-half.ts'
import { SendHalf } from './send-half.ts'

/** What the edge is told. Called synchronously; must not throw. */
export interface SessionCoreEvents {
  /** `produce` has something to give. Called once until the next `produce`. */
  onWake: () => void
  /** Acknowledgements are due; `produce` within this turn of the event loop, so that one frame answers all that came in it. */
  onAckDue: () => void
  /** Acknowledgements wait; call `flushAcks` within LIMITS.sessionAckDelayMs. Called once until then. */
  onAckDelayed: () => void
  /** An inbound channel; the edge sets a listener or calls `reset`, and `settle` when its handler is done. */
  onOpen: (channel: ChannelCore, message: Uint8Array) => void
  onPong: (sequence: number) => void
  /** The peer ends the session. */
  onGoaway: (code: ErrorCode) => void
}

/** The state machine of one session at one end. */
export class SessionCore implements FrameSink {
  readonly #isController: boolean
  readonly #peerLimits: WireLimits
  readonly #events: SessionCoreEvents
  readonly #credit: CreditLedger
  readonly #writer: FrameWriter
  readonly #opens: LocalOpens
  readonly #acks: AckSchedule
  readonly #sending: SendHalf
  readonly #receiving: ReceiveHalf
  /** Open channels by number; those whose open frame has not left are in `#opens` only. */
  readonly #channels = new Map<number, ChannelCore>()
  #state: 'live' | 'ended' = 'live'
  #highestRemoteId = 0
  #resets: Array<{ channelId: number, code: number }> = []
  #pongDue: number | undefined
  #pingDue: number | undefined
  #lastPing = 0
  #goawayDue: number | undefined
  #isAwake = false

  constructor (init: { isController: boolean, limits: WireLimits, peerLimits: WireLimits, pool: CreditPool }, events: SessionCoreEvents) {
    const onWork = (): void => { this.#wake() }
    this.#isController = init.isController
    this.#peerLimits = init.peerLimits
    this.#events = events
    this.#credit = new CreditLedger(init.limits, init.pool)
    this.#writer = new FrameWriter()
    this.#opens = new LocalOpens({ isController: init.isController, limitCount: init.peerLimits.channelCount })
    this.#acks = new AckSchedule({ onDue: events.onAckDue, onDelayed: events.onAckDelayed })
    this.#sending = new SendHalf({ framePayloadBytes: init.peerLimits.framePayloadBytes, onWork })
    this.#receiving = new ReceiveHalf({
      credit: this.#credit,
      acks: this.#acks,
      channelCount: () => this.#channels.size,
      onEnded: (channel) => { this.#closeIfDone(channel) }
    })
  }

  get channelCount (): number {
    return this.#channels.size + this.#opens.waitingCount
  }

  /** Sent and not acknowledged. */
  get inFlightBytes (): number {
    return this.#sending.inFlightBytes
  }

  /** Credit that is promised or reserved; never above the session's budget. */
  get creditBytes (): number {
    return this.#credit.usedBytes
  }

  // ---- what the owner of this end asks for

  /** Opens a channel; bytes may be sent at once. @throws CarrierError ERR_CLOSED, ERR_LIMIT, ERR_INVALID_ARGUMENT */
  open (kind: string, message: Uint8Array): ChannelCore {
    if (this.#state === 'ended') throw new CarrierError('ERR_CLOSED', 'the session has ended; open a new one')
    if (!CHANNEL_KIND.test(kind)) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${kind}" is not a channel kind: use a-z, 0-9, ".", "/", "-", at most ${LIMITS.channelKindBytes} characters`)
    const maxMessageBytes = Math.min(LIMITS.sessionOpenMessageBytes, this.#peerLimits.openMessageBytes)
    if (message.length > maxMessageBytes) throw new CarrierError('ERR_INVALID_ARGUMENT', `the opening message has ${message.length} bytes, the limit is ${maxMessageBytes}`)
    this.#opens.assertRoom()
    if (!this.#credit.reserveLocal()) throw new CarrierError('ERR_LIMIT', 'the memory for channels is used up; close some first')
    const channel = new ChannelCore({
      id: 0,
      kind,
      isLocal: true,
      sendLimitBytes: this.#peerLimits.channelCreditBytes,
      grantedBytes: this.#credit.initialBytes,
      openMessage: new Uint8Array(message)
    })
    this.#opens.add(channel)
    this.#wake()
    return channel
  }

  /** The handler of an inbound channel is done with deciding. */
  settle (channel: ChannelCore): void {
    if (channel.isSettled) return
    channel.isSettled = true
    if (channel.isClosed) this.#freePlace(channel)
  }

  /** Queues bytes, which must not change until `onSent`. */
  send (channel: ChannelCore, chunks: readonly Uint8Array[]): void {
    if (channel.isClosed || channel.sendState !== 'open') return
    this.#sending.add(channel, chunks)
  }

  /** Ends our direction behind what is queued. */
  finish (channel: ChannelCore): void {
    if (channel.isClosed || channel.sendState !== 'open') return
    channel.sendState = 'ending'
    this.#sending.ready(channel)
  }

  /** Asks for the next bytes or the end; the answer comes once, now or later. Says that the previous answer is consumed. */
  read (channel: ChannelCore): void {
    this.#receiving.read(channel)
  }

  /** Ends both directions at once and tells the peer why. */
  reset (channel: ChannelCore, err: CarrierError): void {
    if (channel.isClosed) return
    // complete but for our last ack, which is on its way: the other side shall see its clean end
    if (channel.sendState === 'fin-acked' && channel.receiveState === 'ended') return
    if (channel.openMessage === undefined) this.#resets.push({ channelId: channel.id, code: wireCode(err.code) })
    this.#close(channel, err)
    this.#wake()
  }

  /** Asks for a pong; the result is the sequence number that `onPong` will reach. */
  ping (): number {
    this.#lastPing++
    this.#pingDue = this.#lastPing
    this.#wake()
    return this.#lastPing
  }

  /** All delayed acknowledgements are due now. */
  flushAcks (): void {
    this.#acks.flush()
  }

  /** Fails every channel with `err`. With `isTold` the peer gets a goaway as the last frame; else nothing more is produced. Idempotent. */
  end (err: CarrierError, isTold: boolean): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    for (const channel of [...this.#channels.values(), ...this.#opens.waiting()]) this.#close(channel, err)
    this.#credit.close()
    if (isTold) {
      this.#goawayDue = wireCode(err.code)
      this.#wake()
    }
  }

  // ---- what goes out

  /** Appends frames of about `maxBytes` to `out` and returns their exact size; 0 when there is nothing to send. */
  produce (out: Uint8Array[], maxBytes: number): number {
    this.#isAwake = false
    const writer = this.#writer
    writer.begin(out)
    if (this.#goawayDue !== undefined) {
      writer.frame({ type: 'goaway', code: this.#goawayDue })
      this.#goawayDue = undefined
      return writer.byteCount
    }
    if (this.#state === 'ended') return 0
    this.#produceControl(maxBytes)
    this.#sending.produce(writer, maxBytes)
    // they ride along with what is sent anyway
    if (writer.byteCount > 0) for (const channel of this.#acks.takeDelayed()) this.#produceAck(channel)
    return writer.byteCount
  }

  /** Tells the writers whose bytes have all left; they may send more at once. Call after `produce`. */
  notifySent (): void {
    this.#sending.notifySent()
  }

  // ---- what comes in

  onFrame (frame: Frame): void {
    if (this.#state === 'ended') return
    switch (frame.type) {
      case 'open': this.#receiveOpen(frame.channelId, frame.kind, frame.message); return
      case 'ack': this.#receiveAck(frame); return
      case 'fin': this.#receiveFin(frame.channelId, frame.finalBytes); return
      case 'reset': this.#receiveReset(frame.channelId, frame.code); return
      case 'ping':
        this.#pongDue = frame.sequence
        this.#wake()
        return
      case 'pong':
        if (frame.sequence > this.#lastPing) throw violation('a pong to a ping that was not sent')
        this.#events.onPong(frame.sequence)
        return
      case 'openCredit':
        this.#opens.raiseLimit(frame.channelCount)
        if (this.#opens.waitingCount > 0) this.#wake()
        return
      case 'goaway': this.#events.onGoaway(codeFromWire(frame.code)); return
      case 'hello': case 'welcome': case 'confirm': throw violation(`a ${frame.type} frame in a live session`)
      case 'auth': case 'switch': case 'resume': case 'resumed': case 'datagram':
        throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the peer sent a ${frame.type} frame, a feature that was not agreed on`)
    }
  }

  onData (channelId: number, offsetBytes: number, payloadBytes: number): void {
    this.#receiving.begin(this.#state === 'live' ? this.#find(channelId) : undefined, offsetBytes, payloadBytes)
  }

  onDataBytes (bytes: Uint8Array): void {
    this.#receiving.take(bytes)
  }

  #receiveOpen (id: number, kind: string, message: Uint8Array): void {
    if (this.#isLocalId(id)) throw violation(`channel ${id} has a number of our own`)
    if (id <= this.#highestRemoteId) throw violation(`channel ${id} was opened before`)
    const ordinal = Math.ceil(id / 2)
    if (ordinal > this.#credit.openLimitCount) throw violation(`channel ${id} is beyond the open credit`)
    this.#highestRemoteId = id
    this.#credit.noteOpened(ordinal)
    const channel = new ChannelCore({ id, kind, isLocal: false, sendLimitBytes: this.#peerLimits.channelCreditBytes, grantedBytes: this.#credit.initialBytes })
    this.#channels.set(id, channel)
    if (this.#credit.isOpenCreditDue) this.#wake()
    this.#events.onOpen(channel, message)
  }

  #receiveAck (frame: Extract<Frame, { type: 'ack' }>): void {
    const channel = this.#find(frame.channelId)
    if (channel === undefined) return
    if (frame.receivedBytes > channel.sentBytes) throw violation(`an ack of channel ${channel.id} beyond what was sent`)
    if (frame.limitBytes > frame.receivedBytes + LIMITS.channelMaxCreditBytes) throw violation(`credit of channel ${channel.id} beyond the maximum`)
    if (frame.isFinReceived) {
      const isPossible = channel.sendState === 'fin-acked' || (channel.sendState === 'fin-sent' && frame.receivedBytes === channel.sentBytes)
      if (!isPossible) throw violation(`an ack for a fin of channel ${channel.id} that was not sent`)
    }
    this.#sending.noteAcked(channel, frame.receivedBytes)
    if (frame.limitBytes > channel.sendLimitBytes) {
      channel.sendLimitBytes = frame.limitBytes
      if (channel.sendableBytes > 0) this.#sending.ready(channel)
    }
    if (frame.isFinReceived && channel.sendState === 'fin-sent') {
      channel.sendState = 'fin-acked'
      channel.listener?.onFinished()
      this.#closeIfDone(channel)
    }
  }

  #receiveFin (id: number, finalBytes: number): void {
    const channel = this.#find(id)
    if (channel !== undefined) this.#receiving.finish(channel, finalBytes)
  }

  #receiveReset (id: number, code: number): void {
    const channel = this.#find(id)
    if (channel === undefined) return
    this.#close(channel, peerReset(codeFromWire(code)))
  }

  /** The open channel of this id, undefined when it is closed already. @throws CarrierError ERR_PROTOCOL when it never was open */
  #find (id: number): ChannelCore | undefined {
    const channel = this.#channels.get(id)
    const highestId = this.#isLocalId(id) ? this.#opens.highestId : this.#highestRemoteId
    if (id > highestId) throw violation(`a frame for channel ${id}, which was never opened`)
    return channel
  }

  #isLocalId (id: number): boolean {
    return (id % 2 === 0) === this.#isController
  }

  // ---- producing

  #produceControl (maxBytes: number): void {
    const writer = this.#writer
    if (this.#pongDue !== undefined) {
      writer.frame({ type: 'pong', sequence: this.#pongDue })
      this.#pongDue = undefined
    }
    if (this.#pingDue !== undefined) {
      writer.frame({ type: 'ping', sequence: this.#pingDue })
      this.#pingDue = undefined
    }
    if (this.#credit.isOpenCreditDue) writer.frame({ type: 'openCredit', channelCount: this.#credit.raiseOpenLimit() })
    for (const reset of this.#resets) writer.frame({ type: 'reset', ...reset })
    this.#resets = []
    for (const channel of this.#acks.takeDue()) this.#produceAck(channel)
    while (writer.byteCount < maxBytes) {
      const channel = this.#opens.take()
      if (channel === undefined) break
      this.#channels.set(channel.id, channel)
      writer.frame({ type: 'open', channelId: channel.id, kind: channel.kind, message: channel.openMessage ?? new Uint8Array(0) })
      channel.openMessage = undefined
      if (channel.sendableBytes > 0 || channel.isFinDue) this.#sending.ready(channel)
    }
  }

  #produceAck (channel: ChannelCore): void {
    if (channel.isClosed || channel.ackState === 'clean') return
    channel.ackState = 'clean'
    channel.ackToldBytes = channel.receivedBytes
    this.#writer.frame({
      type: 'ack',
      channelId: channel.id,
      receivedBytes: channel.receivedBytes,
      limitBytes: channel.grantedBytes,
      isFinReceived: channel.receiveState !== 'open'
    })
    this.#closeIfDone(channel)
  }

  #wake (): void {
    if (this.#isAwake) return
    this.#isAwake = true
    this.#events.onWake()
  }

  // ---- closing

  #closeIfDone (channel: ChannelCore): void {
    if (channel.sendState === 'fin-acked' && channel.receiveState === 'ended' && channel.ackState === 'clean') this.#close(channel, undefined)
  }

  #close (channel: ChannelCore, err: CarrierError | undefined): void {
    if (channel.isClosed) return
    channel.isClosed = true
    channel.error = err
    this.#channels.delete(channel.id)
    if (channel.isLocal) this.#opens.remove(channel)
    this.#sending.drop(channel)
    channel.receiveQueue.clear()
    this.#credit.release(channel)
    if (channel.isSettled) this.#freePlace(channel)
    if (err !== undefined) channel.listener?.onFailed(err)
  }

  #freePlace (channel: ChannelCore): void {
    if (channel.isLocal) {
      this.#credit.releaseLocal()
      return
    }
    this.#credit.noteFreed()
    if (this.#credit.isOpenCreditDue && this.#state === 'live') this.#wake()
  }
}

function peerReset (code: ErrorCode): CarrierError {
  return new CarrierError(code, RESET_REASONS[code] ?? `the other side reset the channel (${code})`)
}

const RESET_REASONS: Partial<Record<ErrorCode, string>> = {
  ERR_NOT_AVAILABLE: 'not offered to you, or not there',
  ERR_TARGET_UNREACHABLE: 'the other side could not reach the target of this service',
  ERR_RESET: 'the other side reset the channel',
  ERR_REVOKED: 'the other side withdrew the permission for this',
  ERR_LIMIT: 'the other side has reached a limit; try again later'
}
