/**
 * Frames of Carrier's request/response protocols: unsigned-varint length, then that many bytes of DAG-CBOR.
 * The length is judged before anything is buffered; the content is validated before anybody sees it. PROTOCOL.md §2.
 */
import * as dagCbor from '@ipld/dag-cbor'
import type { z } from 'zod'
import { concatBytes, equalBytes } from './bytes.ts'
import { CarrierError, errorMessage } from './errors.ts'
import { LIMITS } from './limits.ts'

/** Encodes any plain value as DAG-CBOR (canonical; `undefined` members are left out). */
export function encodeCbor (value: unknown): Uint8Array {
  return dagCbor.encode(stripUndefined(value))
}

/**
 * Decodes DAG-CBOR and validates it.
 *
 * @throws CarrierError ERR_PROTOCOL when the bytes are no canonical DAG-CBOR (invalid UTF-8 included) or not of the schema's shape
 */
export function decodeCbor<Schema extends z.ZodType> (schema: Schema, bytes: Uint8Array): z.output<Schema> {
  let value: unknown
  // decoder, encoder and schema call themselves for each level: how much stack there is must not decide
  if (isDeep(bytes, LIMITS.messageNestingLevels)) throw new CarrierError('ERR_PROTOCOL', `the message has more than ${LIMITS.messageNestingLevels} levels`)
  try {
    value = dagCbor.decode(bytes)
  } catch (err) {
    throw new CarrierError('ERR_PROTOCOL', `the message is not valid DAG-CBOR: ${errorMessage(err)}`, { cause: err })
  }
  // the decoder takes invalid UTF-8 as U+FFFD and keys in any order: only bytes that come out the same again were canonical
  if (!equalBytes(dagCbor.encode(value), bytes)) throw new CarrierError('ERR_PROTOCOL', 'the message is not canonical DAG-CBOR (invalid UTF-8 or key order)')
  const result = schema.safeParse(value)
  if (!result.success) {
    const issue = result.error.issues[0]
    throw new CarrierError('ERR_PROTOCOL', `the message has the wrong shape at "${issue?.path.join('.') ?? ''}": ${issue?.message ?? 'invalid'}`)
  }
  return result.data
}

const CBOR_ARRAY = 4
const CBOR_MAP = 5
const CBOR_TAG = 6

/** Reads only the heads of CBOR items (RFC 8949 section 3), without recursion; false also where they are malformed, which the decoder says better. */
function isDeep (bytes: Uint8Array, maxLevels: number): boolean {
  /** Items still to come at each level. */
  const open: number[] = []
  let at = 0
  while (at < bytes.length) {
    const head = bytes[at++] ?? 0
    const kind = head >> 5
    const info = head & 0x1f
    const extraBytes = info < 24 ? 0 : 2 ** (info - 24)
    // indefinite lengths and reserved values are no DAG-CBOR
    if (info > 27 || at + extraBytes > bytes.length) return false
    let argument = extraBytes === 0 ? info : 0
    for (const end = at + extraBytes; at < end; at++) argument = argument * 256 + (bytes[at] ?? 0)
    if (kind === 2 || kind === 3) at += argument
    const inside = kind === CBOR_ARRAY ? argument : kind === CBOR_MAP ? 2 * argument : kind === CBOR_TAG ? 1 : 0
    if (inside > 0) {
      if (open.length >= maxLevels) return true
      open.push(inside)
      continue
    }
    // the item is complete, and with it each level of which it was the last one
    for (let left = open.pop(); left !== undefined; left = open.pop()) {
      if (left > 1) {
        open.push(left - 1)
        break
      }
    }
    if (open.length === 0) return false
  }
  return false
}

/** One frame: varint length and body. */
export function encodeFrame (body: Uint8Array): Uint8Array {
  const prefix = encodeVarint(body.length)
  const frame = new Uint8Array(prefix.length + body.length)
  frame.set(prefix, 0)
  frame.set(body, prefix.length)
  return frame
}

/** Unsigned LEB128 varint of a length below 2^31. */
export function encodeVarint (value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
  return Uint8Array.from(bytes)
}

/** Reads frames from a byte source, one at a time, with a limit for each. */
export interface FrameReader {
  /**
   * The next frame's body, at most `maxBytes` long; undefined when the source ended cleanly between frames.
   *
   * @throws CarrierError ERR_PROTOCOL for a longer frame (refused before it is buffered), a malformed length, or an end inside a frame
   */
  read: (maxBytes: number) => Promise<Uint8Array | undefined>
  /** Bytes that were received but belong to no frame yet, then the rest of the source: for protocols that go on with raw bytes. */
  rest: () => AsyncGenerator<Uint8Array>
}

/** Makes a frame reader; the caller keeps ownership of the source and closes it. */
export function createFrameReader (source: AsyncIterable<Uint8Array>): FrameReader {
  const iterator = source[Symbol.asyncIterator]()
  let chunks: Uint8Array[] = []
  let buffered = 0
  let ended = false

  async function pull (): Promise<boolean> {
    if (ended) return false
    const next = await iterator.next()
    if (next.done === true) {
      ended = true
      return false
    }
    chunks.push(next.value)
    buffered += next.value.length
    return true
  }

  function take (count: number): Uint8Array {
    const all = concatBytes(chunks)
    const head = all.subarray(0, count)
    const tail = all.subarray(count)
    chunks = tail.length === 0 ? [] : [tail]
    buffered = tail.length
    return head
  }

  function peekLength (): { length: number, prefixBytes: number } | undefined {
    const head = concatBytes(chunks)
    chunks = head.length === 0 ? [] : [head]
    let length = 0
    for (let index = 0; index < head.length; index++) {
      const byte = head[index] ?? 0
      if (index >= 4 && byte > 0x07) throw new CarrierError('ERR_PROTOCOL', 'the frame length is malformed')
      length += (byte & 0x7f) * 128 ** index
      if (byte < 0x80) return { length, prefixBytes: index + 1 }
    }
    return undefined
  }

  return {
    read: async (maxBytes) => {
      let header = peekLength()
      while (header === undefined) {
        if (!await pull()) {
          if (buffered === 0) return undefined
          throw new CarrierError('ERR_PROTOCOL', 'the stream ended inside a frame')
        }
        header = peekLength()
      }
      if (header.length > maxBytes) throw new CarrierError('ERR_PROTOCOL', `a frame of ${header.length} bytes is over the limit of ${maxBytes}`)
      while (buffered < header.prefixBytes + header.length) {
        if (!await pull()) throw new CarrierError('ERR_PROTOCOL', 'the stream ended inside a frame')
      }
      return take(header.prefixBytes + header.length).subarray(header.prefixBytes)
    },
    rest: async function * () {
      if (buffered > 0) yield take(buffered)
      while (await pull()) yield take(buffered)
    }
  }
}

function stripUndefined (value: unknown): unknown {
  if (value instanceof Uint8Array || value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(stripUndefined)
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined).map(([key, item]) => [key, stripUndefined(item)]))
}
