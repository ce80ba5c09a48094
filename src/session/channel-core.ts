/** What a session knows of one channel: offsets, credit and queues of both directions. Pure; only session-core changes it. */
import type { CarrierError } from '../base/index.ts'
import { ReceiveQueue, SendQueue } from './byte-queues.ts'

/** The user of a channel: the Duplex, or a test. Called synchronously; must not throw. */
export interface ChannelListener {
  /** The answer to one `read`; the view may be kept. */
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

  sendState: 'open' | 'ending' | 'fin-sent' | 'fin-acked' = 'open'
  readonly sendQueue = new SendQueue()
  sentBytes = 0
  ackedBytes = 0
  /** The peer's grant: bytes below this offset may be sent. */
  sendLimitBytes: number
  /** Opening message, until the open frame is sent. */
  openMessage: Uint8Array | undefined
  /** Stands in the sender's ring. */
  isReady = false
  /** `onSent` is owed. */
  isSending = false

  receiveState: 'open' | 'fin-received' | 'ended' = 'open'
  readonly receiveQueue = new ReceiveQueue()
  receivedBytes = 0
  /** Handed to the reader. */
  deliveredBytes = 0
  /** Handed to the reader and asked past: it no longer counts against credit. */
  consumedBytes = 0
  /** Our grant, as far as it was decided. */
  grantedBytes: number
  /** Credit that the reader's end keeps open beyond what is consumed. */
  windowBytes: number
  /** Taken from the pool for this channel beyond its initial credit. */
  extraCreditBytes = 0
  /** `received` of the last ack frame. */
  ackToldBytes = 0
  ackState: 'clean' | 'delayed' | 'due' = 'clean'
  /** A `read` waits. */
  isWanted = false

  /** Inbound channels hold their place in the open credit until their handler is done too. */
  isSettled: boolean

  constructor (init: { id: number, kind: string, isLocal: boolean, sendLimitBytes: number, grantedBytes: number, openMessage?: Uint8Array }) {
    this.id = init.id
    this.kind = init.kind
    this.isLocal = init.isLocal
    this.isSettled = init.isLocal
    this.sendLimitBytes = init.sendLimitBytes
    this.grantedBytes = init.grantedBytes
    this.windowBytes = init.grantedBytes
    this.openMessage = init.openMessage
  }

  /** Bytes that could go out now if the link took them. */
  get sendableBytes (): number {
    return Math.min(this.sendQueue.byteCount, this.sendLimitBytes - this.sentBytes)
  }

  /** The fin is next. */
  get isFinDue (): boolean {
    return this.sendState === 'ending' && this.sendQueue.byteCount === 0
  }
}
