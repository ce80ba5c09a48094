/**
 * The two datagrams of the search for friends, in the form of multicast DNS (RFC 6762, one-shot queries), so that a local
 * network treats them like those of printers. Only exactly this form is read.
 *
 * ```
 * query   header (12: id 2, flags 0000, questions u16, zeros)  questions of 54 bytes: name, type TXT (0010), class IN with
 *         "answer to me alone" (8001)
 * answer  header (12: id of the query, flags 8400, no question, one answer, zeros)  name, TXT, class IN (0001), u32 time to live 0,
 *         u16 length of what follows, u8 length of the sealed answer, the sealed answer
 * name    20 ‖ 32 hexadecimal digits of the tag ‖ 08 "_carrier" 04 "_tcp" 05 "local" 00
 * ```
 */
import { CarrierError } from '../base/index.ts'
import { TAG_BYTES } from './mdns-secret.ts'

/** Where all listen. */
export const MDNS_GROUP = '224.0.0.251'
/** And at which port. */
export const MDNS_PORT = 5353

/** Questions of every query; those without a friend are chance. */
export const QUERY_TAGS = 16

const HEADER_BYTES = 12
const LABEL_BYTES = 1 + 2 * TAG_BYTES
const SUFFIX = Buffer.from('\x08_carrier\x04_tcp\x05local\x00', 'latin1')
const NAME_BYTES = LABEL_BYTES + SUFFIX.length
const QUESTION_END = Buffer.from('00108001', 'hex')
const ANSWER_MIDDLE = Buffer.from('0010000100000000', 'hex')

/** Bytes of a query. */
export const QUERY_BYTES = HEADER_BYTES + QUERY_TAGS * (NAME_BYTES + QUESTION_END.length)

/** Encodes a query. @throws CarrierError ERR_INTERNAL for another number of tags */
export function encodeQuery (id: number, tags: readonly Uint8Array[]): Uint8Array {
  if (tags.length !== QUERY_TAGS) throw new CarrierError('ERR_INTERNAL', 'a query has a fixed number of tags')
  return Buffer.concat([header(id, 0, QUERY_TAGS, 0), ...tags.flatMap((tag) => [name(tag), QUESTION_END])])
}

/** Decodes a query; undefined for everything else, which is most of what is said on a local network. */
export function decodeQuery (bytes: Uint8Array): { id: number, tags: string[] } | undefined {
  if (bytes.length !== QUERY_BYTES) return undefined
  const query = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const id = query.readUInt16BE(0)
  if (!query.subarray(0, HEADER_BYTES).equals(header(id, 0, QUERY_TAGS, 0))) return undefined
  const tags: string[] = []
  for (let at = HEADER_BYTES; at < query.length; at += NAME_BYTES + QUESTION_END.length) {
    const tag = tagOf(query.subarray(at, at + NAME_BYTES))
    if (tag === undefined || !query.subarray(at + NAME_BYTES, at + NAME_BYTES + QUESTION_END.length).equals(QUESTION_END)) return undefined
    tags.push(tag)
  }
  return { id, tags }
}

/** Encodes an answer. */
export function encodeAnswer (id: number, tag: Uint8Array, sealed: Uint8Array): Uint8Array {
  const lengths = Buffer.from([0, sealed.length + 1, sealed.length])
  return Buffer.concat([header(id, 0x8400, 0, 1), name(tag), ANSWER_MIDDLE, lengths, sealed])
}

/** Decodes an answer; undefined for everything else. The tag is hexadecimal. */
export function decodeAnswer (bytes: Uint8Array): { id: number, tag: string, sealed: Uint8Array } | undefined {
  const answer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const dataAt = HEADER_BYTES + NAME_BYTES + ANSWER_MIDDLE.length
  const sealed = answer.subarray(dataAt + 3)
  if (answer.length < dataAt + 3 || sealed.length > 255) return undefined
  const id = answer.readUInt16BE(0)
  const tag = tagOf(answer.subarray(HEADER_BYTES, HEADER_BYTES + NAME_BYTES))
  const isRight = answer.subarray(0, HEADER_BYTES).equals(header(id, 0x8400, 0, 1)) && answer.subarray(HEADER_BYTES + NAME_BYTES, dataAt).equals(ANSWER_MIDDLE) && answer.readUInt16BE(dataAt) === sealed.length + 1 && answer[dataAt + 2] === sealed.length
  return isRight && tag !== undefined ? { id, tag, sealed } : undefined
}

function header (id: number, flags: number, questions: number, answers: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES)
  bytes.writeUInt16BE(id, 0)
  bytes.writeUInt16BE(flags, 2)
  bytes.writeUInt16BE(questions, 4)
  bytes.writeUInt16BE(answers, 6)
  return bytes
}

function name (tag: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(2 * TAG_BYTES), Buffer.from(Buffer.from(tag).toString('hex'), 'latin1'), SUFFIX])
}

function tagOf (bytes: Buffer): string | undefined {
  const text = bytes.toString('latin1', 1, LABEL_BYTES)
  return bytes[0] === 2 * TAG_BYTES && /^[0-9a-f]+$/.test(text) && bytes.subarray(LABEL_BYTES).equals(SUFFIX) ? text : undefined
}
