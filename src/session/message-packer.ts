/** Frames to messages of one size for a link: one copy, so that there is not one encryption and one system call per frame. */

/** Bytes that wait for a link, in its own memory: what was added may be overwritten by its owner at once. */
export class MessagePacker {
  readonly #messageBytes: number
  /** Messages in order; all but the last are full. */
  #messages: Uint8Array[] = []
  /** How much of the last message is filled. */
  #lastUsedBytes = 0
  #byteCount = 0

  constructor (messageBytes: number) {
    this.#messageBytes = messageBytes
  }

  get byteCount (): number {
    return this.#byteCount
  }

  /** Copies `pieces`, `byteCount` bytes in all. */
  add (pieces: readonly Uint8Array[], byteCount: number): void {
    let leftBytes = byteCount
    for (const piece of pieces) {
      let at = 0
      while (at < piece.length) {
        const last = this.#roomy(leftBytes)
        const count = Math.min(piece.length - at, last.length - this.#lastUsedBytes)
        last.set(count === piece.length ? piece : piece.subarray(at, at + count), this.#lastUsedBytes)
        this.#lastUsedBytes += count
        at += count
        leftBytes -= count
      }
    }
    this.#byteCount += byteCount
  }

  /** The oldest bytes, at most one message; undefined when there are none. */
  shift (): Uint8Array | undefined {
    const isLast = this.#messages.length === 1
    const message = this.#messages.shift()
    if (message === undefined) return undefined
    const used = isLast ? message.subarray(0, this.#lastUsedBytes) : message
    this.#byteCount -= used.length
    return used
  }

  clear (): void {
    this.#messages = []
    this.#byteCount = 0
  }

  /** The message that takes the next bytes. One that begins while others wait will be filled; a lone one gets just its size. */
  #roomy (leftBytes: number): Uint8Array {
    const last = this.#messages.at(-1)
    if (last !== undefined && this.#lastUsedBytes < last.length) return last
    const isAlone = last === undefined && leftBytes < this.#messageBytes
    // not from Buffer's pool: small messages of many links would keep its blocks alive
    const fresh = Buffer.allocUnsafeSlow(isAlone ? leftBytes : this.#messageBytes)
    this.#messages.push(fresh)
    this.#lastUsedBytes = 0
    return fresh
  }
}
