/** Memory that may be promised to peers: every byte of credit comes out of a pool before it is granted (I8). */

/** A bounded amount of bytes, inside a larger one when there is a parent. */
export class CreditPool {
  readonly limitBytes: number
  readonly #parent: CreditPool | undefined
  #retained: CreditPool | undefined
  #usedBytes = 0

  constructor (limitBytes: number, parent?: CreditPool) {
    this.limitBytes = limitBytes
    this.#parent = parent
  }

  /** An equal pool, for what was sent and not acknowledged. */
  get retained (): CreditPool {
    this.#retained ??= new CreditPool(this.limitBytes, this.#parent?.retained)
    return this.#retained
  }

  get usedBytes (): number {
    return this.#usedBytes
  }

  /** What `take` would give at most. */
  get freeBytes (): number {
    const own = this.limitBytes - this.#usedBytes
    return this.#parent === undefined ? own : Math.min(own, this.#parent.freeBytes)
  }

  /** Takes exactly `bytes` or nothing. */
  take (bytes: number): boolean {
    if (bytes > this.freeBytes) return false
    this.#parent?.take(bytes)
    this.#usedBytes += bytes
    return true
  }

  /** Gives back what was taken. */
  give (bytes: number): void {
    this.#parent?.give(bytes)
    this.#usedBytes -= bytes
  }
}
