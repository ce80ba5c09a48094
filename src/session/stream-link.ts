/** The stream link: a session over one libp2p stream, on whatever connection that is. */
import { pipe } from 'it-pipe'
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import type { Path, PeerStream } from '../node/index.ts'
import type { Link, LinkHandler } from './link.ts'
import { MessagePacker } from './message-packer.ts'

/**
 * Bytes of one libp2p message. With 12 bytes of yamux and 18 of Noise it becomes a part of 65,507 bytes on a relayed path,
 * which with yamux' and Noise's share of the outer connection fills one record of 65,519 there: no record is wasted on a
 * remainder, whether the path is relayed or not.
 */
const MESSAGE_BYTES = 65_477

/** Makes a link of an authenticated stream; the link owns the stream from now on. */
export function createStreamLink (stream: PeerStream, way: { path: Path, relayPeerId: string | undefined }): Link {
  let handler: LinkHandler | undefined
  let state: 'idle' | 'open' | 'ending' | 'closed' = 'idle'
  const packer = new MessagePacker(MESSAGE_BYTES)
  let isDrainOwed = false
  let wakeSender: (() => void) | undefined
  let sending: Promise<void> = Promise.resolve()

  async function * outgoing (): AsyncGenerator<Uint8Array> {
    while (true) {
      const message = packer.shift()
      if (message === undefined) {
        if (state !== 'open') return
        await new Promise<void>((resolve) => { wakeSender = resolve })
        continue
      }
      if (isDrainOwed && packer.byteCount * 2 <= LIMITS.sessionLinkBufferBytes) {
        isDrainOwed = false
        handler?.onDrain()
      }
      yield message
    }
  }

  async function incoming (source: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of source) {
      if (state === 'closed') return
      handler?.onBytes(chunk)
    }
  }

  function finish (err: CarrierError): void {
    if (state === 'closed') return
    state = 'closed'
    packer.clear()
    wakeSender?.()
    stream.abort(err)
    handler?.onClosed(err)
  }

  function lost (cause: unknown): void {
    if (cause instanceof CarrierError && cause.code === 'ERR_LINK_LOST') finish(cause)
    else finish(new CarrierError('ERR_LINK_LOST', `the link to the peer was lost: ${errorMessage(cause)}`, { cause }))
  }

  return {
    kind: 'stream',
    path: way.path,
    relayPeerId: way.relayPeerId,
    closed: stream.closed,
    open: (next) => {
      handler = next
      state = 'open'
      sending = pipe(outgoing(), stream.sink).then(undefined, lost)
      pipe(stream.source, incoming).then(() => { lost(new CarrierError('ERR_LINK_LOST', 'the other side closed the link')) }, lost)
    },
    write: (pieces, byteCount) => {
      if (state !== 'open') return true
      packer.add(pieces, byteCount)
      wakeSender?.()
      wakeSender = undefined
      isDrainOwed ||= packer.byteCount >= LIMITS.sessionLinkBufferBytes
      return !isDrainOwed
    },
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
