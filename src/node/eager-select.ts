/**
 * Naming the protocol of a stream without waiting for the answer: what is said next travels in the same flight, and the
 * answer is taken off when it comes. One round trip less for each stream, and multistream-select 1.0 as everybody speaks it.
 */
import { StreamMessageEvent, UnsupportedProtocolError } from '@libp2p/interface'
import type { MessageStream } from '@libp2p/interface'
import { CarrierError, concatBytes } from '../base/index.ts'
import { encodeLine, MULTISTREAM_HEADER, readLine } from './protocol-negotiation.ts'

/** Streams whose other end did not take the protocol. */
const refused = new WeakSet<MessageStream>()

/** True when the stream ended because its other end said no to the protocol: `na`, or a reset in place of an answer. */
export function isSelectionRefused (stream: MessageStream): boolean {
  return refused.has(stream)
}

/**
 * Sends the header and the name, and takes the answer to both off what comes in; the stream may be used at once.
 * To be called before anybody else listens to the stream. Another answer than yes aborts it: UnsupportedProtocolError for
 * `na`, CarrierError ERR_PROTOCOL for what is no answer. When the answer stays out, the user's own deadline ends the stream.
 *
 * @throws StreamStateError when the stream is closed already
 */
export function selectAtOnce (stream: MessageStream, protocol: string): void {
  const expected = [MULTISTREAM_HEADER, protocol]
  let received: Uint8Array = new Uint8Array(0)

  function stop (): void {
    stream.removeEventListener('message', onMessage)
    stream.removeEventListener('remoteCloseWrite', onRemoteEnd)
    stream.removeEventListener('close', onClose)
  }

  /** The first listener: the others do not see the answer. A line has at most 1 KiB, so this much is kept. */
  function onMessage (event: StreamMessageEvent): void {
    event.stopImmediatePropagation()
    received = concatBytes([received, ...(event.data instanceof Uint8Array ? [event.data] : event.data)])
    try {
      for (let parsed = readLine(received); parsed !== undefined; parsed = readLine(received)) {
        received = received.subarray(parsed.bytes)
        takeLine(parsed.line)
        if (expected.length === 0) {
          stop()
          deliver(received)
          return
        }
      }
    } catch (err) {
      stop()
      stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', String(err)))
    }
  }

  /** What came behind the answer goes on as if it had come alone: at once, since an end in the same chunk closes a stream whose other half is closed. */
  function deliver (rest: Uint8Array): void {
    if (rest.length === 0) return
    if (stream.listenerCount('message') === 0) stream.unshift(rest)
    else stream.dispatchEvent(new StreamMessageEvent(rest))
  }

  /** @throws UnsupportedProtocolError, CarrierError ERR_PROTOCOL */
  function takeLine (line: string): void {
    if (line === expected[0]) expected.shift()
    else if (line === 'na' && expected.length === 1) {
      refused.add(stream)
      throw new UnsupportedProtocolError(`Protocol selection failed - could not negotiate ${protocol}`)
    } else throw new CarrierError('ERR_PROTOCOL', 'the other side answered the choice of a protocol with something else')
  }

  function onRemoteEnd (): void {
    // while the stream is paused the answer may still be in it
    if (stream.readBufferLength > 0) return
    stop()
    stream.abort(new CarrierError('ERR_PROTOCOL', 'the other side ended the stream before it took the protocol'))
  }

  function onClose (): void {
    stop()
    if (stream.status === 'reset') refused.add(stream)
  }

  stream.addEventListener('message', onMessage)
  stream.addEventListener('remoteCloseWrite', onRemoteEnd)
  stream.addEventListener('close', onClose)
  stream.send(concatBytes([encodeLine(MULTISTREAM_HEADER), encodeLine(protocol)]))
}
