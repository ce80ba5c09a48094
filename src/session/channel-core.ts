/** What a session knows of one channel: offsets, credit and queues of both directions. Pure; only session-core changes it. */
import type { CarrierError } from '../base/index.ts'
import { ReceiveQueue, SendQueue } from './byte-queues.ts'
import type { ReceiveBlocks } from './byte-queues.ts'
import { RetainedQueue } from './retained.ts'
import type { RetainedBudget } from './retained.ts'

/** The user of a channel: the Duplex, or a test. Called synchronously; must not throw. */
export interface ChannelListener {
  /** The answer to one `read`; the view may be kept, or given back with `recycle`. */
  onBytes: (bytes: Uint8Array) => void
  /** The answer to a `read` after the last byte: the other side ended, and everything it sent was delivered. */
  onEnd: () => void
  /** Everything given to `send` has left for the link. */
  onSent: () => void
  /** The other side has every byte and the fin. */
  onFinished: () => void
  /** The channel is gone: reset by the other side, or with its session. Nothing follows. */
  onFailed: (err: CarrierError) => void
}

/**
 * Sending: open → ending (fin waits behind queued bytes) → fin-sent → fin-acked.
 * Receiving: open → fin-received → ended (the reader was told).
 * A channel closes when it is fin-acked and ended, or by reset or loss from any state.
 */
export class ChannelCore {
  /** 0 until the open frame of a channel of ours leaves. */
  id: number
  readonly kind: string
  readonly isLocal: boolean
  listener: ChannelListener | undefined
  isClosed = false
  /** Why it closed; undefined after a clean end. */
  error: CarrierError | undefined

  /**
   * Of the open frame: waiting (for a number) → sent → known (the other side showed that it has the channel); after a loss
   * of the link from sent back to unsent, when the other side never saw it, and from known to gone, when it has closed the
   * channel meanwhile. Inbound channels begin as known.
   */
  openState: 'waiting' | 'unsent' | 'sent' | 'known' | 'gone'
  /** Opening message, until the other side knows the channel. */
  openMessage: Uint8Array | undefined

  sendState: 'open' | 'ending' | 'fin-sent' | 'fin-acked' = 'open'
  readonly sendQueue = new SendQueue()
  /** Bytes `ackedBytes` to `sentBytes`: on their way. */
  readonly unacked: RetainedQueue
  /** Bytes from `sentBytes` on that left on a link that was lost; they come before the queue. */
  readonly resend: RetainedQueue
  sentBytes = 0
  ackedBytes = 0
  /** The peer's grant: bytes below this offset may be sent. */
  sendLimitBytes: number
  /** Stands in one of the sender's rings. */
  isReady = false
  /** `onSent` is owed. */
  isSending = false

  receiveState: 'open' | 'fin-received' | 'ended' = 'open'
  readonly receiveQueue: ReceiveQueue
  receivedBytes = 0
  /** Handed to the reader. */
  deliveredBytes = 0
  /** Handed to the reader and asked past: it no longer counts against credit. */
  consumedBytes = 0
  /** Our grant, as far as it was decided. */
  grantedBytes: number
  /** Credit that the reader's end keeps open beyond what is consumed. */
  windowBytes: number
  /** When the consumption in work is measured since, and what was consumed then. */
  tuneStartMs: number
  tuneStartBytes = 0
  /** What was consumed before the last read. */
  tuneNextBytes = 0
  /** Taken from the pool for this channel beyond its initial credit. */
  extraCreditBytes = 0
  ackState: 'clean' | 'delayed' | 'due' = 'clean'
  /** A `read` waits. */
  isWanted = false
  /** Bytes wait for the end of the turn. */
  isDeliveryDue = false

  /** Inbound channels hold their place in the open credit until their handler is done too. */
  isSettled: boolean

  constructor (init: { id: number, kind: string, isLocal: boolean, sendLimitBytes: number, grantedBytes: number, openMessage?: Uint8Array, nowMs: number, retained: RetainedBudget, receiveBlocks: ReceiveBlocks }) {
    this.id = init.id
    this.kind = init.kind
    this.isLocal = init.isLocal
    this.isSettled = init.isLocal
    this.openState = init.isLocal ? 'waiting' : 'known'
    this.openMessage = init.openMessage
    this.sendLimitBytes = init.sendLimitBytes
    this.grantedBytes = init.grantedBytes
    this.windowBytes = init.grantedBytes
    this.tuneStartMs = init.nowMs
    this.receiveQueue = new ReceiveQueue(init.receiveBlocks)
    this.unacked = new RetainedQueue(init.retained)
    this.resend = new RetainedQueue(init.retained)
  }

  /** Bytes that wait to be sent, for the first time or again. */
  get pendingBytes (): number {
    return this.resend.byteCount + this.sendQueue.byteCount
  }

  /** Bytes that could go out now if the link took them. */
  get sendableBytes (): number {
    return Math.min(this.pendingBytes, this.sendLimitBytes - this.sentBytes)
  }

  /** The fin is next. */
  get isFinDue (): boolean {
    return this.sendState === 'ending' && this.pendingBytes === 0
  }

  /** Both directions are complete, but for what we still have to say about it. */
  get isDone (): boolean {
    return this.sendState === 'fin-acked' && this.receiveState === 'ended'
  }
}
