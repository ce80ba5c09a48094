/** The outgoing half of a session: whose bytes go out next. Channels take turns, and a bounded amount is under way. */
import { LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'
import type { FrameWriter } from './frame-writer.ts'

/** Sends data and fins of all channels. */
export class SendHalf {
  readonly #framePayloadBytes: number
  readonly #onWork: () => void
  /** Channels with something to send, in turn. */
  #ring: ChannelCore[] = []
  /** Writers whose bytes have all left since they were last told. */
  #sent: ChannelCore[] = []
  #inFlightBytes = 0

  constructor (init: { framePayloadBytes: number, onWork: () => void }) {
    this.#framePayloadBytes = init.framePayloadBytes
    this.#onWork = init.onWork
  }

  /** Sent and not acknowledged. */
  get inFlightBytes (): number {
    return this.#inFlightBytes
  }

  /** Queues bytes, which must not change until `onSent`. */
  add (channel: ChannelCore, chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) channel.sendQueue.add(chunk)
    channel.isSending = true
    if (channel.sendQueue.byteCount === 0) {
      this.#sent.push(channel)
      this.#onWork()
    } else this.ready(channel)
  }

  /** The channel has something to send; before its open frame it does not take part. */
  ready (channel: ChannelCore): void {
    if (channel.openMessage !== undefined) return
    this.#enqueue(channel)
    this.#onWork()
  }

  /** The peer has all bytes below `receivedBytes`. */
  noteAcked (channel: ChannelCore, receivedBytes: number): void {
    if (receivedBytes <= channel.ackedBytes) return
    this.#inFlightBytes -= receivedBytes - channel.ackedBytes
    channel.ackedBytes = receivedBytes
    if (this.#ring.length > 0) this.#onWork()
  }

  /** The channel is gone: what it had under way will not be acknowledged. */
  drop (channel: ChannelCore): void {
    this.noteAcked(channel, channel.sentBytes)
    channel.sendQueue.clear()
  }

  /** Appends frames until `writer` holds about `maxBytes` or nothing more may go. */
  produce (writer: FrameWriter, maxBytes: number): void {
    while (this.#ring.length > 0 && writer.byteCount < maxBytes) {
      const channel = this.#ring[0] as ChannelCore
      if (channel.sendableBytes > 0 && this.#inFlightBytes >= LIMITS.sessionInFlightBytes) return
      this.#ring.shift()
      channel.isReady = false
      if (!channel.isClosed) this.#produceTurn(channel, writer)
    }
  }

  /** Tells the writers whose bytes have all left; they may send more at once. */
  notifySent (): void {
    if (this.#sent.length === 0) return
    const sent = this.#sent
    this.#sent = []
    for (const channel of sent) {
      if (!channel.isSending || channel.sendQueue.byteCount > 0) continue
      channel.isSending = false
      channel.listener?.onSent()
    }
  }

  /** At most one frame of data, and the fin when it is next. */
  #produceTurn (channel: ChannelCore, writer: FrameWriter): void {
    const count = Math.min(channel.sendableBytes, this.#framePayloadBytes, LIMITS.sessionInFlightBytes - this.#inFlightBytes)
    if (count > 0) {
      writer.data(channel, count)
      channel.sentBytes += count
      this.#inFlightBytes += count
      if (channel.sendQueue.byteCount === 0 && channel.isSending) this.#sent.push(channel)
    }
    if (channel.isFinDue) {
      writer.frame({ type: 'fin', channelId: channel.id, finalBytes: channel.sentBytes })
      channel.sendState = 'fin-sent'
    } else if (channel.sendableBytes > 0) this.#enqueue(channel)
  }

  #enqueue (channel: ChannelCore): void {
    if (channel.isReady) return
    channel.isReady = true
    this.#ring.push(channel)
  }
}
