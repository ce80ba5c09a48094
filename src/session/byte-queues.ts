/** Bytes that wait: to be sent (in the writer's own buffers) and to be read (packed when they are small). */

/** Bytes of one channel on their way out, in the writer's own buffers until they are copied into a message. */
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

  /** Copies `count` bytes, which must be there, to `target` and drops them. */
  copy (target: Uint8Array, at: number, count: number): void {
    let copiedBytes = 0
    while (copiedBytes < count) {
      const chunk = this.#chunks[this.#first] as Uint8Array
      const leftBytes = count - copiedBytes
      const availableBytes = chunk.length - this.#firstUsedBytes
      if (availableBytes > leftBytes) {
        target.set(chunk.subarray(this.#firstUsedBytes, this.#firstUsedBytes + leftBytes), at + copiedBytes)
        this.#firstUsedBytes += leftBytes
        copiedBytes = count
      } else {
        target.set(this.#firstUsedBytes === 0 ? chunk : chunk.subarray(this.#firstUsedBytes), at + copiedBytes)
        copiedBytes += availableBytes
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

/** A block for pieces of bulk: about what one read of a link brings, so that a reader gets it in one go. */
const MAX_BLOCK_BYTES = 65_536
/** Blocks that wait to be used again; beyond, memory goes back. */
const MAX_KEPT_BLOCKS = 16

/** Memory for bytes that came in, of all channels of a session: a reader who says that it is done with a block spares a new one. */
export class ReceiveBlocks {
  #free: Uint8Array[] = []

  /** A block of exactly `byteCount` bytes of any content. */
  take (byteCount: number): Uint8Array {
    return (byteCount === MAX_BLOCK_BYTES ? this.#free.pop() : undefined) ?? new Uint8Array(Buffer.allocUnsafeSlow(byteCount).buffer)
  }

  /** `bytes` is what a channel handed to its reader, and nobody needs it any more. */
  give (bytes: Uint8Array): void {
    if (bytes.buffer.byteLength !== MAX_BLOCK_BYTES || this.#free.length >= MAX_KEPT_BLOCKS) return
    this.#free.push(bytes.length === MAX_BLOCK_BYTES ? bytes : new Uint8Array(bytes.buffer))
  }

  /** An idle session keeps none. */
  clear (): void {
    this.#free = []
  }
}
/** From this size on a piece is bulk. */
const BULK_PIECE_BYTES = 4_096

/**
 * Bytes of one channel that its reader has not got yet, copied into blocks: many pieces become few, and nothing of what
 * a link hands up is kept alive. Memory stays proportional to the byte count whatever the peer's frame sizes are (I8).
 */
export class ReceiveQueue {
  readonly #blocks: ReceiveBlocks
  #chunks: Uint8Array[] = []
  /** Block that takes the next bytes, and how much of it is filled; it comes after all chunks. */
  #block: Uint8Array | undefined
  #blockUsedBytes = 0
  #byteCount = 0

  constructor (blocks: ReceiveBlocks) {
    this.#blocks = blocks
  }

  get byteCount (): number {
    return this.#byteCount
  }

  /** A whole block waits: handing it over later gains nothing. */
  get hasFullBlock (): boolean {
    return this.#chunks.length > 0
  }

  /** `roomBytes`: what the channel may bring before it gets more credit, `bytes` included. No block is larger. */
  add (bytes: Uint8Array, roomBytes: number): void {
    this.#byteCount += bytes.length
    let at = 0
    while (at < bytes.length) {
      if (this.#block === undefined) {
        this.#block = this.#blocks.take(this.#nextBlockBytes(bytes.length - at, roomBytes))
        this.#blockUsedBytes = 0
      }
      const count = Math.min(bytes.length - at, this.#block.length - this.#blockUsedBytes)
      this.#block.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#blockUsedBytes)
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

  /** Grows with what waits already, so that few bytes cost little and many cost few blocks. */
  #nextBlockBytes (leftBytes: number, roomBytes: number): number {
    const wantedBytes = leftBytes >= BULK_PIECE_BYTES ? roomBytes : Math.max(this.#byteCount, 64)
    return Math.min(MAX_BLOCK_BYTES, Math.max(leftBytes, wantedBytes))
  }

  #seal (): void {
    if (this.#block === undefined) return
    this.#chunks.push(this.#blockUsedBytes === this.#block.length ? this.#block : this.#block.subarray(0, this.#blockUsedBytes))
    this.#block = undefined
  }
}
