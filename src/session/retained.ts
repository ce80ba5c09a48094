/** What was sent and not acknowledged: views of the messages in which it left, until the other side has it (I4, I8). */
import { LIMITS } from '../base/index.ts'
import type { CreditPool } from './credit-pool.ts'

/** A message that left, as long as somebody needs it. Besides its bytes it knows what the rate estimate saw when it was sent. */
export class SentBlock {
  readonly bytes: Uint8Array
  /** Ranges of it that wait for an acknowledgement, or for being sent again. */
  holdCount = 0
  /** Which run of the estimate it belongs to; see DeliveryRate. */
  run = 0
  sentMs = 0
  /** Bytes acknowledged so far when it was sent, and when the last of them were. */
  deliveredBytes = 0
  deliveredMs = 0
  /** When the message was sent whose acknowledgement came last before this one was sent. */
  firstSentMs = 0
  /** The sender had less to send than the link would have taken. */
  isStarved = false

  /** See BlockStore. */
  readonly generation: number
  /** A range of it ended without an acknowledgement. */
  isSpoilt = false

  constructor (bytes: Uint8Array, generation = 0) {
    this.bytes = bytes
    this.generation = generation
  }
}

/** Blocks below this size are not worth keeping. */
const MIN_KEPT_BLOCK_BYTES = 32 * 1024
/** Blocks that wait to be used again; beyond, memory goes back. About what is acknowledged in one go on a fast link. */
const MAX_KEPT_BLOCKS = 64

/**
 * Memory for messages, used again once everything in it was acknowledged: then the other end has read it, so the link is
 * done with it too. A block of which anything ended otherwise (a reset, a loss) may still stand in a link and is left to
 * the garbage collector.
 */
export class BlockStore {
  #free: Uint8Array[] = []
  /** Grows with every loss: blocks from before are not taken back. */
  #generation = 0

