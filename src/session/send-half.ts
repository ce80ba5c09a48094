/** The outgoing half of a session: whose bytes go out next. Channels take turns, and a bounded amount is under way. */
import { LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'
import { DeliveryRate } from './delivery-rate.ts'
import { FIN_BYTES } from './frame-writer.ts'
import type { FrameWriter } from './frame-writer.ts'
import { DATA_HEADER_BYTES } from './frames.ts'
import { BlockStore, RetainedBudget } from './retained.ts'
import type { CreditPool } from './credit-pool.ts'

/** A channel with nothing under way and at most so much to send goes first: a keystroke does not wait behind bulk. */
const QUICK_BYTES = 4096
/** Quick channels may be so much above the bound of what is under way, all together. */
const QUICK_EXTRA_BYTES = 16 * 1024
/** A frame of full size with its header fills one TLS record: it arrives in one piece. */
const RECORD_BYTES = 16_384
/** From this size on a rest of a message is worth a part of a longer piece. */
const SPLIT_BYTES = 32 * 1024
/** The rest of a message is not filled with less than this of a longer piece. */
const MIN_PIECE_BYTES = 512

/** Sends data and fins of all channels. */
export class SendHalf {
  readonly retained: RetainedBudget
  /** Memory of messages. */
  readonly blocks = new BlockStore()
  readonly rate: DeliveryRate
  readonly #framePayloadBytes: number
  readonly #onWork: () => void
  /** Channels with little to send, and all others, in turn. */
  #quick: ChannelCore[] = []
  #ring: ChannelCore[] = []
  /** Writers whose bytes have all left since they were last told. */
  #sent: ChannelCore[] = []
  #inFlightBytes = 0
  /** Of these, what is under way on a link that was left as planned: it does not count against the new one. */
  #elsewhereBytes = 0
  /** Decided by `plan`. */
  #quickAllowance = 0
  #ringAllowance = 0

  constructor (init: { framePayloadBytes: number, pool: CreditPool, now: () => number, onWork: () => void }) {
    this.#framePayloadBytes = Math.min(init.framePayloadBytes, RECORD_BYTES - DATA_HEADER_BYTES)
    this.#onWork = init.onWork
    this.retained = new RetainedBudget(init.pool.retained, this.blocks)
    this.rate = new DeliveryRate(init.now)
  }

  /** Sent and not acknowledged. */
  get inFlightBytes (): number {
    return this.#inFlightBytes
  }

  /** Queues bytes, which must not change until `onSent`. */
  add (channel: ChannelCore, chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) channel.sendQueue.add(chunk)
    channel.isSending = true
    if (channel.pendingBytes === 0) {
      this.#sent.push(channel)
      this.#onWork()
    } else this.ready(channel)
  }

  /** The channel has something to send; before its open frame, and when it is gone, it does not take part. */
  ready (channel: ChannelCore): void {
    if (channel.openState !== 'sent' && channel.openState !== 'known') return
    this.#enqueue(channel)
    this.#onWork()
  }

  /** The peer has all bytes below `receivedBytes`. */
  noteAcked (channel: ChannelCore, receivedBytes: number): void {
    if (receivedBytes <= channel.ackedBytes) return
    const count = receivedBytes - channel.ackedBytes
    channel.ackedBytes = receivedBytes
    const block = channel.unacked.drop(count)
    this.#land(count)
    if (block !== undefined) this.rate.noteAcked(block, count, this.#inFlightBytes)
    if (this.#ring.length + this.#quick.length > 0) this.#onWork()
  }

  /** The channel is gone: what it had under way will not be acknowledged. */
  drop (channel: ChannelCore): void {
    const count = channel.unacked.byteCount
    channel.unacked.clear()
    channel.resend.clear()
    channel.sendQueue.clear()
    channel.ackedBytes = channel.sentBytes
    if (count === 0) return
    this.#land(count)
    this.rate.noteDropped(this.#inFlightBytes)
    if (this.#ring.length + this.#quick.length > 0) this.#onWork()
  }

  /** What was sent from `receivedBytes` on is lost with its link and goes out again, before anything new. */
  rewind (channel: ChannelCore, receivedBytes: number): void {
    const count = receivedBytes - channel.ackedBytes
    channel.unacked.drop(count)
    channel.ackedBytes = receivedBytes
    channel.sentBytes = receivedBytes
    this.#land(count + channel.unacked.byteCount)
    channel.resend.prepend(channel.unacked)
    if (channel.sendState === 'fin-sent') channel.sendState = 'ending'
    if (channel.sendableBytes > 0 || channel.isFinDue) this.ready(channel)
  }

  /** Another link carries the session from now on. */
  linkChanged (): void {
    this.#elsewhereBytes = this.#inFlightBytes
    this.rate.restart()
    if (this.#ring.length + this.#quick.length > 0) this.#onWork()
  }

  /** Nothing waits: the owner calls `ready` for every channel afterwards, and `rewind` where that is due. */
  clearTurns (): void {
    this.#quick = []
    this.#ring = []
  }

  /** How many bytes `produce` will write into a message with room for `maxBytes`, or a little more. `opening`: channels whose open frames stand before. */
  plan (maxBytes: number, opening: readonly ChannelCore[]): number {
    this.#quickAllowance = Math.min(this.#allowedBytes() + QUICK_EXTRA_BYTES, this.#hardRoomBytes())
    if (this.#quick.length + this.#ring.length + opening.length === 0) {
      if (this.#quickAllowance > QUICK_EXTRA_BYTES) this.rate.noteStarved(this.#inFlightBytes)
      return 0
    }
    const isKept = this.#inFlightBytes > 0 && !this.retained.hasRoom(maxBytes)
    if (isKept) this.#quickAllowance = 0
    let leftBytes = this.#quickAllowance
    let byteCount = 0
    const add = (channel: ChannelCore): boolean => {
      const count = channel.isClosed ? 0 : Math.min(leftBytes, channel.sendableBytes)
      if (count <= 0 && !isFree(channel)) return false
      if (count > 0) {
        leftBytes -= count
        byteCount += count + Math.ceil(count / this.#framePayloadBytes) * DATA_HEADER_BYTES
      }
      if (channel.sendState === 'ending') byteCount += FIN_BYTES
      return byteCount < maxBytes
    }
    const isQuick = (channel: ChannelCore): boolean => channel.pendingBytes <= QUICK_BYTES
    this.#quick.every(add)
    for (const channel of opening) if (isQuick(channel)) add(channel)
    const slow = opening.filter((channel) => !isQuick(channel))
    const allowedBytes = Math.min(this.#allowedBytes(), this.#hardRoomBytes()) - byteCount
    // little by little would make small messages of everything; what is under way brings an acknowledgement for sure
    const isTooLittle = this.#inFlightBytes > 0 && allowedBytes < Math.min(maxBytes, this.rate.limitBytes / 4) && isAbove([this.#ring, slow], allowedBytes)
    this.#ringAllowance = isTooLittle || isKept ? 0 : allowedBytes
    leftBytes = this.#ringAllowance
    if (byteCount < maxBytes && this.#ring.every(add)) slow.every(add)
    return Math.min(maxBytes, byteCount)
  }

  /** Writes frames until the message is full or nothing more may go; after `plan`. */
  produce (writer: FrameWriter): void {
    const inFlightBefore = this.#inFlightBytes
    this.#serve(this.#quick, writer, this.#quickAllowance, QUICK_BYTES, false)
    this.#serve(this.#ring, writer, this.#ringAllowance, this.#framePayloadBytes, true)
    const sentBytes = this.#inFlightBytes - inFlightBefore
    if (sentBytes > 0) this.rate.noteSent(writer.block, inFlightBefore)
  }

  /** Tells the writers whose bytes have all left; they may send more at once. */
  notifySent (): void {
    if (this.#sent.length === 0) return
    const sent = this.#sent
    this.#sent = []
    for (const channel of sent) {
      if (!channel.isSending || channel.pendingBytes > 0) continue
      channel.isSending = false
      channel.listener?.onSent()
    }
  }

  /** One turn after the other, with at most `allowedBytes` of data in all and `turnBytes` in each frame. */
  #serve (channels: ChannelCore[], writer: FrameWriter, allowedBytes: number, turnBytes: number, isWholeMessage: boolean): void {
    let leftBytes = allowedBytes
    let last: ChannelCore | undefined
    while (channels.length > 0) {
      const channel = channels[0] as ChannelCore
      const sendable = channel.isClosed ? 0 : channel.sendableBytes
      // the rest of a long message is not begun with a piece of the next one's bulk: it would reach its reader in two
      if (isWholeMessage && last !== undefined && last !== channel && sendable > writer.roomBytes && writer.roomBytes < SPLIT_BYTES && writer.usedBytes > SPLIT_BYTES) return
      let count = Math.min(sendable, turnBytes, leftBytes, writer.roomBytes - DATA_HEADER_BYTES)
      if (count < sendable && count < MIN_PIECE_BYTES) count = 0
      const isFinNext = channel.isFinDue || (channel.sendState === 'ending' && count === channel.pendingBytes)
      if (sendable > 0 && count <= 0) return
      if (count <= 0 && isFinNext && writer.roomBytes < FIN_BYTES) return
      channels.shift()
      channel.isReady = false
      if (channel.isClosed) continue
      if (count > 0) {
        this.#writeData(channel, writer, count)
        leftBytes -= count
        last = channel
      }
      // few long pieces instead of many short ones: a message is one turn, and short where the link is slow
      if (isWholeMessage && !isFinNext && channel.sendableBytes > 0 && Math.min(leftBytes, writer.roomBytes - DATA_HEADER_BYTES) >= MIN_PIECE_BYTES) {
        channel.isReady = true
        channels.unshift(channel)
      } else if (isFinNext && writer.roomBytes >= FIN_BYTES) {
        writer.frame({ type: 'fin', channelId: channel.id, finalBytes: channel.sentBytes })
        channel.sendState = 'fin-sent'
      } else if (channel.sendableBytes > 0 || channel.isFinDue) this.#enqueue(channel)
    }
  }

  #writeData (channel: ChannelCore, writer: FrameWriter, count: number): void {
    const at = writer.data(channel.id, channel.sentBytes, count)
    const againBytes = Math.min(count, channel.resend.byteCount)
    const { block } = writer
    if (againBytes > 0) channel.resend.copy(block.bytes, at, againBytes)
    if (againBytes < count) channel.sendQueue.copy(block.bytes, at + againBytes, count - againBytes)
    channel.unacked.add(block, at, count)
    channel.sentBytes += count
    this.#inFlightBytes += count
    if (channel.isSending && channel.pendingBytes === 0) this.#sent.push(channel)
  }

  /** What may still be under way; below zero when the bound fell. */
  #allowedBytes (): number {
    return this.rate.limitBytes - (this.#inFlightBytes - this.#elsewhereBytes)
  }

  #hardRoomBytes (): number {
    return LIMITS.sessionInFlightBytes - this.#inFlightBytes
  }

  #land (byteCount: number): void {
    this.#inFlightBytes -= byteCount
    this.#elsewhereBytes = Math.max(0, this.#elsewhereBytes - byteCount)
  }

  #enqueue (channel: ChannelCore): void {
    if (channel.isReady) return
    channel.isReady = true
    if (channel.unacked.byteCount === 0 && channel.pendingBytes <= QUICK_BYTES) this.#quick.push(channel)
    else this.#ring.push(channel)
  }
}

/** A fin alone, or a channel that is closed: it goes whatever is under way. */
function isFree (channel: ChannelCore | undefined): boolean {
  return channel !== undefined && (channel.isClosed || channel.sendableBytes <= 0)
}

function isAbove (lists: ReadonlyArray<readonly ChannelCore[]>, byteCount: number): boolean {
  let pendingBytes = 0
  for (const channels of lists) {
    for (const channel of channels) {
      pendingBytes += channel.sendableBytes
      if (pendingBytes > byteCount) return true
    }
  }
  return false
}
