/** Frames to pieces for a link: headers come from a slab, payloads are views of the writer's own buffers. */
import type { ChannelCore } from './channel-core.ts'
import { DATA_HEADER_BYTES, encodeSessionFrame, writeDataHeader } from './frames.ts'
import type { Frame } from './frames.ts'

const SLAB_BYTES = 4096

/** Collects the pieces of one write. */
export class FrameWriter {
  #out: Uint8Array[] = []
  #byteCount = 0
  #slab = new Uint8Array(0)
  #slabUsedBytes = 0

  get byteCount (): number {
    return this.#byteCount
  }

  /** Starts a new list. */
  begin (out: Uint8Array[]): void {
    this.#out = out
    this.#byteCount = 0
  }

  frame (frame: Frame): void {
    const bytes = encodeSessionFrame(frame)
    this.#out.push(bytes)
    this.#byteCount += bytes.length
  }

  /** Moves `payloadBytes` from the channel's queue into a data frame. */
  data (channel: ChannelCore, payloadBytes: number): void {
    if (this.#slabUsedBytes + DATA_HEADER_BYTES > this.#slab.length) {
      this.#slab = new Uint8Array(SLAB_BYTES)
      this.#slabUsedBytes = 0
    }
    const at = this.#slabUsedBytes
    this.#slabUsedBytes += DATA_HEADER_BYTES
    writeDataHeader(this.#slab, at, channel.id, channel.sentBytes, payloadBytes)
    this.#out.push(this.#slab.subarray(at, at + DATA_HEADER_BYTES))
    channel.sendQueue.take(payloadBytes, this.#out)
    this.#byteCount += DATA_HEADER_BYTES + payloadBytes
  }
}
