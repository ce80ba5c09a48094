/** One key that comes to a relay, asks for a reservation, and says what became of it; a socket and some buffers, no libp2p. */
import type { Socket } from 'node:net'
import { decodeProtobuf, encodeFrame } from '../../src/base/index.ts'
import { HOP, RESERVE } from '../support/raw-hop.ts'
import { startHandshake } from './lean-noise.ts'
import type { LeanCipher } from './lean-noise.ts'

const YAMUX_HEAD_BYTES = 12
const SYN = 1
const STREAM = 1
/** Lines by which the responder of multistream-select agrees, with the length before each. */
const AGREED_HOP = line(HOP)
const STATUS_FIELD = 5

/** How far a key has come. */
export interface LeanEvents {
  /** Its key is proven, and the muxer agreed. */
  onConnected: () => void
  /** RESERVE was written. */
  onAsked: () => void
  /** The status of the answer. */
  onAnswer: (status: number) => void
}

/** Speaks on a connected socket until its end. Whatever the relay says that is not what a relay says ends the socket. */
export function speakLean (socket: Socket, identity: Uint8Array, events: LeanEvents): void {
  const handshake = startHandshake()
  let waiting: Buffer = Buffer.alloc(0)
  let plain: Buffer = Buffer.alloc(0)
  let answers: Buffer = Buffer.alloc(0)
  let cipher: LeanCipher | undefined
  let stage: 'protocol' | 'handshake' | 'muxer' | 'asked' | 'answered' = 'protocol'

  function take (bytes: Buffer): void {
    waiting = Buffer.concat([waiting, bytes])
    if (stage === 'protocol') {
      const agreed = Buffer.concat([line('/multistream/1.0.0'), line('/noise')])
      if (waiting.length < agreed.length) return
      if (!waiting.subarray(0, agreed.length).equals(agreed)) throw new Error('it does not speak Noise')
      waiting = waiting.subarray(agreed.length)
      stage = 'handshake'
      socket.write(handshake.first)
    }
    while (waiting.length >= 2 && waiting.length >= 2 + waiting.readUInt16BE()) {
      const frame = waiting.subarray(2, 2 + waiting.readUInt16BE())
      waiting = waiting.subarray(2 + frame.length)
      if (cipher === undefined) {
        const { third, cipher: both } = handshake.finish(frame, identity)
        cipher = both
        stage = 'muxer'
        socket.write(Buffer.concat([third, cipher.seal(Buffer.concat([line('/multistream/1.0.0'), line('/yamux/1.0.0')]))]))
      } else {
        plain = Buffer.concat([plain, cipher.open(frame)])
      }
    }
    if (stage === 'muxer') agreeMuxer()
    if (stage === 'asked') readFrames()
    // what comes later is of no interest
    if (stage === 'answered') plain = Buffer.alloc(0)
  }

  function agreeMuxer (): void {
    const agreed = Buffer.concat([line('/multistream/1.0.0'), line('/yamux/1.0.0')])
    if (plain.length < agreed.length || cipher === undefined) return
    if (!plain.subarray(0, agreed.length).equals(agreed)) throw new Error('it does not speak yamux')
    plain = plain.subarray(agreed.length)
    stage = 'asked'
    events.onConnected()
    const head = Buffer.alloc(YAMUX_HEAD_BYTES)
    const request = Buffer.concat([line('/multistream/1.0.0'), AGREED_HOP, encodeFrame(RESERVE)])
    head.writeUInt16BE(SYN, 2)
    head.writeUInt32BE(STREAM, 4)
    head.writeUInt32BE(request.length, 8)
    socket.write(cipher.seal(Buffer.concat([head, request])), events.onAsked)
  }

  /** Frames of our stream are kept, others (identify, pings) passed over. */
  function readFrames (): void {
    while (plain.length >= YAMUX_HEAD_BYTES) {
      const [isData, stream] = [plain.readUInt8(1) === 0, plain.readUInt32BE(4)]
      const end = YAMUX_HEAD_BYTES + (isData ? plain.readUInt32BE(8) : 0)
      if (plain.length < end) return
      if (isData && stream === STREAM) answers = Buffer.concat([answers, plain.subarray(YAMUX_HEAD_BYTES, end)])
      plain = plain.subarray(end)
    }
    const status = statusOf(answers)
    if (status === undefined) return
    stage = 'answered'
    events.onAnswer(status)
  }

  socket.on('data', (bytes: Buffer) => {
    try {
      take(bytes)
    } catch (err) {
      socket.destroy(err instanceof Error ? err : undefined)
    }
  })
  socket.write(Buffer.concat([line('/multistream/1.0.0'), line('/noise')]))
}

/** The status of the one message that follows the agreement; undefined while it is not complete. */
function statusOf (bytes: Buffer): number | undefined {
  const start = bytes.indexOf(AGREED_HOP)
  if (start < 0) return undefined
  const body = bytes.subarray(start + AGREED_HOP.length)
  let [length, shift] = [0, 0]
  for (let index = 0; index < Math.min(body.length, 3); index++) {
    const byte = body.readUInt8(index)
    length += (byte & 0x7f) << shift
    shift += 7
    if (byte >= 0x80) continue
    const message = body.subarray(index + 1, index + 1 + length)
    return message.length < length ? undefined : Number(decodeProtobuf(Uint8Array.from(message), 64).varint(STATUS_FIELD))
  }
  return undefined
}

function line (text: string): Buffer {
  return Buffer.from(`${String.fromCharCode(text.length + 1)}${text}\n`, 'latin1')
}
