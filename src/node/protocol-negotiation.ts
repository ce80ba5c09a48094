/**
 * The answering side of multistream-select 1.0 with a verdict for each name, so that a refused protocol and one that
 * does not exist are the same reset (I3), and nobody can list what a node speaks.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { CarrierError, concatBytes, encodeVarint, utf8Encode } from '../base/index.ts'

/** `accept` takes the name, `unknown` lets the other side try another, `refuse` resets the stream. */
export type NegotiationVerdict = 'accept' | 'unknown' | 'refuse'

/** The first line of both sides. */
export const MULTISTREAM_HEADER = '/multistream/1.0.0'

/** Longest line, newline included. */
const MAX_LINE_BYTES = 1024

/** Names that may be tried on one stream. */
const MAX_LINE_COUNT = 8

/**
 * Reads names until one is accepted; bytes after its line stay in the stream.
 *
 * @throws CarrierError ERR_NOT_AVAILABLE (refused), ERR_PROTOCOL, ERR_LINK_LOST, or the signal's reason; the caller aborts the stream
 */
export async function answerNegotiation (stream: Stream, judge: (protocol: string) => NegotiationVerdict, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted()
  return new Promise<string>((resolve, reject) => {
    let received: Uint8Array = new Uint8Array(0)
    let lineCount = 0

    function stop (): void {
      stream.removeEventListener('message', onMessage)
      stream.removeEventListener('close', onClose)
      stream.removeEventListener('remoteCloseWrite', onRemoteEnd)
      signal.removeEventListener('abort', onAbort)
    }

    function fail (err: unknown): void {
      stop()
      reject(err instanceof Error ? err : new CarrierError('ERR_PROTOCOL', String(err)))
    }

    function onAbort (): void { fail(signal.reason) }

    function onClose (event: StreamCloseEvent): void {
      fail(new CarrierError('ERR_LINK_LOST', 'the stream was gone before it named a protocol', { cause: event.error }))
    }

    function onRemoteEnd (): void {
      // a FIN right behind the accepted line is fine: by then the listener is gone
      fail(new CarrierError('ERR_PROTOCOL', 'the stream ended before it named a protocol'))
    }

    function onMessage (event: StreamMessageEvent): void {
      const data = event.data
      received = concatBytes([received, ...(data instanceof Uint8Array ? [data] : data)])
      try {
        for (let line = takeLine(); line !== undefined; line = takeLine()) {
          if (answer(line)) return
        }
      } catch (err) {
        fail(err)
      }
    }

    /** One line without its newline, cut from what was received; undefined when it is not complete. */
    function takeLine (): string | undefined {
      const parsed = readLine(received)
      if (parsed === undefined) return undefined
      received = received.subarray(parsed.bytes)
      return parsed.line
    }

    /** True when the conversation is over. */
    function answer (line: string): boolean {
      if (++lineCount > MAX_LINE_COUNT) throw new CarrierError('ERR_PROTOCOL', 'the stream tried too many protocols')
      if (line === MULTISTREAM_HEADER) {
        stream.send(encodeLine(MULTISTREAM_HEADER))
        return false
      }
      const verdict = judge(line)
      if (verdict === 'refuse') throw new CarrierError('ERR_NOT_AVAILABLE', 'the protocol is not offered to this peer')
      if (verdict === 'unknown') {
        stream.send(encodeLine('na'))
        return false
      }
      stop()
      stream.send(encodeLine(line))
      if (received.length > 0) stream.unshift(received)
      resolve(line)
      return true
    }

    stream.addEventListener('message', onMessage)
    stream.addEventListener('close', onClose)
    stream.addEventListener('remoteCloseWrite', onRemoteEnd)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** One line of multistream-select: varint length, text, newline. */
export function encodeLine (line: string): Uint8Array {
  const text = utf8Encode(`${line}\n`)
  return concatBytes([encodeVarint(text.length), text])
}

/**
 * The first line of `bytes` and how many bytes it took; undefined when it is not complete.
 *
 * @throws CarrierError ERR_PROTOCOL for a line that is too long or malformed
 */
export function readLine (bytes: Uint8Array): { line: string, bytes: number } | undefined {
  const [first, second] = bytes
  if (first === undefined || (first >= 0x80 && second === undefined)) return undefined
  const prefixBytes = first < 0x80 ? 1 : 2
  // two bytes are enough for the longest line
  if (prefixBytes === 2 && (second ?? 0) >= 0x80) throw new CarrierError('ERR_PROTOCOL', 'the length of a protocol name is malformed')
  const length = prefixBytes === 1 ? first : (first & 0x7f) + (second ?? 0) * 128
  if (length === 0 || length > MAX_LINE_BYTES) throw new CarrierError('ERR_PROTOCOL', `a protocol name has 1 to ${MAX_LINE_BYTES} bytes, not ${length}`)
  if (bytes.length < prefixBytes + length) return undefined
  const line = Buffer.from(bytes.buffer, bytes.byteOffset + prefixBytes, length).toString('latin1')
  if (!line.endsWith('\n')) throw new CarrierError('ERR_PROTOCOL', 'a protocol name does not end with a newline')
  return { line: line.slice(0, -1), bytes: prefixBytes + length }
}
