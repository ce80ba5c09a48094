/** Channels that this end opens: how many, their numbers, and those that wait for the peer's open credit. */
import { CarrierError, LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'

const MAX_CHANNEL_ID = 0xffff_ffff

/**
 * A number is given when the open frame leaves, not before: numbers that a given-up channel took with it would use up
 * open credit of which the peer does not know, and so never gives back.
 */
export class LocalOpens {
  /** Those whose open frame was lost with its link, by number; they go first. */
  #again: ChannelCore[] = []
  readonly #waiting = new Set<ChannelCore>()
  /** The highest ordinal (1, 2, 3 …) that the peer lets us use. */
  #limitCount: number
  #nextId: number
  #count = 0

  constructor (init: { isController: boolean, limitCount: number }) {
    this.#nextId = init.isController ? 2 : 1
    this.#limitCount = init.limitCount
  }

  get waitingCount (): number {
    return this.#waiting.size
  }

  waiting (): Iterable<ChannelCore> {
    return this.#waiting
  }

  /** Highest id whose open frame was sent; below 1 when none was. */
  get highestId (): number {
    return this.#nextId - 2
  }

  /** @throws CarrierError ERR_LIMIT when one more would be too many */
  assertRoom (): void {
    if (this.#count >= LIMITS.sessionChannelCount) throw new CarrierError('ERR_LIMIT', `${LIMITS.sessionChannelCount} channels are open to this device already; close some first`)
    if (this.#nextId + 2 * this.#waiting.size > MAX_CHANNEL_ID) throw new CarrierError('ERR_LIMIT', 'this session has used up its channel numbers; close it and open a new one')
  }

  add (channel: ChannelCore): void {
    this.#count++
    this.#waiting.add(channel)
  }

  /** A channel of ours is closed. */
  remove (channel: ChannelCore): void {
    this.#count--
    this.#waiting.delete(channel)
  }

  /** The peer allows the ordinals up to `limitCount`; older and repeated grants change nothing. */
  raiseLimit (limitCount: number): void {
    this.#limitCount = Math.max(this.#limitCount, limitCount)
  }

  /** The open frames of `channels`, which have numbers, are to be sent again. */
  sendAgain (channels: readonly ChannelCore[]): void {
    this.#again = channels.toSorted((one, other) => one.id - other.id)
  }

  /** Channels whose open frames may leave now, in order, at most as many as fit into `maxBytes`. */
  next (maxBytes: number): ChannelCore[] {
    const next: ChannelCore[] = []
    let leftBytes = maxBytes
    for (const channel of this.#again) {
      if (channel.isClosed) continue
      leftBytes -= openBytes(channel)
      if (leftBytes < 0) return next
      next.push(channel)
    }
    let count = this.#limitCount - Math.ceil(this.#nextId / 2) + 1
    for (const channel of this.#waiting) {
      leftBytes -= openBytes(channel)
      if (--count < 0 || leftBytes < 0) return next
      next.push(channel)
    }
    return next
  }

  /** The open frame of `channel`, the first of `next`, leaves: it has a number now. */
  take (channel: ChannelCore): void {
    if (channel.openState === 'unsent') {
      while (this.#again.length > 0 && this.#again.shift() !== channel);
    } else {
      this.#waiting.delete(channel)
      channel.id = this.#nextId
      this.#nextId += 2
    }
    channel.openState = 'sent'
  }
}

/** Bytes of the open frame of `channel`. */
export function openBytes (channel: ChannelCore): number {
  return 9 + channel.kind.length + (channel.openMessage?.length ?? 0)
}
