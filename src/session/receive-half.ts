/** The incoming half of a session: data and fins to their readers, credit and acknowledgements back. */
import type { AckSchedule } from './ack-schedule.ts'
import type { ChannelCore } from './channel-core.ts'
import type { CreditLedger } from './credit-ledger.ts'
import { violation } from './frames.ts'

/** What the half shares with its session. */
export interface ReceiveHalfComponents {
  credit: CreditLedger
  acks: AckSchedule
  /** Channels among which credit is shared. */
  channelCount: () => number
  /** The reader of a channel was told of its end. */
  onEnded: (channel: ChannelCore) => void
}

/** Judges what arrives for open channels; violations throw ERR_PROTOCOL. */
export class ReceiveHalf {
  readonly #components: ReceiveHalfComponents
  /** Where the payload of the data frame in work goes; undefined drops it. */
  #target: ChannelCore | undefined

  constructor (components: ReceiveHalfComponents) {
    this.#components = components
  }

  /** A data frame begins; without a channel its payload is dropped. */
  begin (channel: ChannelCore | undefined, offsetBytes: number, payloadBytes: number): void {
    this.#target = undefined
    if (channel === undefined) return
    if (channel.receiveState !== 'open') throw violation(`data after the fin of channel ${channel.id}`)
    if (offsetBytes !== channel.receivedBytes) throw violation(`data at offset ${offsetBytes} of channel ${channel.id} where ${channel.receivedBytes} was next`)
    if (offsetBytes + payloadBytes > channel.grantedBytes) throw violation(`data beyond the credit of channel ${channel.id}`)
    this.#target = channel
  }

  /** A piece of its payload. */
  take (bytes: Uint8Array): void {
    const channel = this.#target
    if (channel === undefined || channel.isClosed) return
    channel.receivedBytes += bytes.length
    this.#components.acks.noteReceived(channel, bytes.length)
    if (channel.isWanted && channel.receiveQueue.byteCount === 0) {
      this.#hand(channel, bytes)
    } else {
      channel.receiveQueue.add(bytes)
      this.#deliver(channel)
    }
  }

  /** The other side's direction has exactly `finalBytes`. */
  finish (channel: ChannelCore, finalBytes: number): void {
    if (channel.receiveState !== 'open') throw violation(`a second fin of channel ${channel.id}`)
    if (finalBytes !== channel.receivedBytes) throw violation(`a fin of channel ${channel.id} at ${finalBytes} after ${channel.receivedBytes} bytes`)
    channel.receiveState = 'fin-received'
    this.#components.acks.now(channel)
    this.#deliver(channel)
  }

  /** The reader asks for the next bytes or the end, and says that the previous answer is consumed. */
  read (channel: ChannelCore): void {
    if (channel.isClosed || channel.receiveState === 'ended') return
    const { credit, acks, channelCount } = this.#components
    if (channel.consumedBytes !== channel.deliveredBytes) {
      channel.consumedBytes = channel.deliveredBytes
      if (channel.receiveState === 'open' && credit.grant(channel, channelCount())) acks.now(channel)
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
