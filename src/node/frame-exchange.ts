/** Request/response over a byte pipe: it-pipe joins a reader and a writer of frames with the stream. */
import { pipe } from 'it-pipe'
import { createFrameReader, encodeFrame } from '../base/index.ts'
import type { ByteDuplex } from './types.ts'

/** Both directions of a short conversation in frames. */
export interface FrameExchange {
  /** The next frame; undefined when the other side ended between frames. @throws as the source, ERR_PROTOCOL for a frame over `maxBytes` */
  read: (maxBytes: number) => Promise<Uint8Array | undefined>
  /** Queues one frame; ignored after the end. For conversations of few, small frames: nothing bounds the queue. */
  write: (body: Uint8Array) => void
  /** Sends what is queued, then a half-close. @throws what the sink throws */
  end: () => Promise<void>
  /** As `end`, for those that do not wait for it. */
  finish: () => void
}

/** Starts the conversation; the caller keeps the stream and aborts it when the conversation takes too long. */
export function createFrameExchange (stream: ByteDuplex): FrameExchange {
  const queue: Uint8Array[] = []
  let hasEnded = false
  let wake: (() => void) | undefined

  async function * outgoing (): AsyncGenerator<Uint8Array> {
    while (true) {
      const frame = queue.shift()
      if (frame !== undefined) {
        yield frame
        continue
      }
      if (hasEnded) return
      await new Promise<void>((resolve) => { wake = resolve })
    }
  }

  const reader = createFrameReader(stream.source)
  const written = pipe(outgoing(), stream.sink)
  // who waits for end() learns of the failure; for all others the reader fails as well
  written.catch(() => {})

  function finish (): void {
    hasEnded = true
    wake?.()
  }

  return {
    read: async (maxBytes) => reader.read(maxBytes),
    write: (body) => {
      if (hasEnded) return
      queue.push(encodeFrame(body))
      wake?.()
    },
    end: async () => {
      finish()
      await written
    },
    finish
  }
}
