/**
 * A small bounded protobuf codec for the few foreign messages that Carrier speaks itself (circuit relay v2, kad, signed envelopes).
 * Wire types 0 and 2 are understood, 1 and 5 are skipped when unknown, groups are refused. Everything of our own is DAG-CBOR.
 */
import { concatBytes } from './bytes.ts'
import { CarrierError } from './errors.ts'

/** One field to encode: a number or bigint becomes a varint, bytes a length-delimited field, undefined is left out. */
export type ProtobufField = readonly [number: number, value: Uint8Array | number | bigint | undefined]

/** Encodes fields in the given order; repeat a number for a repeated field. */
export function encodeProtobuf (fields: readonly ProtobufField[]): Uint8Array {
  const parts: Uint8Array[] = []
  for (const [number, value] of fields) {
    if (value === undefined) continue
    if (value instanceof Uint8Array) parts.push(encodeVarint64(BigInt(number) << 3n | 2n), encodeVarint64(BigInt(value.length)), value)
    else parts.push(encodeVarint64(BigInt(number) << 3n), encodeVarint64(BigInt(value)))
  }
  return concatBytes(parts)
}

/** The fields of a decoded message. Absent is undefined; of a field that came twice the last one counts, as protobuf says. */
export interface ProtobufMessage {
  /** @throws CarrierError ERR_PROTOCOL when the field is not a varint */
  varint: (number: number) => bigint | undefined
  /** A view into the input. @throws CarrierError ERR_PROTOCOL when the field is not length-delimited */
  bytes: (number: number) => Uint8Array | undefined
  /** All values of a repeated length-delimited field, as views into the input. @throws CarrierError ERR_PROTOCOL */
  repeated: (number: number) => Uint8Array[]
}

/**
 * Decodes one message. The caller has bounded `input`; `maxFields` bounds what is made of it.
 *
 * @throws CarrierError ERR_PROTOCOL for anything that is not protobuf, and for more fields than allowed
 */
export function decodeProtobuf (input: Uint8Array, maxFields: number): ProtobufMessage {
  const fields: Array<{ number: number, value: bigint | Uint8Array | undefined }> = []
  let offset = 0

  function readVarint (): bigint {
    let value = 0n
    for (let index = 0; index < MAX_VARINT_BYTES; index++) {
      const byte = input[offset]
      if (byte === undefined) throw malformed('it ends inside a number')
      offset++
      value |= BigInt(byte & 0x7f) << BigInt(index * 7)
      if (byte < 0x80) {
        if (value > MAX_UINT64) break
        return value
      }
    }
    throw malformed('a number is over 64 bits')
  }

  function take (length: bigint): Uint8Array {
    if (length > BigInt(input.length - offset)) throw malformed('a field is longer than the message')
    const start = offset
    offset += Number(length)
    return input.subarray(start, offset)
  }

  while (offset < input.length) {
    if (fields.length >= maxFields) throw malformed(`it has more than ${maxFields} fields`)
    const tag = readVarint()
    const number = Number(tag >> 3n)
    if (number < 1 || number > MAX_FIELD_NUMBER) throw malformed('a field number is out of range')
    switch (Number(tag & 7n)) {
      case 0: fields.push({ number, value: readVarint() }); break
      case 1: take(8n); fields.push({ number, value: undefined }); break
      case 2: fields.push({ number, value: take(readVarint()) }); break
      case 5: take(4n); fields.push({ number, value: undefined }); break
      default: throw malformed('a wire type is unknown')
    }
  }

  return {
    varint: (number) => {
      const found = fields.findLast((field) => field.number === number)
      if (found !== undefined && typeof found.value !== 'bigint') throw malformed(`field ${number} is not a number`)
      return found?.value as bigint | undefined
    },
    bytes: (number) => {
      const found = fields.findLast((field) => field.number === number)
      if (found !== undefined && !(found.value instanceof Uint8Array)) throw malformed(`field ${number} is not bytes`)
      return found?.value as Uint8Array | undefined
    },
    repeated: (number) => fields.filter((field) => field.number === number).map(({ value }) => {
      if (!(value instanceof Uint8Array)) throw malformed(`field ${number} is not bytes`)
      return value
    })
  }
}

const MAX_VARINT_BYTES = 10
const MAX_UINT64 = (1n << 64n) - 1n
const MAX_FIELD_NUMBER = 2 ** 29 - 1

function encodeVarint64 (value: bigint): Uint8Array {
  if (value < 0n || value > MAX_UINT64) throw new CarrierError('ERR_INVALID_ARGUMENT', 'a protobuf number is not an unsigned 64-bit integer')
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}

function malformed (why: string): CarrierError {
  return new CarrierError('ERR_PROTOCOL', `the message is not valid protobuf: ${why}`)
}
