/**
 * One session without its links: channel frames in, messages of channel frames out, nothing else. No clock but the one it
 * is given, no I/O, no promises; the edge is live-session.ts. It outlives its links: what is not acknowledged is kept and
 * sent again on the next one. Everything a peer may send is judged here; what it may not send throws ERR_PROTOCOL out of
 * the frame callbacks.
 */
import { CarrierError, codeFromWire, LIMITS, wireCode } from '../base/index.ts'
import type { ErrorCode } from '../base/index.ts'
import { AckSchedule } from './ack-schedule.ts'
import { ReceiveBlocks } from './byte-queues.ts'
import { ChannelCore } from './channel-core.ts'
import { ClosedChannels } from './closed-channels.ts'
import { CreditLedger } from './credit-ledger.ts'
import type { CreditPool } from './credit-pool.ts'
import { ACK_BYTES, FrameWriter, OPEN_CREDIT_BYTES, RESET_BYTES } from './frame-writer.ts'
import { CHANNEL_KIND, violation } from './frames.ts'
import type { Frame, ResumedEntry } from './frames.ts'
import type { FrameSink } from './frame-decoder.ts'
import type { WireLimits } from './hello.ts'
import { LocalOpens, openBytes } from './local-opens.ts'
import { ReceiveHalf } from './receive-half.ts'
import { checkResume } from './resume-check.ts'
import type { ResumedOffsets } from './resume-check.ts'
import { SendHalf } from './send-half.ts'

/** What the edge is told. Called synchronously; must not throw. */
export interface SessionCoreEvents {
  /** `produce` has something to give. Called once until the next `produce`. */
  onWake: () => void
  /** Acknowledgements are due; `produce` within this turn of the event loop, so that one frame answers all that came in it. */
  onAckDue: () => void
  /** Call `deliver` at the end of this turn of the event loop. Called once until then. */
  onDeliveryDue: () => void
  /** Acknowledgements wait; call `flushAcks` within so many milliseconds. */
  onAckDelayed: (delayMs: number) => void
  /** An inbound channel; the edge sets a listener or calls `reset`, and `settle` when its handler is done. */
  onOpen: (channel: ChannelCore, message: Uint8Array) => void
}

/** What a session is made of. */
export interface SessionCoreInit {
  isController: boolean
  limits: WireLimits
  peerLimits: WireLimits
  pool: CreditPool
  /** Monotonic milliseconds, with fractions. */
  now: () => number
}

