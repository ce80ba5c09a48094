/** Bytes of a link to frames: incremental, bounded by one frame that is not data, without a copy of any payload. */
import { checkHeader, decodeBody, FIRST_SKIPPED_TYPE, FRAME_TYPE, HEADER_BYTES, MAX_BODY_BYTES, readU16, readU32, readU64, violation } from './frames.ts'
import type { Frame } from './frames.ts'

/** What a decoder calls, in wire order. A throw of CarrierError ends the link; it comes out of `push`. */
export interface FrameSink {
  onFrame: (frame: Frame) => void
  /** A data frame begins; its payload follows in one or more `onDataBytes`. */
  onData: (channelId: number, offsetBytes: number, payloadBytes: number) => void
  /** A view into what was pushed: valid during the call only. */
  onDataBytes: (bytes: Uint8Array) => void
}

const NO_BYTES = new Uint8Array(0)
/** What may come in after a decoder was held, before its link has stopped reading. */
const MAX_HELD_BYTES = 4 * 1024 * 1024

/** One per link and direction. `sink` may be exchanged from inside a callback; the next frame goes to the new one. */
export class FrameDecoder {
  sink: FrameSink
  /** Asked before each frame while set; false holds the decoder before it, until `release`. */
  gate: ((type: number) => boolean) | undefined
  /** What was pushed while the decoder was held, and the rest of the chunk in which that began. */
  #held: Uint8Array[] | undefined
  #heldBytes = 0
  #isStopped = false
  /** A header or body that came in pieces. */
  #stash = new Uint8Array(64)
  #stashedBytes = 0
  #phase: 'header' | 'body' = 'header'
  #neededBytes = HEADER_BYTES
  #payloadLeftBytes = 0
  #skipLeftBytes = 0
  #type = 0
  #flags = 0
  #lengthBytes = 0
  #channelId = 0

  constructor (sink: FrameSink) {
    this.sink = sink
  }

  /** Bytes kept between two pushes: one frame's at most, and what came while the decoder was held. */
  get bufferedBytes (): number {
    return this.#stashedBytes + this.#heldBytes
  }

  get isHeld (): boolean {
    return this.#held !== undefined
  }

  /** Goes on with what was held, without the gate. @throws as `push` */
  release (): void {
    this.gate = undefined
    const held = this.#held
    this.#held = undefined
    this.#heldBytes = 0
    if (held === undefined) return
    if (this.#phase === 'header') this.#takeHeader(this.#stash, 0)
    for (const chunk of held) this.push(chunk)
  }

  /** Drops everything from now on, also the rest of the chunk in work. */
  stop (): void {
    this.#isStopped = true
  }

  /** Decodes `chunk`, of which no view is kept. @throws CarrierError ERR_PROTOCOL, ERR_UNSUPPORTED_VERSION, or what the sink throws */
  push (chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length && !this.#isStopped) {
      if (this.#held !== undefined) {
        this.#held.push(copyOf(chunk, at))
        this.#heldBytes += chunk.length - at
        if (this.#heldBytes > MAX_HELD_BYTES) throw violation('too many bytes on a link that is not in use')
        return
      }
      const available = chunk.length - at
      if (this.#payloadLeftBytes > 0) {
        const count = Math.min(available, this.#payloadLeftBytes)
        this.#payloadLeftBytes -= count
        this.sink.onDataBytes(chunk.subarray(at, at + count))
        at += count
      } else if (this.#skipLeftBytes > 0) {
        const count = Math.min(available, this.#skipLeftBytes)
        this.#skipLeftBytes -= count
        at += count
      } else if (this.#stashedBytes === 0 && available >= this.#neededBytes) {
        const from = at
        at += this.#neededBytes
        this.#take(chunk, from)
      } else {
        const count = Math.min(available, this.#neededBytes - this.#stashedBytes)
        this.#keep(chunk.subarray(at, at + count))
        at += count
        if (this.#stashedBytes === this.#neededBytes) {
          this.#stashedBytes = 0
          this.#take(this.#stash, 0)
        }
      }
    }
  }

  #keep (bytes: Uint8Array): void {
    if (this.#stash.length < this.#neededBytes) {
      const larger = new Uint8Array(Math.min(MAX_BODY_BYTES, Math.max(this.#neededBytes, 1024)))
      larger.set(this.#stash.subarray(0, this.#stashedBytes))
      this.#stash = larger
    }
    this.#stash.set(bytes, this.#stashedBytes)
    this.#stashedBytes += bytes.length
  }

  /** `#neededBytes` bytes stand in `bytes` at `at`: a header, the offset of a data frame, or a body. */
  #take (bytes: Uint8Array, at: number): void {
    if (this.#phase === 'header') {
      if (this.gate?.(bytes[at] as number) === false) {
        this.#stash.set(bytes.subarray(at, at + HEADER_BYTES))
        this.#held = []
      } else this.#takeHeader(bytes, at)
      return
    }
    const neededBytes = this.#neededBytes
    this.#phase = 'header'
    this.#neededBytes = HEADER_BYTES
    if (this.#type === FRAME_TYPE.data) {
      this.#payloadLeftBytes = this.#lengthBytes - 8
      this.sink.onData(this.#channelId, readU64(bytes, at), this.#payloadLeftBytes)
    } else {
      this.sink.onFrame(decodeBody(this.#type, this.#flags, this.#channelId, bytes.subarray(at, at + neededBytes)))
    }
  }

  #takeHeader (bytes: Uint8Array, at: number): void {
    this.#type = bytes[at] as number
    this.#flags = bytes[at + 1] as number
    this.#lengthBytes = readU16(bytes, at + 2)
    this.#channelId = readU32(bytes, at + 4)
    if (this.#type >= FIRST_SKIPPED_TYPE) {
      this.#skipLeftBytes = this.#lengthBytes
      return
    }
    checkHeader(this.#type, this.#flags, this.#lengthBytes, this.#channelId)
    if (this.#lengthBytes === 0) {
      this.sink.onFrame(decodeBody(this.#type, this.#flags, this.#channelId, NO_BYTES))
      return
    }
    this.#phase = 'body'
    this.#neededBytes = this.#type === FRAME_TYPE.data ? 8 : this.#lengthBytes
  }
}

/** A plain copy of what follows `at`; `slice` of a Buffer would be a view. */
function copyOf (chunk: Uint8Array, at: number): Uint8Array {
  return new Uint8Array(at === 0 ? chunk : chunk.subarray(at))
}
