/**
 * The session wire, byte by byte: what may stand on a link of `/carrier/session/1.0.0`. Final since the first release;
 * PROTOCOL.md says the same in words, test/vectors/PROTOCOL/session.json in bytes.
 *
 * A link carries frames and nothing else. Numbers are unsigned, big endian; 64-bit numbers are at most 2^53 - 1.
 *
 *   0     1      2        4          8
 *   +-----+------+--------+----------+----------------
 *   |type |flags |length  |channel id| body (length bytes)
 *   +-----+------+--------+----------+----------------
 *
 * Type below 0x40 and unknown, or of a feature that both hellos did not name: the session ends with
 * ERR_UNSUPPORTED_VERSION. Type 0x40 and above and unknown: the frame is skipped. A length outside the type's bounds, an
 * undefined flag, a channel id where 0 belongs (or 0 where one belongs): the session ends with ERR_PROTOCOL, before any
 * of the body is buffered.
 */
import { ADDRESS_BYTES, CarrierError, decodeAddress, encodeAddress, LIMITS } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'

/** Bytes of every frame's header. */
export const HEADER_BYTES = 8

/** Bytes of a data frame before its payload: header and offset. */
export const DATA_HEADER_BYTES = 16

/** Types. Direction "controller" means: only from the end with the lower raw public key. */
export const FRAME_TYPE = {
  /** DAG-CBOR hello; the first frame of each direction of every link. */
  hello: 0x01,
  /** DAG-CBOR welcome; controller: this link now carries this new session. */
  welcome: 0x02,
  /** u64 highest hello sequence number sent so far; answers welcome, and makes the session live. */
  confirm: 0x03,
  /** u16 wire error code; the session (before it is live: the link) ends. Last frame of its direction. */
  goaway: 0x04,
  /** u64 n, growing. */
  ping: 0x05,
  /** u64 n; answers every ping up to n. */
  pong: 0x06,
  /** u32 n: the other end may open its channels number 1 to n of this session. Never falls. */
  openCredit: 0x07,
  /** A piece of an auth message for this link; flag MORE on all but the last. Feature "auth". */
  auth: 0x08,
  /** u32 epoch; controller: last frame on this link, what follows comes on the link with that epoch. Feature "resume". */
  switch: 0x09,
  /** Session id (16) ‖ token (32) ‖ u32 epoch; controller: this link takes over the session. Feature "resume". */
  resume: 0x0a,
  /** u32 epoch ‖ u32 highest channel id seen ‖ entries; the answer to resume, MORE on all but the last. Feature "resume". */
  resumed: 0x0b,
  /** u32 epoch; not the controller: the link with that epoch is lost here, please resume on this one. Feature "resume". */
  lost: 0x0c,
  /** Empty; asks for a ticket to the other end's link port. Feature "direct". */
  linkAsk: 0x0d,
  /** u16 port ‖ ticket (32): answers link-ask; port 0: there is none. Feature "direct". */
  linkTicket: 0x0e,
  /**
   * u8 word (0 ask, 1 answer, 2 no, 3 hard: no, our router maps per destination) ‖ u32 round ‖ up to 4 addresses of 19 bytes: u8 family (4 or 6) ‖ u16 port ‖ 16 bytes;
   * the controller asks. Feature "punch".
   */
  punch: 0x0f,
  /** u8 n ‖ kind (n bytes of a-z 0-9 . / -) ‖ opening message. */
  open: 0x10,
  /** u64 offset ‖ 1 to 16,384 bytes of the channel, the first of which has this offset. */
  data: 0x11,
  /** u64 received ‖ u64 limit: all bytes below `received` have arrived; bytes below `limit` may be sent. FIN: so has the fin. */
  ack: 0x12,
  /** u64 final offset: there are exactly so many bytes in this direction. */
  fin: 0x13,
  /** u16 wire error code: both directions end now. */
  reset: 0x14,
  /** 1 to 16,384 bytes, without order or promise. Feature "datagram". */
  datagram: 0x15
} as const

/** Types below this concern the link, from here to the skipped ones channels and their credit. */
export const FIRST_CHANNEL_TYPE = 0x10

/** The lowest type that a receiver who does not know it skips. */
export const FIRST_SKIPPED_TYPE = 0x40

/** Flag of auth and resumed: the message goes on in the next frame of this type. */
export const FLAG_MORE = 0x01
/** Flag of ack: the fin arrived too. */
export const FLAG_FIN = 0x01

