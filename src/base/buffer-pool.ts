/** Large read buffers that busy connections share, so that memory follows what is copied and not how many connections there are. */

/** A bounded stock of buffers of one size. */
export interface BufferPool {
  readonly bufferBytes: number
  /** Undefined when all are in use. */
  take: () => Uint8Array | undefined
  /** Gives one back; nothing may write to it or send from it any more. */
  give: (buffer: Uint8Array) => void
  /** Bytes of buffers that are in use. */
  readonly usedBytes: number
}

/** Creates a pool; buffers are made when first needed and a few unused ones are kept. */
export function createBufferPool (init: { bufferBytes: number, maxBytes: number }): BufferPool {
  const { bufferBytes } = init
  const unused: Uint8Array[] = []
  let usedCount = 0
  return {
    bufferBytes,
    take: () => {
      if ((usedCount + 1) * bufferBytes > init.maxBytes) return undefined
      usedCount++
      return unused.pop() ?? new Uint8Array(Buffer.allocUnsafeSlow(bufferBytes).buffer)
    },
    give: (buffer) => {
      usedCount--
      if (unused.length < KEPT_COUNT) unused.push(buffer)
    },
    get usedBytes () { return usedCount * bufferBytes }
  }
}

const KEPT_COUNT = 64
