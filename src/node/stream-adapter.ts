/** A libp2p stream as {@link PeerStream}: pull-based reading, writing that waits, and an end only if the remote end sent one (I4). */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import { isSelectionRefused } from './eager-select.ts'
import type { PeerStream } from './types.ts'

/** Sizes of the read queue; the defaults are those of `limits.ts`. */
export interface PeerStreamInit { pauseAboveBytes?: number, resumeBelowBytes?: number }

/**
 * Takes over `stream`: nobody else may read, write or listen to it afterwards. Call it before the first `await` after
 * the stream appeared, so that no event is missed.
 */
export function createPeerStream (stream: Stream, init: PeerStreamInit = {}): PeerStream {
  const pauseAboveBytes = init.pauseAboveBytes ?? LIMITS.streamReadQueueBytes
  const resumeBelowBytes = init.resumeBelowBytes ?? LIMITS.streamReadResumeBytes
  const queue: Uint8Array[] = []
  let queuedBytes = 0
  // A FIN may have come before this adapter. On a stream that is open, only a FIN sets this status.
  let hasRemoteEnd = stream.status === 'open' && stream.remoteWriteStatus === 'closed'
  // Latched, because an abort throws away what the stream still holds and would make a truncated stream look drained.
  let isComplete = hasRemoteEnd && stream.readBufferLength === 0
  let isAborted = false
  let failure: CarrierError | undefined
  // A generator that has thrown says "done" when it is asked again, and that would look like an end.
  let readFailure: CarrierError | undefined
  let isReading = true
  // resume() delivers what is buffered, then opens the window: a pause from inside it would be undone and the window grow
  // past the buffer until the stream is reset, so it waits until resume() has returned
  let isResuming = false
  let mustPause = false
  let wakeReader: (() => void) | undefined
  let wakeWriter: (() => void) | undefined
  const { promise: closed, resolve: resolveClosed } = Promise.withResolvers<void>()

  function onMessage (event: StreamMessageEvent): void {
    noteCompletion()
    if (!isReading) return
    const data = event.data
    if (data instanceof Uint8Array) queue.push(data)
    else for (const chunk of data) queue.push(chunk)
    queuedBytes += data.byteLength
    if (queuedBytes > pauseAboveBytes) pauseStream()
    wakeReader?.()
  }

  function onRemoteCloseWrite (): void {
    hasRemoteEnd = true
    noteCompletion()
    wakeReader?.()
  }

  function onEnd (): void {
    noteCompletion()
    wakeReader?.()
  }

  /** Every byte before the FIN has left the libp2p stream (the one of a 'message' event has left it before the event). */
  function noteCompletion (): void {
    if (hasRemoteEnd && stream.status !== 'aborted' && stream.readBufferLength === 0) isComplete = true
  }

  function onDrain (): void { wakeWriter?.() }

  function onClose (event: StreamCloseEvent): void {
    settle(event.error)
  }

  function settle (cause: unknown): void {
    failure ??= lost(stream, cause)
    noteCompletion()
    // 'message' and 'end' stay: bytes before a FIN may still wait in the paused stream
    stream.removeEventListener('drain', onDrain)
    resolveClosed()
    wakeReader?.()
    wakeWriter?.()
  }

  function pauseStream (): void {
    if (isResuming) mustPause = true
    else if (stream.readStatus === 'readable') stream.pause()
  }

  function resumeStream (): void {
    if (isResuming || stream.readStatus !== 'paused') return
    isResuming = true
    try {
      stream.resume()
    } catch (err) {
      // the muxer below is gone, so the window update cannot be sent; what was received is in the queue by now
      settle(err)
    } finally {
      isResuming = false
    }
    if (!mustPause) return
    mustPause = false
    pauseStream()
  }

  async function * read (): AsyncGenerator<Uint8Array> {
    try {
      while (true) {
        if (isAborted && failure !== undefined) throw readFailure = failure
        const chunk = queue.shift()
        if (chunk !== undefined) {
          queuedBytes -= chunk.byteLength
          if (queuedBytes < resumeBelowBytes) resumeStream()
          yield chunk
          continue
        }
        resumeStream()
        if (queue.length > 0) continue
        if (isComplete) return
        if (failure !== undefined) throw readFailure = failure
        await new Promise<void>((resolve) => { wakeReader = resolve })
        wakeReader = undefined
      }
    } finally {
      isReading = false
      queue.length = 0
      queuedBytes = 0
      if (!isComplete && failure === undefined) {
        // the reader left early: what still comes is thrown away, the write side goes on
        stream.closeRead().catch(settle)
      }
    }
  }

  async function write (source: AsyncIterable<Uint8Array>): Promise<void> {
    const iterator = source[Symbol.asyncIterator]()
    try {
      while (true) {
        const next = await nextOrFailure(iterator)
        if (next.done === true) break
        // false: the muxer or the remote window is full. The 'drain' event is awaited, because onDrain() works only once.
        if (!stream.send(next.value)) await drained()
      }
      if (failure !== undefined) throw failure
      await stream.close()
    } catch (err) {
      const reason = failure ?? (err instanceof Error ? err : new Error(errorMessage(err)))
      abort(reason)
      void iterator.return?.()?.catch(() => { /* the source is told to stop; why it could not is its own affair */ })
      throw reason
    }
  }

  async function nextOrFailure (iterator: AsyncIterator<Uint8Array>): Promise<IteratorResult<Uint8Array>> {
    if (failure !== undefined) throw failure
    return new Promise((resolve, reject) => {
      wakeWriter = () => { if (failure !== undefined) reject(failure) }
      iterator.next().then(resolve, reject)
    })
  }

  async function drained (): Promise<void> {
    while (stream.writableNeedsDrain) {
      if (failure !== undefined) throw failure
      await new Promise<void>((resolve) => { wakeWriter = resolve })
    }
    if (failure !== undefined) throw failure
  }

  function abort (err: Error): void {
    isAborted = true
    failure ??= err instanceof CarrierError ? err : new CarrierError('ERR_LINK_LOST', `the stream was given up: ${err.message}`, { cause: err })
    stream.abort(err)
    wakeReader?.()
    wakeWriter?.()
  }

  stream.addEventListener('message', onMessage)
  stream.addEventListener('remoteCloseWrite', onRemoteCloseWrite)
  stream.addEventListener('end', onEnd)
  stream.addEventListener('drain', onDrain)
  stream.addEventListener('close', onClose)
  if (stream.status !== 'open') settle(undefined)

  const source = read()
  const next = source.next.bind(source)
  source.next = (): ReturnType<typeof next> => readFailure === undefined ? next() : Promise.reject(readFailure)

  return { source, sink: write, abort, closed }
}

function lost (stream: Stream, cause: unknown): CarrierError {
  if (isSelectionRefused(stream)) return new CarrierError('ERR_NOT_AVAILABLE', 'the device does not offer this to us', cause === undefined ? {} : { cause })
  const message = stream.status === 'reset' ? 'the other side reset the stream' : 'the connection below the stream is gone'
  return new CarrierError('ERR_LINK_LOST', message, cause === undefined ? {} : { cause })
}