/** One channel in `resumed`: u32 id ‖ u8 1 if its fin arrived ‖ 3 zero bytes ‖ u64 received ‖ u64 limit. */
export interface ResumedEntry { id: number, isFinReceived: boolean, receivedBytes: number, limitBytes: number }

/** A decoded frame; data is delivered in pieces by the decoder and never as one object. */
export type Frame =
  | { type: 'hello', body: Uint8Array }
  | { type: 'welcome', body: Uint8Array }
  | { type: 'confirm', sequence: number }
  | { type: 'goaway', code: number }
  | { type: 'ping', sequence: number }
  | { type: 'pong', sequence: number }
  | { type: 'openCredit', channelCount: number }
  | { type: 'auth', isLast: boolean, body: Uint8Array }
  | { type: 'switch', epoch: number }
  | { type: 'resume', sessionId: Uint8Array, token: Uint8Array, epoch: number }
  | { type: 'resumed', isLast: boolean, epoch: number, highestId: number, entries: ResumedEntry[] }
  | { type: 'lost', epoch: number }
  | { type: 'linkAsk' }
  | { type: 'linkTicket', port: number, ticket: Uint8Array }
  | { type: 'punch', what: PunchWord, round: number, candidates: HostAndPort[] }
  | { type: 'open', channelId: number, kind: string, message: Uint8Array }
  | { type: 'ack', channelId: number, receivedBytes: number, limitBytes: number, isFinReceived: boolean }
  | { type: 'fin', channelId: number, finalBytes: number }
  | { type: 'reset', channelId: number, code: number }
  | { type: 'datagram', channelId: number, body: Uint8Array }

/** A frame that concerns its link and not the channels. */
export type LinkFrame = Extract<Frame, { type: 'hello' | 'welcome' | 'confirm' | 'goaway' | 'ping' | 'pong' | 'auth' | 'switch' | 'resume' | 'resumed' | 'lost' | 'linkAsk' | 'linkTicket' | 'punch' }>

/** What a punch frame says. */
export type PunchWord = 'ask' | 'answer' | 'no' | 'hard'

const PUNCH_WORDS: readonly PunchWord[] = ['ask', 'answer', 'no', 'hard']

/** The other end's candidates, or why it has none. */
export type PunchAnswer = readonly HostAndPort[] | 'no' | 'hard'

interface Shape { name: keyof typeof FRAME_TYPE, minBytes: number, maxBytes: number, flags: number, isChannel: boolean }

const PAYLOAD = LIMITS.sessionFramePayloadBytes
const ENTRY_BYTES = 24
/** Entries of one resumed frame at most. */
export const RESUMED_ENTRIES_PER_FRAME = 512

/** Bounds of every type, checked on the header alone. */
const SHAPES: ReadonlyArray<Shape | undefined> = shapeTable([
  ['hello', 1, LIMITS.sessionHelloBytes, 0, false],
  ['welcome', 1, LIMITS.sessionHelloBytes, 0, false],
  ['confirm', 8, 8, 0, false],
  ['goaway', 2, 2, 0, false],
  ['ping', 8, 8, 0, false],
  ['pong', 8, 8, 0, false],
  ['openCredit', 4, 4, 0, false],
  ['auth', 1, PAYLOAD, FLAG_MORE, false],
  ['switch', 4, 4, 0, false],
  ['resume', 52, 52, 0, false],
  ['resumed', 8, 8 + ENTRY_BYTES * RESUMED_ENTRIES_PER_FRAME, FLAG_MORE, false],
  ['lost', 4, 4, 0, false],
  ['linkAsk', 0, 0, 0, false],
  ['linkTicket', 34, 34, 0, false],
  ['punch', 5, 5 + LIMITS.punchCandidateCount * ADDRESS_BYTES, 0, false],
  ['open', 2, 1 + LIMITS.channelKindBytes + LIMITS.sessionOpenMessageBytes, 0, true],
  ['data', 9, 8 + PAYLOAD, 0, true],
  ['ack', 16, 16, FLAG_FIN, true],
  ['fin', 8, 8, 0, true],
  ['reset', 2, 2, 0, true],
  ['datagram', 1, PAYLOAD, 0, true]
])

/** Longest body of any frame that is buffered whole. */
export const MAX_BODY_BYTES = Math.max(...SHAPES.map((shape) => shape?.maxBytes ?? 0))

