/** Reads a short answer from the head of a socket that is somebody else's afterwards: bounded, and not a byte too many. */
import type { Socket } from 'node:net'
import { CarrierError } from '../base/index.ts'

/** Reads for as long as a handshake lasts; `release` before the socket is given on. */
export interface AnswerReader {
  /** Exactly `count` bytes. @throws CarrierError ERR_PROXY when the socket ends before */
  exactly: (count: number) => Promise<Buffer>
  /**
   * Everything up to `isComplete`, which gets all bytes so far and says how many belong to the answer; the others stay in the socket.
   *
   * @throws what `isComplete` throws; CarrierError ERR_PROXY when the socket ends before, or after `maxBytes` without an end
   */
  until: (isComplete: (bytes: Buffer) => number | undefined, maxBytes: number) => Promise<Buffer>
  release: () => void
}

/** Creates a reader of a socket that does not flow. Whoever destroys the socket ends a read that waits. */
export function createAnswerReader (socket: Socket): AnswerReader {
  let wake = (): void => {}
  let failure: Error | undefined

  const onReadable = (): void => { wake() }
  const onError = (err: Error): void => {
    failure ??= err
    wake()
  }
  const onEnd = (): void => { onError(new CarrierError('ERR_PROXY', 'it ended the connection')) }
  socket.on('readable', onReadable)
  socket.on('end', onEnd)
  socket.on('close', onEnd)
  socket.on('error', onError)

  async function until (isComplete: (bytes: Buffer) => number | undefined, maxBytes: number): Promise<Buffer> {
    let bytes: Buffer = Buffer.alloc(0)
    for (;;) {
      const chunk = socket.read() as Buffer | null
      if (chunk !== null) {
        bytes = Buffer.concat([bytes, chunk])
        const count = isComplete(bytes)
        if (count !== undefined) {
          if (count < bytes.length) socket.unshift(bytes.subarray(count))
          return bytes.subarray(0, count)
        }
        if (bytes.length >= maxBytes) throw new CarrierError('ERR_PROXY', `its answer has no end within ${maxBytes} bytes`)
        continue
      }
      if (failure !== undefined) throw failure
      await new Promise<void>((resolve) => { wake = resolve })
    }
  }

  return {
    until,
    exactly: async (count) => until((bytes) => bytes.length >= count ? count : undefined, count),
    release: () => {
      socket.removeListener('readable', onReadable)
      socket.removeListener('end', onEnd)
      socket.removeListener('close', onEnd)
      socket.removeListener('error', onError)
    }
  }
}
