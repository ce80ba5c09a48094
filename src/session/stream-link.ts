/** The stream link: a session over one libp2p stream, on whatever connection that is. */
import { pipe } from 'it-pipe'
import { CarrierError, errorMessage } from '../base/index.ts'
import type { Path, PeerStream } from '../node/index.ts'
import type { Link, LinkHandler } from './link.ts'

/**
 * Bytes of one libp2p message. With 12 bytes of yamux and 18 of Noise it becomes a part of 65,507 bytes on a relayed path,
 * which with yamux' and Noise's share of the outer connection fills one record of 65,519 there: no record is wasted on a
 * remainder, whether the path is relayed or not.
 */
const MESSAGE_BYTES = 65_477
/** Messages that may wait for the stream: one is being written, the next is ready. */
const QUEUED_MESSAGES = 2

/** Makes a link of an authenticated stream; the link owns the stream from now on. */
export function createStreamLink (stream: PeerStream, way: { path: Path, relayPeerId: string | undefined }): Link {
  let handler: LinkHandler | undefined
  let state: 'idle' | 'open' | 'ending' | 'closed' = 'idle'
  const queue: Uint8Array[] = []
  let isDrainOwed = false
  let wakeSender: (() => void) | undefined
  let pausing: PromiseWithResolvers<undefined> | undefined
  let sending: Promise<void> = Promise.resolve()

  async function * outgoing (): AsyncGenerator<Uint8Array> {
    while (true) {
      const message = queue.shift()
      if (message === undefined) {
        if (state !== 'open') return
        await new Promise<void>((resolve) => { wakeSender = resolve })
        continue
      }
      if (isDrainOwed && queue.length < QUEUED_MESSAGES) {
        isDrainOwed = false
        handler?.onDrain()
      }
      yield message
    }
  }

  async function incoming (source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of source) {
      if (pausing !== undefined) await pausing.promise
      if (state === 'closed') return
      handler?.onBytes(chunk)
    }
  }

  function resume (): void {
    pausing?.resolve(undefined)
    pausing = undefined
  }

  function finish (err: CarrierError): void {
    if (state === 'closed') return
    state = 'closed'
    queue.length = 0
    wakeSender?.()
    resume()
    stream.abort(err)
    handler?.onClosed(err)
  }

  function lost (cause: unknown): void {
    // one that never was a link says so itself
    if (cause instanceof CarrierError && (cause.code === 'ERR_LINK_LOST' || cause.code === 'ERR_NOT_AVAILABLE')) finish(cause)
    else finish(new CarrierError('ERR_LINK_LOST', `the link to the peer was lost: ${errorMessage(cause)}`, { cause }))
  }

  return {
    kind: 'stream',
    path: way.path,
    relayPeerId: way.relayPeerId,
    messageBytes: MESSAGE_BYTES,
    closed: stream.closed,
    open: (next) => {
      handler = next
      state = 'open'
      sending = pipe(outgoing(), stream.sink).then(undefined, lost)
      pipe(stream.source, incoming).then(() => { lost(new CarrierError('ERR_LINK_LOST', 'the other side closed the link')) }, lost)
    },
    write: (message) => {
      if (state !== 'open') return true
      queue.push(message)
      wakeSender?.()
      wakeSender = undefined
      isDrainOwed ||= queue.length >= QUEUED_MESSAGES
      return !isDrainOwed
    },
    pause: () => { pausing ??= Promise.withResolvers<undefined>() },
    resume,
    close: async () => {
      if (state === 'open') {
        state = 'ending'
        wakeSender?.()
      }
      await sending
    },
    abort: finish
  }
}