/** What a channel kind may look like. */
export const CHANNEL_KIND = /^[a-z0-9][a-z0-9./-]{0,63}$/

/** Judges a header before its body is looked at. @throws CarrierError ERR_PROTOCOL, ERR_UNSUPPORTED_VERSION */
export function checkHeader (type: number, flags: number, lengthBytes: number, channelId: number): void {
  const shape = SHAPES[type]
  if (shape === undefined) throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the peer sent a frame of the unknown type ${type}; it speaks a newer version of the session protocol`)
  if (lengthBytes < shape.minBytes || lengthBytes > shape.maxBytes) throw violation(`a ${shape.name} frame of ${lengthBytes} bytes`)
  if ((flags & ~shape.flags) !== 0) throw violation(`a ${shape.name} frame with the flags ${flags}`)
  if (shape.isChannel !== (channelId !== 0)) throw violation(`a ${shape.name} frame on channel ${channelId}`)
}

/** Decodes the body of any type but data; `body` may be reused by the caller afterwards. @throws CarrierError ERR_PROTOCOL */
export function decodeBody (type: number, flags: number, channelId: number, body: Uint8Array): Frame {
  switch (type) {
    case FRAME_TYPE.hello: return { type: 'hello', body: copyOf(body) }
    case FRAME_TYPE.welcome: return { type: 'welcome', body: copyOf(body) }
    case FRAME_TYPE.confirm: return { type: 'confirm', sequence: readU64(body, 0) }
    case FRAME_TYPE.goaway: return { type: 'goaway', code: readU16(body, 0) }
    case FRAME_TYPE.ping: return { type: 'ping', sequence: readU64(body, 0) }
    case FRAME_TYPE.pong: return { type: 'pong', sequence: readU64(body, 0) }
    case FRAME_TYPE.openCredit: return { type: 'openCredit', channelCount: readU32(body, 0) }
    case FRAME_TYPE.auth: return { type: 'auth', isLast: flags !== FLAG_MORE, body: copyOf(body) }
    case FRAME_TYPE.switch: return { type: 'switch', epoch: readU32(body, 0) }
    case FRAME_TYPE.resume: return { type: 'resume', sessionId: copyOf(body.subarray(0, 16)), token: copyOf(body.subarray(16, 48)), epoch: readU32(body, 48) }
    case FRAME_TYPE.resumed: return { type: 'resumed', isLast: flags !== FLAG_MORE, epoch: readU32(body, 0), highestId: readU32(body, 4), entries: decodeEntries(body) }
    case FRAME_TYPE.lost: return { type: 'lost', epoch: readU32(body, 0) }
    case FRAME_TYPE.linkAsk: return { type: 'linkAsk' }
    case FRAME_TYPE.linkTicket: return { type: 'linkTicket', port: readU16(body, 0), ticket: copyOf(body.subarray(2, 34)) }
    case FRAME_TYPE.punch: return decodePunch(body)
    case FRAME_TYPE.open: return decodeOpen(channelId, body)
    case FRAME_TYPE.ack: return { type: 'ack', channelId, receivedBytes: readU64(body, 0), limitBytes: readU64(body, 8), isFinReceived: flags === FLAG_FIN }
    case FRAME_TYPE.fin: return { type: 'fin', channelId, finalBytes: readU64(body, 0) }
    case FRAME_TYPE.reset: return { type: 'reset', channelId, code: readU16(body, 0) }
    case FRAME_TYPE.datagram: return { type: 'datagram', channelId, body: copyOf(body) }
    default: throw new CarrierError('ERR_INTERNAL', `type ${type} was not judged before its body`)
  }
}

/** The bytes of one frame of any type but data. The values are the caller's responsibility; a decoder judges them. */
export function encodeSessionFrame (frame: Frame): Uint8Array {
  switch (frame.type) {
    case 'hello': return withBody(FRAME_TYPE.hello, 0, 0, frame.body)
    case 'welcome': return withBody(FRAME_TYPE.welcome, 0, 0, frame.body)
    case 'confirm': return numbers(FRAME_TYPE.confirm, 0, 0, [frame.sequence, 8])
    case 'goaway': return numbers(FRAME_TYPE.goaway, 0, 0, [frame.code, 2])
    case 'ping': return numbers(FRAME_TYPE.ping, 0, 0, [frame.sequence, 8])
    case 'pong': return numbers(FRAME_TYPE.pong, 0, 0, [frame.sequence, 8])
    case 'openCredit': return numbers(FRAME_TYPE.openCredit, 0, 0, [frame.channelCount, 4])
    case 'auth': return withBody(FRAME_TYPE.auth, frame.isLast ? 0 : FLAG_MORE, 0, frame.body)
    case 'switch': return numbers(FRAME_TYPE.switch, 0, 0, [frame.epoch, 4])
    case 'resume': {
      const bytes = start(FRAME_TYPE.resume, 0, 0, 52)
      bytes.set(frame.sessionId, HEADER_BYTES)
      bytes.set(frame.token, HEADER_BYTES + 16)
      writeNumber(bytes, HEADER_BYTES + 48, frame.epoch, 4)
      return bytes
    }
    case 'resumed': {
      const fields = frame.entries.flatMap((entry): Array<[number, 4 | 8]> => [
        [entry.id, 4], [entry.isFinReceived ? 0x01000000 : 0, 4], [entry.receivedBytes, 8], [entry.limitBytes, 8]])
      return numbers(FRAME_TYPE.resumed, frame.isLast ? 0 : FLAG_MORE, 0, [frame.epoch, 4], [frame.highestId, 4], ...fields)
    }
    case 'lost': return numbers(FRAME_TYPE.lost, 0, 0, [frame.epoch, 4])
    case 'linkAsk': return start(FRAME_TYPE.linkAsk, 0, 0, 0)
    case 'linkTicket': {
      const bytes = start(FRAME_TYPE.linkTicket, 0, 0, 34)
      writeNumber(bytes, HEADER_BYTES, frame.port, 2)
      bytes.set(frame.ticket, HEADER_BYTES + 2)
      return bytes
    }
    case 'punch': {
      const bytes = start(FRAME_TYPE.punch, 0, 0, 5 + frame.candidates.length * ADDRESS_BYTES)
      bytes[HEADER_BYTES] = PUNCH_WORDS.indexOf(frame.what)
      writeNumber(bytes, HEADER_BYTES + 1, frame.round, 4)
      for (const [index, candidate] of frame.candidates.entries()) bytes.set(encodeAddress(candidate), HEADER_BYTES + 5 + index * ADDRESS_BYTES)
      return bytes
    }
    case 'open': {
      const kind = Buffer.from(frame.kind, 'latin1')
      const bytes = start(FRAME_TYPE.open, 0, frame.channelId, 1 + kind.length + frame.message.length)
      bytes[HEADER_BYTES] = kind.length
      bytes.set(kind, HEADER_BYTES + 1)
      bytes.set(frame.message, HEADER_BYTES + 1 + kind.length)
      return bytes
    }
    case 'ack': return numbers(FRAME_TYPE.ack, frame.isFinReceived ? FLAG_FIN : 0, frame.channelId, [frame.receivedBytes, 8], [frame.limitBytes, 8])
    case 'fin': return numbers(FRAME_TYPE.fin, 0, frame.channelId, [frame.finalBytes, 8])
    case 'reset': return numbers(FRAME_TYPE.reset, 0, frame.channelId, [frame.code, 2])
    case 'datagram': return withBody(FRAME_TYPE.datagram, 0, frame.channelId, frame.body)
  }
}

/** Writes the DATA_HEADER_BYTES that stand before `payloadBytes` of payload into `target` at `at`: the payload itself is not copied. */
export function writeDataHeader (target: Uint8Array, at: number, channelId: number, offsetBytes: number, payloadBytes: number): void {
  writeHeader(target, at, FRAME_TYPE.data, 0, 8 + payloadBytes, channelId)
  writeNumber(target, at + HEADER_BYTES, offsetBytes, 8)
}

/** Big-endian u16. */
export function readU16 (bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) << 8 | (bytes[at + 1] as number)
}

/** Big-endian u32. */
export function readU32 (bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 24 | (bytes[at + 1] as number) << 16 | (bytes[at + 2] as number) << 8 | (bytes[at + 3] as number)) >>> 0
}

/** Big-endian u64. @throws CarrierError ERR_PROTOCOL above 2^53 - 1 */
export function readU64 (bytes: Uint8Array, at: number): number {
  const high = readU32(bytes, at)
  if (high > 0x1fffff) throw violation('a number above 2^53')
  return high * 0x1_0000_0000 + readU32(bytes, at + 4)
}

/** The error for a peer that breaks the protocol; it ends the session. */
export function violation (what: string): CarrierError {
  return new CarrierError('ERR_PROTOCOL', `the peer broke the session protocol: ${what}`)
}

/** A plain copy; `slice` of a Buffer would be a view that keeps the whole chunk alive. */
function copyOf (bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes)
}

function decodePunch (body: Uint8Array): Frame {
  const what = PUNCH_WORDS[body[0] as number]
  if (what === undefined || (body.length - 5) % ADDRESS_BYTES !== 0) throw violation('a malformed punch frame')
  const count = (body.length - 5) / ADDRESS_BYTES
  return { type: 'punch', what, round: readU32(body, 1), candidates: Array.from({ length: count }, (_address, index) => decodeAddress(body.subarray(5 + index * ADDRESS_BYTES, 5 + (index + 1) * ADDRESS_BYTES))) }
}

function decodeOpen (channelId: number, body: Uint8Array): Frame {
  const kindBytes = body[0] as number
  if (1 + kindBytes > body.length) throw violation('an open frame that is shorter than its kind')
  const kind = Buffer.from(body.buffer, body.byteOffset + 1, kindBytes).toString('latin1')
  if (!CHANNEL_KIND.test(kind)) throw violation('an open frame with a malformed kind')
  if (body.length - 1 - kindBytes > LIMITS.sessionOpenMessageBytes) throw violation('an opening message that is too long')
  return { type: 'open', channelId, kind, message: copyOf(body.subarray(1 + kindBytes)) }
}

function decodeEntries (body: Uint8Array): ResumedEntry[] {
  if ((body.length - 8) % ENTRY_BYTES !== 0) throw violation('a resumed frame with half an entry')
  const entries: ResumedEntry[] = []
  for (let at = 8; at < body.length; at += ENTRY_BYTES) {
    const flags = readU32(body, at + 4)
    if (flags !== 0 && flags !== 0x01000000) throw violation('a resumed frame with undefined flags')
    entries.push({ id: readU32(body, at), isFinReceived: flags !== 0, receivedBytes: readU64(body, at + 8), limitBytes: readU64(body, at + 16) })
  }
  return entries
}

function withBody (type: number, flags: number, channelId: number, body: Uint8Array): Uint8Array {
  const bytes = start(type, flags, channelId, body.length)
  bytes.set(body, HEADER_BYTES)
  return bytes
}

function numbers (type: number, flags: number, channelId: number, ...fields: Array<[value: number, sizeBytes: 2 | 4 | 8]>): Uint8Array {
  const bytes = start(type, flags, channelId, fields.reduce((sum, [, size]) => sum + size, 0))
  let at = HEADER_BYTES
  for (const [value, size] of fields) {
    writeNumber(bytes, at, value, size)
    at += size
  }
  return bytes
}

function start (type: number, flags: number, channelId: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + lengthBytes)
  writeHeader(bytes, 0, type, flags, lengthBytes, channelId)
  return bytes
}

function writeHeader (target: Uint8Array, at: number, type: number, flags: number, lengthBytes: number, channelId: number): void {
  target[at] = type
  target[at + 1] = flags
  writeNumber(target, at + 2, lengthBytes, 2)
  writeNumber(target, at + 4, channelId, 4)
}

function writeNumber (target: Uint8Array, at: number, value: number, sizeBytes: 2 | 4 | 8): void {
  if (sizeBytes === 8) {
    writeNumber(target, at, Math.floor(value / 0x1_0000_0000), 4)
    writeNumber(target, at + 4, value % 0x1_0000_0000, 4)
    return
  }
  let position = at
  if (sizeBytes === 4) {
    target[position++] = value >>> 24
    target[position++] = value >>> 16
  }
  target[position++] = value >>> 8
  target[position] = value
}

function shapeTable (rows: ReadonlyArray<[keyof typeof FRAME_TYPE, number, number, number, boolean]>): Array<Shape | undefined> {
  const table: Array<Shape | undefined> = new Array<Shape | undefined>(FIRST_SKIPPED_TYPE).fill(undefined)
  for (const [name, minBytes, maxBytes, flags, isChannel] of rows) table[FRAME_TYPE[name]] = { name, minBytes, maxBytes, flags, isChannel }
  return table
}