/** Longest frame that is not cut to the room there is: a message has room for one. */
const MIN_MESSAGE_BYTES = 8 * 1024

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
  readonly #closed = new ClosedChannels()
  readonly #receiveBlocks = new ReceiveBlocks()
  readonly #now: () => number
  #state: 'live' | 'suspended' | 'ended' = 'live'
  #highestRemoteId = 0
  #resets: Array<{ channelId: number, code: number }> = []
  /** Channels that the other side closed while the link was down; its resets are the first that it sends now. */
  #gone: ChannelCore[] = []
  #isAwake = false
  /** The link that carried the last open credit was lost. */
  #isOpenCreditUntold = false

  constructor (init: SessionCoreInit, events: SessionCoreEvents) {
    const onWork = (): void => { this.#wake() }
    const { now } = init
    this.#now = now
    this.#isController = init.isController
    this.#peerLimits = init.peerLimits
    this.#events = events
    this.#credit = new CreditLedger(init.limits, init.pool)
    this.#opens = new LocalOpens({ isController: init.isController, limitCount: init.peerLimits.channelCount })
    this.#acks = new AckSchedule({ now }, { onDue: () => { if (this.#state === 'live') events.onAckDue() }, onDelayed: events.onAckDelayed })
    this.#sending = new SendHalf({ framePayloadBytes: init.peerLimits.framePayloadBytes, pool: init.pool, now, onWork })
    this.#writer = new FrameWriter(this.#sending.blocks)
    this.#receiving = new ReceiveHalf({
      credit: this.#credit,
      acks: this.#acks,
      now,
      roundTripMs: () => this.#sending.rate.roundTripMs,
      onEnded: (channel) => { this.#closeIfDone(channel) },
      onDeliveryDue: events.onDeliveryDue
    })
  }

  get channelCount (): number {
    return this.#channels.size + this.#opens.waitingCount
  }

  /** Sent and not acknowledged. */
  get inFlightBytes (): number {
    return this.#sending.inFlightBytes
  }

  /** How many bytes may be under way, as the link is known now. */
  get inFlightLimitBytes (): number {
    return this.#sending.rate.limitBytes
  }

  /** Memory of messages that are kept until they are acknowledged. */
  get retainedBytes (): number {
    return this.#sending.retained.usedBytes
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
      openMessage: new Uint8Array(message),
      nowMs: this.#now(),
      retained: this.#sending.retained,
      receiveBlocks: this.#receiveBlocks
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

  /** The reader is done with what `onBytes` gave it, for good: its memory may be used again. At most once for each. */
  recycle (bytes: Uint8Array): void {
    if (this.#channels.size > 0) this.#receiveBlocks.give(bytes)
  }

  /** Ends both directions at once and tells the peer why. */
  reset (channel: ChannelCore, err: CarrierError): void {
    if (channel.isClosed) return
    // complete but for our last ack, which is on its way: the other side shall see its clean end
    if (channel.isDone) return
    if (channel.openState !== 'waiting' && channel.openState !== 'unsent') {
      const code = wireCode(err.code)
      this.#closed.noteReset(channel.id, code)
      if (this.#state === 'live') this.#resets.push({ channelId: channel.id, code })
    }
    this.#close(channel, err)
    this.#wake()
  }

  /** Hands what came in to the readers that wait for it. */
  deliver (): void {
    this.#receiving.deliver()
  }

  /** All delayed acknowledgements are due now. */
  flushAcks (): void {
    this.#acks.flush()
  }

  /** Nothing is under way: memory that was kept to be used again goes back. */
  rest (): void {
    this.#sending.blocks.clear()
    this.#receiveBlocks.clear()
  }

  /** A round trip of the link that was measured otherwise, in milliseconds. */
  noteRoundTrip (milliseconds: number): void {
    this.#sending.rate.noteRoundTrip(milliseconds)
  }

  /** Fails every channel with `err`; nothing is produced afterwards. Idempotent. */
  end (err: CarrierError): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    for (const channel of [...this.#channels.values(), ...this.#opens.waiting()]) this.#close(channel, err)
    this.#credit.close()
    this.#closed.clear()
  }

  // ---- from link to link

  /** The link is gone: what was in work is forgotten, and nothing is produced until `resume`. */
  suspend (): void {
    if (this.#state !== 'live') return
    this.#state = 'suspended'
    this.#sending.blocks.noteLoss()
    this.#receiving.forget()
  }

  /** Another link carries the session, with nothing lost: what is known of the old one does not hold. */
  linkChanged (): void {
    this.#sending.linkChanged()
  }

  /** What the other end needs to know to go on: for our `resumed`. */
  offsets (): ResumedOffsets {
    const entries: ResumedEntry[] = []
    for (const channel of this.#channels.values()) {
      entries.push({ id: channel.id, isFinReceived: channel.receiveState !== 'open', receivedBytes: channel.receivedBytes, limitBytes: channel.grantedBytes })
    }
    entries.push(...this.#closed.ended())
    return { highestId: this.#highestRemoteId, entries }
  }

  /**
   * Goes on on another link, from the other end's offsets. @throws CarrierError ERR_PROTOCOL for what cannot be true;
   * nothing has changed then
   */
  resume (peer: ResumedOffsets): void {
    if (this.#state !== 'suspended') return
    const entries = checkResume(peer, {
      isLocalId: (id) => this.#isLocalId(id),
      highestLocalId: this.#opens.highestId,
      highestRemoteId: this.#highestRemoteId,
      channel: (id) => this.#channels.get(id),
      channels: () => this.#channels.values()
    })
    this.#state = 'live'
    this.#isAwake = true
    this.#resets = []
    this.#gone = []
    this.#isOpenCreditUntold = true
    this.#sending.clearTurns()
    const unseen: ChannelCore[] = []
    for (const channel of [...this.#channels.values()]) {
      // a listener may have reset it while others were resumed
      if (channel.isClosed) continue
      const entry = entries.get(channel.id)
      channel.isReady = false
      if (entry !== undefined) this.#resumeChannel(channel, entry)
      else if (channel.isLocal && channel.id > peer.highestId) {
        channel.openState = 'unsent'
        this.#sending.rewind(channel, 0)
        unseen.push(channel)
      } else if (channel.isDone) this.#close(channel, undefined)
      // complete on the way, the reader is not there yet
      else if (channel.sendState === 'fin-acked' && channel.receiveState === 'fin-received') continue
      else {
        channel.openState = 'gone'
        this.#gone.push(channel)
      }
    }
    this.#opens.sendAgain(unseen)
    for (const { id } of peer.entries) {
      const isGone = !this.#channels.has(id) && id <= (this.#isLocalId(id) ? this.#opens.highestId : this.#highestRemoteId)
      if (isGone && !this.#closed.hasEnded(id)) this.#resets.push({ channelId: id, code: this.#closed.resetCode(id) ?? wireCode('ERR_RESET') })
    }
    this.linkChanged()
    this.#isAwake = false
    this.#wake()
    if (this.#acks.dueCount > 0) this.#events.onAckDue()
  }

  // ---- what goes out

  /**
   * The next message, of whole frames, with at most `maxBytes` (but 8 KiB at least); its bytes do not change before the other
   * end has acknowledged them. Undefined
   * when there is nothing to send, or nothing may be sent now.
   */
  produce (maxBytes: number): Uint8Array | undefined {
    this.#isAwake = false
    if (this.#state !== 'live') return undefined
    const writer = this.#writer
    const roomBytes = Math.max(MIN_MESSAGE_BYTES, Math.min(maxBytes, this.#sending.rate.messageBytes))
    const opening = this.#opens.next(roomBytes)
    let byteCount = this.#acks.dueCount * ACK_BYTES + this.#resets.length * RESET_BYTES
    if (this.#isOpenCreditUntold || this.#credit.isOpenCreditDue) byteCount += OPEN_CREDIT_BYTES
    for (const channel of opening) byteCount += openBytes(channel)
    const dataBytes = this.#sending.plan(roomBytes, opening)
    byteCount += dataBytes
    if (byteCount === 0) return undefined
    // those that ride along with what is sent anyway
    byteCount += this.#acks.delayedCount * ACK_BYTES
    writer.begin(Math.min(roomBytes, byteCount))
    this.#produceControl(opening)
    if (dataBytes > 0 && this.#resets.length === 0) this.#sending.produce(writer)
    return writer.finish()
  }

  /** Tells the writers whose bytes have all left; they may send more at once. Call after `produce`. */
  notifySent (): void {
    this.#sending.notifySent()
  }

  // ---- what comes in

  onFrame (frame: Frame): void {
    if (this.#state !== 'live' && frame.type !== 'openCredit') return
    if (frame.type !== 'reset') this.#failGone()
    switch (frame.type) {
      case 'open': this.#receiveOpen(frame.channelId, frame.kind, frame.message); return
      case 'ack': this.#receiveAck(frame); return
      case 'fin': this.#receiveFin(frame.channelId, frame.finalBytes); return
      case 'reset': this.#receiveReset(frame.channelId, frame.code); return
      case 'openCredit':
        this.#opens.raiseLimit(frame.channelCount)
        if (this.#opens.waitingCount > 0) this.#wake()
        return
      default: throw violation(`a ${frame.type} frame among those of channels`)
    }
  }

  onData (channelId: number, offsetBytes: number, payloadBytes: number): void {
    this.#failGone()
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
    const channel = new ChannelCore({ id, kind, isLocal: false, sendLimitBytes: this.#peerLimits.channelCreditBytes, grantedBytes: this.#credit.initialBytes, nowMs: this.#now(), retained: this.#sending.retained, receiveBlocks: this.#receiveBlocks })
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
    if (frame.isFinReceived) this.#noteFinAcked(channel)
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
    if (channel?.openState === 'sent') this.#noteKnown(channel)
    return channel
  }

  #isLocalId (id: number): boolean {
    return (id % 2 === 0) === this.#isController
  }

  /** The other side has the channel: its opening message is not needed any more. */
  #noteKnown (channel: ChannelCore): void {
    channel.openState = 'known'
    channel.openMessage = undefined
  }

  // ---- producing

  #produceControl (opening: readonly ChannelCore[]): void {
    const writer = this.#writer
    // first, because after a resume the first other frame says that there are no more
    while (this.#resets.length > 0) {
      if (writer.roomBytes < RESET_BYTES) return
      const reset = this.#resets.shift()
      if (reset !== undefined) writer.frame({ type: 'reset', ...reset })
    }
    if ((this.#credit.isOpenCreditDue || this.#isOpenCreditUntold) && writer.roomBytes >= OPEN_CREDIT_BYTES) {
      this.#isOpenCreditUntold = false
      writer.frame({ type: 'openCredit', channelCount: this.#credit.raiseOpenLimit() })
    }
    for (const channel of opening) {
      if (writer.roomBytes < openBytes(channel)) break
      this.#opens.take(channel)
      this.#channels.set(channel.id, channel)
      writer.frame({ type: 'open', channelId: channel.id, kind: channel.kind, message: channel.openMessage ?? new Uint8Array(0) })
      if (channel.sendableBytes > 0 || channel.isFinDue) this.#sending.ready(channel)
    }
    while (writer.roomBytes >= ACK_BYTES) {
      const channel = this.#acks.takeDue() ?? this.#acks.takeDelayed()
      if (channel === undefined) break
      this.#produceAck(channel)
    }
  }

  #produceAck (channel: ChannelCore): void {
    channel.ackState = 'clean'
    this.#writer.ack(channel.id, channel.receivedBytes, channel.grantedBytes, channel.receiveState !== 'open')
    this.#closeIfDone(channel)
  }

  #wake (): void {
    if (this.#isAwake || this.#state !== 'live') return
    this.#isAwake = true
    this.#events.onWake()
  }

  // ---- closing

  #closeIfDone (channel: ChannelCore): void {
    if (!channel.isDone || channel.ackState !== 'clean') return
    this.#closed.noteEnded(channel.id, channel.receivedBytes, channel.grantedBytes)
    this.#close(channel, undefined)
  }

  #resumeChannel (channel: ChannelCore, entry: ResumedEntry): void {
    if (channel.isLocal) this.#noteKnown(channel)
    channel.sendLimitBytes = Math.max(channel.sendLimitBytes, entry.limitBytes)
    if (!entry.isFinReceived) {
      this.#sending.rewind(channel, entry.receivedBytes)
      return
    }
    this.#sending.noteAcked(channel, entry.receivedBytes)
    this.#noteFinAcked(channel)
  }

  /** The resets of channels that are gone would have come by now. */
  #failGone (): void {
    if (this.#gone.length === 0 || this.#state !== 'live') return
    const gone = this.#gone
    this.#gone = []
    for (const channel of gone) this.#close(channel, new CarrierError('ERR_RESET', 'the other side closed the channel while the link was down'))
  }

  #noteFinAcked (channel: ChannelCore): void {
    if (channel.sendState !== 'fin-sent') return
    channel.sendState = 'fin-acked'
    channel.listener?.onFinished()
    this.#closeIfDone(channel)
  }

  #close (channel: ChannelCore, err: CarrierError | undefined): void {
    if (channel.isClosed) return
    channel.isClosed = true
    channel.error = err
    this.#channels.delete(channel.id)
    if (this.#channels.size === 0) this.rest()
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
