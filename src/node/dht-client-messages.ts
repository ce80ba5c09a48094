/** Messages of the private DHT as one who asks sees them: libp2p's kad messages, of which only values are used. PROTOCOL.md "Private DHT". */
import { CarrierError, LIMITS, decodeProtobuf, encodeProtobuf } from '../base/index.ts'

/** A value and its key. */
export interface DhtRecord { key: Uint8Array, value: Uint8Array }

const PUT_VALUE = 0
const GET_VALUE = 1

/** Asks a server to keep a value. */
export function encodeDhtPut (record: DhtRecord): Uint8Array {
  return encodeProtobuf([[1, PUT_VALUE], [2, record.key], [3, encodeDhtRecord(record)]])
}

/** Asks a server for a value. */
export function encodeDhtGet (key: Uint8Array): Uint8Array {
  return encodeProtobuf([[1, GET_VALUE], [2, key]])
}

/** The value in an answer; undefined when the server has none. What is in it proves nothing yet. @throws CarrierError ERR_PROTOCOL */
export function decodeDhtValue (bytes: Uint8Array): DhtRecord | undefined {
  const message = decodeProtobuf(bytes, LIMITS.relayMessageFields)
  const record = message.bytes(3)
  return record === undefined ? undefined : decodeDhtRecord(record)
}

/** libp2p's Record: key and value. */
export function encodeDhtRecord ({ key, value }: DhtRecord): Uint8Array {
  return encodeProtobuf([[1, key], [2, value]])
}

/** Reads libp2p's Record; its other members say nothing here. @throws CarrierError ERR_PROTOCOL */
export function decodeDhtRecord (bytes: Uint8Array): DhtRecord {
  const record = decodeProtobuf(bytes, LIMITS.relayMessageFields)
  const [key, value] = [record.bytes(1), record.bytes(2)]
  if (key === undefined || value === undefined) throw new CarrierError('ERR_PROTOCOL', 'the DHT record has no key or no value')
  return { key, value }
}
