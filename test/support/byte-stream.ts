/** Reproducible bytes that no compression makes small, and what the two ends of a pipe say about them. */
import { createCipheriv, createHash } from 'node:crypto'
import type { Hash } from 'node:crypto'

/** Gives the next `byteCount` bytes of the stream that `seed` names, in fresh memory. */
export function createByteSource (seed: string): (byteCount: number) => Buffer {
  const key = createHash('sha256').update(seed).digest()
  const cipher = createCipheriv('aes-128-ctr', key.subarray(0, 16), key.subarray(16))
  return (byteCount) => cipher.update(Buffer.alloc(byteCount))
}

/** A small repeatable source of chance in [0, 1) (mulberry32). */
export function createChance (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Bytes that passed one point: how many, which, and the longest time without any. */
export class ByteMeter {
  bytes = 0
  /** The longest time between two pieces, milliseconds, and how many bytes had come before it. */
  longestGapMs = 0
  longestGapAtBytes = 0
  readonly #hash: Hash = createHash('sha256')
  #lastMs: number | undefined

  note (chunk: Uint8Array): void {
    const nowMs = performance.now()
    const gapMs = this.#lastMs === undefined ? 0 : nowMs - this.#lastMs
    if (gapMs > this.longestGapMs) {
      this.longestGapMs = gapMs
      this.longestGapAtBytes = this.bytes
    }
    this.#lastMs = nowMs
    this.bytes += chunk.length
    this.#hash.update(chunk)
  }

  /** The next gap begins only with the next piece: whoever paused on purpose is not stalled. */
  forgive (): void {
    this.#lastMs = undefined
  }

  /** Once, at the end. */
  sha256 (): string {
    return this.#hash.digest('hex')
  }
}