  /** A block of exactly `byteCount` bytes of any content. */
  take (byteCount: number): SentBlock {
    const last = this.#free.at(-1)
    // not from Buffer's pool: one small message would keep a block of others alive
    const bytes = last?.length === byteCount ? this.#free.pop() as Uint8Array : Buffer.allocUnsafeSlow(byteCount)
    return new SentBlock(bytes, this.#generation)
  }

  /** Nobody needs the block any more, and all of it was acknowledged. */
  give (block: SentBlock): void {
    if (block.bytes.length < MIN_KEPT_BLOCK_BYTES || block.generation !== this.#generation || this.#free.length >= MAX_KEPT_BLOCKS) return
    if (this.#free.length > 0 && this.#free[0]?.length !== block.bytes.length) this.#free = []
    this.#free.push(block.bytes)
  }

  /** A link was lost: what is under way may still be read by it. */
  noteLoss (): void {
    this.#generation++
  }

  /** Nobody sends now: memory goes back. */
  clear (): void {
    this.#free = []
  }
}

/** What a block and a range of it cost beside their bytes: tiny frames must not cost memory that nobody counts. */
const BLOCK_BYTES = 256
const RANGE_BYTES = 128
/** A session may keep so much whatever the node's pool says, so that one session cannot stop another. */
const FLOOR_BYTES = 256 * 1024
/** Who keeps more than this has more than others may need. */
const SHARE_BYTES = 4 * 1024 * 1024

/** Counts the memory of one session that its unacknowledged messages keep alive: whole messages, not only their open bytes. */
export class RetainedBudget {
  readonly #pool: CreditPool
  readonly #blocks: BlockStore
  #usedBytes = 0
  #takenBytes = 0

  constructor (pool: CreditPool, blocks: BlockStore) {
    this.#pool = pool
    this.#blocks = blocks
  }

  get usedBytes (): number {
    return this.#usedBytes
  }

  /** Whether a message of `byteCount` with new data may be sent. */
  hasRoom (byteCount: number): boolean {
    const nextBytes = this.#usedBytes + byteCount + BLOCK_BYTES
    if (nextBytes <= FLOOR_BYTES) return true
    // a quarter of the node's pool is for those who keep little: sessions that never acknowledge must not stop others
    const reservedBytes = nextBytes > SHARE_BYTES ? this.#pool.limitBytes / 4 : 0
    return nextBytes <= LIMITS.sessionRetainedBytes && nextBytes - FLOOR_BYTES - this.#takenBytes <= this.#pool.freeBytes - reservedBytes
  }

  /** One range more of `block` is needed. */
  hold (block: SentBlock): void {
    this.#change(block.holdCount++ === 0 ? block.bytes.length + BLOCK_BYTES + RANGE_BYTES : RANGE_BYTES)
  }

  /** One range less; `isAcked`: because the other side has it. */
  release (block: SentBlock, isAcked: boolean): void {
    block.isSpoilt ||= !isAcked
    if (--block.holdCount > 0) {
      this.#change(-RANGE_BYTES)
      return
    }
    this.#change(-(block.bytes.length + BLOCK_BYTES + RANGE_BYTES))
    if (!block.isSpoilt) this.#blocks.give(block)
  }

  #change (byteCount: number): void {
    this.#usedBytes += byteCount
    const wantedBytes = Math.max(0, this.#usedBytes - FLOOR_BYTES)
    if (wantedBytes < this.#takenBytes) {
      this.#pool.give(this.#takenBytes - wantedBytes)
      this.#takenBytes = wantedBytes
    } else if (wantedBytes > this.#takenBytes && this.#pool.take(wantedBytes - this.#takenBytes)) this.#takenBytes = wantedBytes
  }
}

/** Bytes `at` to `end` of a block. */
interface Range { readonly block: SentBlock, at: number, readonly end: number }

/** Consecutive bytes of one channel, in ranges of blocks. */
export class RetainedQueue {
  readonly #budget: RetainedBudget
  #ranges: Array<Range | undefined> = []
  /** Index of the first range that still has bytes. */
  #first = 0
  #byteCount = 0

  constructor (budget: RetainedBudget) {
    this.#budget = budget
  }

  get byteCount (): number {
    return this.#byteCount
  }

  /** Appends `byteCount` bytes of `block` from `at` on. */
  add (block: SentBlock, at: number, byteCount: number): void {
    this.#budget.hold(block)
    this.#ranges.push({ block, at, end: at + byteCount })
    this.#byteCount += byteCount
  }

  /** Drops `byteCount` bytes, which must be there, from the front; the result is the last block that they touched. */
  drop (byteCount: number): SentBlock | undefined {
    let block: SentBlock | undefined
    let leftBytes = byteCount
    while (leftBytes > 0) {
      const range = this.#ranges[this.#first] as Range
      block = range.block
      const count = Math.min(leftBytes, range.end - range.at)
      this.#advance(range, count, true)
      leftBytes -= count
    }
    return block
  }

  /** Moves `byteCount` bytes, which must be there, from the front into `target`. */
  copy (target: Uint8Array, at: number, byteCount: number): void {
    let copiedBytes = 0
    while (copiedBytes < byteCount) {
      const range = this.#ranges[this.#first] as Range
      const count = Math.min(byteCount - copiedBytes, range.end - range.at)
      target.set(range.block.bytes.subarray(range.at, range.at + count), at + copiedBytes)
      this.#advance(range, count, false)
      copiedBytes += count
    }
  }

  /** Puts everything of `earlier` in front; it is empty afterwards. */
  prepend (earlier: RetainedQueue): void {
    this.#ranges = [...earlier.#ranges.slice(earlier.#first), ...this.#ranges.slice(this.#first)]
    this.#first = 0
    this.#byteCount += earlier.#byteCount
    earlier.#ranges = []
    earlier.#first = 0
    earlier.#byteCount = 0
  }

  clear (): void {
    for (let index = this.#first; index < this.#ranges.length; index++) this.#budget.release((this.#ranges[index] as Range).block, false)
    this.#ranges = []
    this.#first = 0
    this.#byteCount = 0
  }

  #advance (range: Range, count: number, isAcked: boolean): void {
    range.at += count
    this.#byteCount -= count
    if (range.at < range.end) return
    this.#budget.release(range.block, isAcked)
    // a reference that stays would keep the block alive, uncounted
    this.#ranges[this.#first++] = undefined
    if (this.#first === this.#ranges.length) {
      this.#ranges.length = 0
      this.#first = 0
    } else if (this.#first >= MAX_GONE_RANGES && this.#first * 2 >= this.#ranges.length) {
      this.#ranges.splice(0, this.#first)
      this.#first = 0
    }
  }
}

/** So many ranges that are done may stand before those that are not. */
const MAX_GONE_RANGES = 64
