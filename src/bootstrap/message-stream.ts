/** Length-prefixed messages on a libp2p stream, bounded before they are buffered; what follows a message stays in the stream. */
import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import { CarrierError, concatBytes, encodeFrame } from '../base/index.ts'

/**
 * Reads one message and leaves the stream paused, with all later bytes still in it.
 *
 * @throws CarrierError ERR_PROTOCOL for a longer message than `maxBytes` or an end inside it, ERR_LINK_LOST when the stream
 *   fails, and the signal's reason
 */
export async function readMessage (stream: Stream, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  let received: Uint8Array = new Uint8Array(0)

  function onMessage (event: StreamMessageEvent): void {
    received = concatBytes([received, event.data.subarray()])
    try {
      const header = readLength(received)
      if (header === undefined) return
      if (header.length > maxBytes) throw new CarrierError('ERR_PROTOCOL', `a message of ${header.length} bytes is over the limit of ${maxBytes}`)
      const end = header.prefixBytes + header.length
      if (received.length < end) return
      stream.removeEventListener('message', onMessage)
      pauseStream(stream)
      // a FIN that came with the message has already closed the read side: then nothing can follow it
      if (received.length > end && isStreamReadable(stream)) stream.unshift(received.subarray(end))
      resolve(received.subarray(header.prefixBytes, end))
    } catch (err) {
      reject(err)
    }
  }
  function onEnd (): void { reject(new CarrierError('ERR_PROTOCOL', 'the stream ended before a whole message came')) }
  function onClose (): void { reject(new CarrierError('ERR_LINK_LOST', 'the stream was lost before a whole message came')) }
  function onAbort (): void { reject(signal.reason as Error) }

  signal.addEventListener('abort', onAbort, { once: true })
  stream.addEventListener('end', onEnd)
  stream.addEventListener('close', onClose)
  stream.addEventListener('message', onMessage)
  if (stream.readStatus === 'paused') stream.resume()
  if (stream.readStatus === 'closed' && stream.readBufferLength === 0) onEnd()
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', onAbort)
    stream.removeEventListener('end', onEnd)
    stream.removeEventListener('close', onClose)
    stream.removeEventListener('message', onMessage)
  }
}

/** Sends one message. Answers are far smaller than a stream window, so nothing waits. @throws what `stream.send` throws */
export function sendMessage (stream: Stream, body: Uint8Array): void {
  stream.send(encodeFrame(body))
}

/** Pauses a stream unless its read side is over, where libp2p would throw. */
export function pauseStream (stream: Stream): void {
  if (isStreamReadable(stream)) stream.pause()
}

function isStreamReadable (stream: Stream): boolean {
  return stream.readStatus === 'readable' || stream.readStatus === 'paused'
}

function readLength (bytes: Uint8Array): { length: number, prefixBytes: number } | undefined {
  let length = 0
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0
    if (index >= 4) throw new CarrierError('ERR_PROTOCOL', 'a message length is malformed')
    length += (byte & 0x7f) * 128 ** index
    if (byte < 0x80) return { length, prefixBytes: index + 1 }
  }
  return undefined
}
