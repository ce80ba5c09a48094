/** Reads along what a peer says to our muxer, header by header, before the muxer does: what it will cost, and what no muxer may say. Pure. Yamux specification §framing. */
import type { MessageStream } from '@libp2p/interface'

/** What a piece of a connection brings. */
export interface FrameMeter {
  /**
   * Reads on until there is work for `maxMicroseconds`, or the bytes are at their end.
   *
   * @returns how many bytes it read and the estimated processor time of their frames; or a violation, after which nothing more may be read
   */
  read: (bytes: Uint8Array, maxMicroseconds: number) => { byteCount: number, microseconds: number } | FrameViolation
  /** Bytes of a frame that is not complete, which the muxer keeps. */
  readonly waitingBytes: number
  /** The last stream that the peer has opened; 0 before. */
  readonly lastStream: number
}

/** Why a connection has to end. */
export type FrameViolation = 'frame_too_long' | 'unknown_stream'

/** Creates the meter of one connection. `direction` is the connection's: who dialled gives odd numbers to the streams that it opens. `maxFrameBytes` may grow. */
export function createFrameMeter (init: { direction: MessageStream['direction'], maxFrameBytes: () => number }): FrameMeter {
  const theirParity = init.direction === 'inbound' ? 1 : 0
  const header = new Uint8Array(HEADER_BYTES)
  const view = new DataView(header.buffer)
  let headerBytes = 0
  /** Of the payload of the frame that is being read. */
  let missingBytes = 0
  let waitingBytes = 0
  let lastStream = 0

  /** The cost of the frame whose header is complete. */
  function judge (): number | FrameViolation {
    const isData = header[1] === DATA
    const flags = view.getUint16(2)
    const stream = view.getUint32(4)
    const length = view.getUint32(8)
    const isOpening = (flags & SYN) !== 0
    if (isData && length > init.maxFrameBytes()) return 'frame_too_long'
    if (stream > lastStream && stream % 2 === theirParity) {
      if (isOpening) lastStream = stream
      // muxers that announce a stream with its first bytes may also give one up that they have not announced
      else if (length > 0 || (flags & (FIN | RST)) === 0) return 'unknown_stream'
    }
    missingBytes = isData ? length : 0
    waitingBytes = missingBytes === 0 ? 0 : HEADER_BYTES
    return isOpening && stream !== 0 ? OPENING_MICROSECONDS : FRAME_MICROSECONDS
  }

  return {
    get waitingBytes () { return waitingBytes },
    get lastStream () { return lastStream },
    read: (bytes, maxMicroseconds) => {
      let microseconds = 0
      let offset = 0
      while (offset < bytes.length && microseconds < maxMicroseconds) {
        if (missingBytes > 0) {
          const part = Math.min(missingBytes, bytes.length - offset)
          offset += part
          missingBytes -= part
          waitingBytes = missingBytes === 0 ? 0 : waitingBytes + part
          continue
        }
        header[headerBytes++] = bytes[offset++] ?? 0
        if (headerBytes < HEADER_BYTES) continue
        headerBytes = 0
        const cost = judge()
        if (typeof cost !== 'number') return cost
        microseconds += cost
      }
      return { byteCount: offset, microseconds }
    }
  }
}

const HEADER_BYTES = 12
const DATA = 0
const SYN = 1
const FIN = 4
const RST = 8
// measured under floods of such frames, with the answers to them; payload is charged by the byte rates
const FRAME_MICROSECONDS = 20
const OPENING_MICROSECONDS = 500
