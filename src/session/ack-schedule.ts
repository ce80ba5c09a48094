/** Which channels owe the peer an acknowledgement, and how soon. */
import type { ChannelCore } from './channel-core.ts'

/** Whom the schedule wakes. */
export interface AckScheduleEvents {
  /** Acknowledgements are due. Called once until they are taken. */
  onDue: () => void
  /** Acknowledgements wait; `flush` is to follow within LIMITS.sessionAckDelayMs. Called once until then. */
  onDelayed: () => void
}

/** A channel that received so much is acknowledged at once. */
const ACK_EVERY_BYTES = 32 * 1024
/** When so much waits over all channels, everything is acknowledged. */
const ACK_ALL_BYTES = 256 * 1024

/** A channel's `ackState` says where it stands: in no list (clean), or in one of the two. */
export class AckSchedule {
  readonly #events: AckScheduleEvents
  #due: ChannelCore[] = []
  #delayed: ChannelCore[] = []
  #delayedBytes = 0

  constructor (events: AckScheduleEvents) {
    this.#events = events
  }

  /** `channel` received `byteCount` bytes. */
  noteReceived (channel: ChannelCore, byteCount: number): void {
    if (channel.receivedBytes - channel.ackToldBytes >= ACK_EVERY_BYTES) this.now(channel)
    else this.#later(channel, byteCount)
  }

  /** Something that the peer should know at once. */
  now (channel: ChannelCore): void {
    if (channel.ackState === 'due' || channel.isClosed) return
    channel.ackState = 'due'
    this.#due.push(channel)
    if (this.#due.length === 1) this.#events.onDue()
  }

  /** All delayed acknowledgements are due now. */
  flush (): void {
    for (const channel of this.takeDelayed()) this.now(channel)
  }

  /** Those that go out with the next frames; the caller writes them. */
  takeDue (): ChannelCore[] {
    const due = this.#due
    this.#due = []
    return due
  }

  /** Those that go out when anything does; the caller writes them. */
  takeDelayed (): ChannelCore[] {
    const delayed = this.#delayed
    this.#delayed = []
    this.#delayedBytes = 0
    return delayed
  }

  #later (channel: ChannelCore, byteCount: number): void {
    this.#delayedBytes += byteCount
    if (channel.ackState === 'clean') {
      channel.ackState = 'delayed'
      this.#delayed.push(channel)
      if (this.#delayed.length === 1) this.#events.onDelayed()
    }
    if (this.#delayedBytes >= ACK_ALL_BYTES) this.flush()
  }
}
