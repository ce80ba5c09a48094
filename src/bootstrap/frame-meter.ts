/** Reads along what a peer says to our muxer, header by header, before the muxer does: what it will cost, and what no muxer may say. Pure. Yamux specification §framing. */

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

/** Creates the meter of one connection that the peer opened: the streams that it opens have odd numbers. */
export function createFrameMeter (init: { maxFrameBytes: number }): FrameMeter {
  const header = new Uint8Array(HEADER_BYTES)
  const view = new DataView(header.buffer)
  let headerBytes = 0
  /** Of the payload of the frame that is being read. */
  let missingBytes = 0
  let waitingBytes = 0
  let lastStream = 0

  /** The cost of the frame whose header is complete. */
  function judge (): number | FrameViolation {
    const [isData, isOpening, stream, length] = [view.getUint8(1) === DATA, (view.getUint16(2) & SYN) !== 0, view.getUint32(4), view.getUint32(8)]
    if (isData && length > init.maxFrameBytes) return 'frame_too_long'
    const isTheirs = stream % 2 === 1
    if (isTheirs && isOpening) lastStream = Math.max(lastStream, stream)
    else if (isTheirs && stream > lastStream) return 'unknown_stream'
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
// measured under floods of such frames, with the answers to them; payload is charged by the byte rates
const FRAME_MICROSECONDS = 20
const OPENING_MICROSECONDS = 500
