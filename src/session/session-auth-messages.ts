/** Messages of auth in a session: a number and a frame of `/carrier/auth/1.0.0`, in pieces. PROTOCOL.md "Auth in a session". */
import { LIMITS } from '../base/index.ts'
import type { CarrierError } from '../base/index.ts'
import { violation } from './frames.ts'

const NUMBER_BYTES = 4
/** Every piece but the last has so many bytes. */
const PIECE_BYTES = LIMITS.sessionFramePayloadBytes
/** The last two frames of one end may come at once. */
const MAX_UNREAD = 2

/** The pieces of one message, each with whether it is the last. */
export function splitAuthMessage (number: number, frame: Uint8Array): Array<[piece: Uint8Array, isLast: boolean]> {
  const message = new Uint8Array(NUMBER_BYTES + frame.length)
  new DataView(message.buffer).setUint32(0, number)
  message.set(frame, NUMBER_BYTES)
  const pieces: Array<[Uint8Array, boolean]> = []
  for (let at = 0; at < message.length; at += PIECE_BYTES) pieces.push([message.subarray(at, at + PIECE_BYTES), at + PIECE_BYTES >= message.length])
  return pieces
}

/** Joins the pieces that come on one link; holds one message at most. */
export class AuthPieces {
  #pieces: Uint8Array[] = []
  #byteCount = 0

  /** The message, with its number, when `piece` was its last one. @throws CarrierError ERR_PROTOCOL before anything too long is kept */
  add (piece: Uint8Array, isLast: boolean): Uint8Array | undefined {
    // full pieces only: else a message could be as many objects as it has bytes
    if (!isLast && piece.length !== PIECE_BYTES) throw violation(`a piece of an auth message with ${piece.length} bytes that is not the last`)
    if (this.#byteCount + piece.length > LIMITS.friendFrameBytes) throw violation(`an auth message of more than ${LIMITS.friendFrameBytes} bytes`)
    this.#pieces.push(piece)
    this.#byteCount += piece.length
    if (!isLast) return undefined
    const message = new Uint8Array(Buffer.concat(this.#pieces))
    this.#pieces = []
    this.#byteCount = 0
    if (message.length <= NUMBER_BYTES) throw violation('an auth message without a frame')
    return message
  }
}

/** Frames of one exchange, from the link to whoever reads them one by one. */
export class AuthInbox {
  readonly #frames: Uint8Array[] = []
  #reader: { take: (frame: Uint8Array) => void, fail: (err: CarrierError) => void } | undefined
  #failure: CarrierError | undefined

  /** @throws CarrierError ERR_PROTOCOL for frames that nobody can have asked for */
  put (frame: Uint8Array): void {
    const reader = this.#reader
    if (reader !== undefined) {
      this.#reader = undefined
      reader.take(frame)
      return
    }
    if (this.#frames.length >= MAX_UNREAD) throw violation('auth messages out of turn')
    this.#frames.push(frame)
  }

  /** The next frame. For one reader at a time. @throws CarrierError ERR_PROTOCOL when it is longer, or what `fail` was given */
  async next (maxBytes: number): Promise<Uint8Array> {
    if (this.#failure !== undefined) throw this.#failure
    const frame = this.#frames.shift() ?? await new Promise<Uint8Array>((resolve, reject) => { this.#reader = { take: resolve, fail: reject } })
    if (frame.length > maxBytes) throw violation(`an auth message of ${frame.length} bytes`)
    return frame
  }

  /** Whoever reads, or will, fails. */
  fail (err: CarrierError): void {
    this.#failure = err
    this.#reader?.fail(err)
    this.#reader = undefined
  }
}
