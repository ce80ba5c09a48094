/** The incoming half of a session: data and fins to their readers, credit and acknowledgements back. */
import type { AckSchedule } from './ack-schedule.ts'
import type { ChannelCore } from './channel-core.ts'
import type { CreditLedger } from './credit-ledger.ts'
import { violation } from './frames.ts'

/** What the half shares with its session. */
export interface ReceiveHalfComponents {
  credit: CreditLedger
  acks: AckSchedule
  now: () => number
  /** Round trip of the link in milliseconds. */
  roundTripMs: () => number
  /** The reader of a channel was told of its end. */
  onEnded: (channel: ChannelCore) => void
  /** Bytes wait for their readers; call `deliver` at the end of this turn of the event loop. Called once until then. */
  onDeliveryDue: () => void
}

/** A piece of less than this does not wait for others. */
const ALONE_BYTES = 4_096

/** Judges what arrives for open channels; violations throw ERR_PROTOCOL. */
export class ReceiveHalf {
  readonly #components: ReceiveHalfComponents
  /** Channels with bytes for a reader that waits: what comes in the same turn goes to it together. */
  #due: ChannelCore[] = []
  /** Where the payload of the data frame in work goes; undefined drops it. */
  #target: ChannelCore | undefined
  #leftBytes = 0

  constructor (components: ReceiveHalfComponents) {
    this.#components = components
  }

  /** The rest of a data frame in work will not come. */
  forget (): void {
    this.#target = undefined
  }

  /** A data frame begins; without a channel its payload is dropped. */
  begin (channel: ChannelCore | undefined, offsetBytes: number, payloadBytes: number): void {
    this.#target = undefined
    if (channel === undefined) return
    if (channel.receiveState !== 'open') throw violation(`data after the fin of channel ${channel.id}`)
    if (offsetBytes !== channel.receivedBytes) throw violation(`data at offset ${offsetBytes} of channel ${channel.id} where ${channel.receivedBytes} was next`)
    if (offsetBytes + payloadBytes > channel.grantedBytes) throw violation(`data beyond the credit of channel ${channel.id}`)
    this.#target = channel
    this.#leftBytes = payloadBytes
  }

  /** A piece of its payload. */
  take (bytes: Uint8Array): void {
    const channel = this.#target
    // with the last piece the frame is over: what came then without a frame of its own would not have been judged
    this.#leftBytes -= bytes.length
    if (this.#leftBytes <= 0) this.#target = undefined
    if (channel === undefined || channel.isClosed || this.#leftBytes < 0) return
    const roomBytes = channel.grantedBytes - channel.receivedBytes
    channel.receivedBytes += bytes.length
    this.#components.acks.noteReceived(channel, bytes.length)
    const isAlone = channel.receiveQueue.byteCount === 0
    channel.receiveQueue.add(bytes, roomBytes)
    if (!channel.isWanted) return
    // a keystroke goes up at once, and so does a whole block
    if ((isAlone && bytes.length < ALONE_BYTES) || channel.receiveQueue.hasFullBlock) this.#deliver(channel)
    else if (!channel.isDeliveryDue) {
      channel.isDeliveryDue = true
      this.#due.push(channel)
      if (this.#due.length === 1) this.#components.onDeliveryDue()
    }
  }

  /** What waits for readers that wait. */
  deliver (): void {
    const due = this.#due
    this.#due = []
    for (const channel of due) {
      channel.isDeliveryDue = false
      if (!channel.isClosed) this.#deliver(channel)
    }
  }

  /** The other side's direction has exactly `finalBytes`. */
  finish (channel: ChannelCore, finalBytes: number): void {
    if (channel.receiveState !== 'open') throw violation(`a second fin of channel ${channel.id}`)
    if (finalBytes !== channel.receivedBytes) throw violation(`a fin of channel ${channel.id} at ${finalBytes} after ${channel.receivedBytes} bytes`)
    channel.receiveState = 'fin-received'
    this.#components.acks.noteEnded(channel)
    this.#deliver(channel)
  }

  /** The reader asks for the next bytes or the end, and says that the previous answer is consumed. */
  read (channel: ChannelCore): void {
    if (channel.isClosed || channel.receiveState === 'ended') return
    const { credit, acks, now, roundTripMs } = this.#components
    if (channel.consumedBytes !== channel.deliveredBytes) {
      channel.consumedBytes = channel.deliveredBytes
      if (channel.receiveState === 'open' && credit.grant(channel, now(), roundTripMs())) acks.now(channel)
    }
    channel.isWanted = true
    this.#deliver(channel)
  }

  #deliver (channel: ChannelCore): void {
    if (!channel.isWanted) return
    const bytes = channel.receiveQueue.shift()
    if (bytes !== undefined) {
      this.#hand(channel, bytes)
    } else if (channel.receiveState === 'fin-received') {
      channel.isWanted = false
      channel.receiveState = 'ended'
      channel.listener?.onEnd()
      this.#components.onEnded(channel)
    }
  }

  #hand (channel: ChannelCore, bytes: Uint8Array): void {
    channel.isWanted = false
    channel.deliveredBytes += bytes.length
    channel.listener?.onBytes(bytes)
  }
}
