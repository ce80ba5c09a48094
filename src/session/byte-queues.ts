/** Bytes that wait: to be sent (never copied) and to be read (packed when they are small). */

/** Bytes of one channel on their way out, in the writer's own buffers. */
export class SendQueue {
  #chunks: Uint8Array[] = []
  /** Index of the first chunk that still has bytes, and how many of it are gone. */
  #first = 0
  #firstUsedBytes = 0
  #byteCount = 0

  get byteCount (): number {
    return this.#byteCount
  }

  add (chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#byteCount += chunk.length
  }

  /** Moves exactly `count` bytes, which must be there, to `out` as views. */
  take (count: number, out: Uint8Array[]): void {
    let left = count
    while (left > 0) {
      const chunk = this.#chunks[this.#first] as Uint8Array
      const available = chunk.length - this.#firstUsedBytes
      if (available > left) {
        out.push(chunk.subarray(this.#firstUsedBytes, this.#firstUsedBytes + left))
        this.#firstUsedBytes += left
        left = 0
      } else {
        out.push(this.#firstUsedBytes === 0 ? chunk : chunk.subarray(this.#firstUsedBytes))
        left -= available
        this.#first++
        this.#firstUsedBytes = 0
      }
    }
    this.#byteCount -= count
    if (this.#first === this.#chunks.length) {
      this.#chunks = []
      this.#first = 0
    }
  }

  clear (): void {
    this.#chunks = []
    this.#first = 0
    this.#firstUsedBytes = 0
    this.#byteCount = 0
  }
}

/** A view may keep at most this many times its own size alive; smaller views are copied. */
const MAX_RETENTION = 4
/** Below this, bytes share a block: a peer that sends one byte per frame must not cost an object per byte. */
const PACK_BELOW_BYTES = 4096
const MAX_BLOCK_BYTES = 16_384

/**
 * Bytes of one channel that its reader has not asked for. Memory stays proportional to the byte count whatever the
 * peer's frame sizes are (I8).
 */
export class ReceiveQueue {
  #chunks: Uint8Array[] = []
  /** Block that takes small pieces, and how much of it is filled; it comes after all chunks. */
  #block: Uint8Array | undefined
  #blockUsedBytes = 0
  #byteCount = 0

  get byteCount (): number {
    return this.#byteCount
  }

  add (bytes: Uint8Array): void {
    this.#byteCount += bytes.length
    if (bytes.length >= PACK_BELOW_BYTES && bytes.length * MAX_RETENTION >= bytes.buffer.byteLength) {
      this.#seal()
      this.#chunks.push(bytes)
      return
    }
    let at = 0
    while (at < bytes.length) {
      if (this.#block === undefined) {
        // grows with what waits already, so that few bytes cost little and many cost few blocks
        this.#block = new Uint8Array(Math.min(MAX_BLOCK_BYTES, Math.max(bytes.length - at, this.#byteCount, 64)))
        this.#blockUsedBytes = 0
      }
      const count = Math.min(bytes.length - at, this.#block.length - this.#blockUsedBytes)
      this.#block.set(bytes.subarray(at, at + count), this.#blockUsedBytes)
      this.#blockUsedBytes += count
      at += count
      if (this.#blockUsedBytes === this.#block.length) this.#seal()
    }
  }

  /** The oldest bytes; undefined when there are none. */
  shift (): Uint8Array | undefined {
    if (this.#chunks.length === 0) this.#seal()
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) this.#byteCount -= chunk.length
    return chunk
  }

  clear (): void {
    this.#chunks = []
    this.#block = undefined
    this.#byteCount = 0
  }

  #seal (): void {
    if (this.#block === undefined) return
    this.#chunks.push(this.#block.subarray(0, this.#blockUsedBytes))
    this.#block = undefined
  }
}
