/** Which channels owe the peer an acknowledgement, and how soon. */
import { LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'

/** Whom the schedule wakes. */
export interface AckScheduleEvents {
  /** Acknowledgements are due. Called once until they are taken. */
  onDue: () => void
  /** Acknowledgements wait; `flush` is to follow within so many milliseconds. Called once until then, and again when it becomes urgent. */
  onDelayed: (delayMs: number) => void
}

/**
 * When so much is not acknowledged, over all channels, everything is: at least the first, half of what a sender has under
 * way on the slowest link; more on a fast link, as much as comes in a millisecond: a sender counts round trips of at least
 * LIMITS.sessionRoundTripFloorMs, so it never waits for that.
 */
const STEP_BYTES = 32 * 1024
const MAX_STEP_BYTES = 512 * 1024
const STEP_MS = 1
/** How long the speed is measured. */
const SPAN_MS = 5

/** A channel's `ackState` says where it stands: in no list (clean), or in one of the two. */
export class AckSchedule {
  readonly #now: () => number
  readonly #events: AckScheduleEvents
  #due: ChannelCore[] = []
  #delayed: ChannelCore[] = []
  #delayedBytes = 0
  #stepBytes = STEP_BYTES
  #spanStartMs = 0
  #spanBytes = 0

  constructor (init: { now: () => number }, events: AckScheduleEvents) {
    this.#now = init.now
    this.#events = events
  }

  /** Frames that would be written now at most; without those that only ride along. */
  get dueCount (): number {
    return this.#due.length
  }

  get delayedCount (): number {
    return this.#delayed.length
  }

  /** `channel` received `byteCount` bytes. */
  noteReceived (channel: ChannelCore, byteCount: number): void {
    this.#spanBytes += byteCount
    this.#delayedBytes += byteCount
    if (channel.ackState === 'clean') {
      channel.ackState = 'delayed'
      this.#delayed.push(channel)
      if (this.#delayed.length === 1) this.#events.onDelayed(LIMITS.sessionAckDelayMs)
    }
    if (this.#delayedBytes >= this.#stepBytes) this.flush()
  }

  /** `channel` received its fin: in a moment there is often more to say, and one message does for both. */
  noteEnded (channel: ChannelCore): void {
    if (channel.ackState === 'clean') {
      channel.ackState = 'delayed'
      this.#delayed.push(channel)
    }
    if (channel.ackState === 'delayed') this.#events.onDelayed(LIMITS.sessionEndAckDelayMs)
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
    const delayed = this.#delayed
    this.#delayed = []
    this.#delayedBytes = 0
    this.#measure()
    for (const channel of delayed) if (channel.ackState === 'delayed') this.now(channel)
  }

  /** The next one that is due, to be written now; undefined when there is none. */
  takeDue (): ChannelCore | undefined {
    return take(this.#due)
  }

  /** The next one that rides along when something is sent. */
  takeDelayed (): ChannelCore | undefined {
    const channel = take(this.#delayed)
    if (this.#delayed.length === 0) this.#delayedBytes = 0
    return channel
  }

  #measure (): void {
    const nowMs = this.#now()
    const spanMs = nowMs - this.#spanStartMs
    if (spanMs < SPAN_MS) return
    this.#stepBytes = Math.min(MAX_STEP_BYTES, Math.max(STEP_BYTES, this.#spanBytes / spanMs * STEP_MS))
    this.#spanStartMs = nowMs
    this.#spanBytes = 0
  }
}

/** The last one that still needs it: order among acknowledgements means nothing. */
function take (channels: ChannelCore[]): ChannelCore | undefined {
  for (let channel = channels.pop(); channel !== undefined; channel = channels.pop()) {
    if (!channel.isClosed && channel.ackState !== 'clean') return channel
  }
  return undefined
}
