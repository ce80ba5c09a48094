/** Frames to one message: a fresh block of memory, which is the link's and the retained data's from then on. */
import { DATA_HEADER_BYTES, encodeSessionFrame, FLAG_FIN, FRAME_TYPE, HEADER_BYTES, writeDataHeader } from './frames.ts'
import type { Frame } from './frames.ts'
import { SentBlock } from './retained.ts'
import type { BlockStore } from './retained.ts'

/** Bytes of an ack frame. */
export const ACK_BYTES = HEADER_BYTES + 16
/** Bytes of a fin frame. */
export const FIN_BYTES = HEADER_BYTES + 8
/** Bytes of a reset frame. */
export const RESET_BYTES = HEADER_BYTES + 2
/** Bytes of an open-credit frame. */
export const OPEN_CREDIT_BYTES = HEADER_BYTES + 4

const NOTHING = new SentBlock(new Uint8Array(0))

/** Fills one block at a time; the caller sees to it that there is room. */
export class FrameWriter {
  readonly #blocks: BlockStore
  #block = NOTHING
  #usedBytes = 0

  constructor (blocks: BlockStore) {
    this.#blocks = blocks
  }

  /** The block in work. */
  get block (): SentBlock {
    return this.#block
  }

  get usedBytes (): number {
    return this.#usedBytes
  }

  get roomBytes (): number {
    return this.#block.bytes.length - this.#usedBytes
  }

  /** Starts a message of at most `maxBytes`. */
  begin (maxBytes: number): void {
    this.#block = this.#blocks.take(maxBytes)
    this.#usedBytes = 0
  }

  /** The message; undefined when nothing was written. */
  finish (): Uint8Array | undefined {
    const { bytes } = this.#block
    const usedBytes = this.#usedBytes
    this.#block = NOTHING
    this.#usedBytes = 0
    if (usedBytes === 0) return undefined
    return usedBytes === bytes.length ? bytes : bytes.subarray(0, usedBytes)
  }

  /** Any frame but data. */
  frame (frame: Frame): void {
    const bytes = encodeSessionFrame(frame)
    this.#noteFrame()
    this.#block.bytes.set(bytes, this.#usedBytes)
    this.#usedBytes += bytes.length
  }

  /** An ack, without an object for it: there are as many of them as of messages. */
  ack (channelId: number, receivedBytes: number, limitBytes: number, isFinReceived: boolean): void {
    const { bytes } = this.#block
    const at = this.#usedBytes
    this.#noteFrame()
    bytes[at] = FRAME_TYPE.ack
    bytes[at + 1] = isFinReceived ? FLAG_FIN : 0
    bytes[at + 2] = 0
    bytes[at + 3] = 16
    writeU32(bytes, at + 4, channelId)
    writeU32(bytes, at + 8, Math.floor(receivedBytes / 0x1_0000_0000))
    writeU32(bytes, at + 12, receivedBytes % 0x1_0000_0000)
    writeU32(bytes, at + 16, Math.floor(limitBytes / 0x1_0000_0000))
    writeU32(bytes, at + 20, limitBytes % 0x1_0000_0000)
    this.#usedBytes += ACK_BYTES
  }

  /** Behind data, an acknowledgement of the data does not show that this frame has left: the block is not used again. */
  #noteFrame (): void {
    if (this.#block.holdCount > 0) this.#block.isSpoilt = true
  }

  /** The head of a data frame; the result is where its payload goes. */
  data (channelId: number, offsetBytes: number, payloadBytes: number): number {
    writeDataHeader(this.#block.bytes, this.#usedBytes, channelId, offsetBytes, payloadBytes)
    const at = this.#usedBytes + DATA_HEADER_BYTES
    this.#usedBytes = at + payloadBytes
    return at
  }
}

function writeU32 (target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
}
