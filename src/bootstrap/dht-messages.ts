/** The messages of the libp2p kad DHT that a server of the private DHT reads and writes. */
import { CarrierError, LIMITS, decodeProtobuf, encodeProtobuf } from '../base/index.ts'
import { encodeDhtRecord } from '../node/index.ts'

/** The private DHT of Carrier. */
export const KAD_PROTOCOL = '/carrier/kad/1.0.0'

const TYPES = ['put-value', 'get-value', 'add-provider', 'get-providers', 'find-node', 'ping'] as const

/** What is asked. */
export type DhtMessageType = typeof TYPES[number]

/** A request; only the parts that a server looks at. */
export interface DhtRequest {
  type: DhtMessageType
  key: Uint8Array
  /** What is to be kept, still encoded; of put-value only. */
  record: Uint8Array | undefined
}

/** A DHT server that is named in an answer: multihash and multiaddr bytes. */
export interface DhtServerFacts { id: Uint8Array, addresses: readonly Uint8Array[] }

/** Decodes a request. @throws CarrierError ERR_PROTOCOL */
export function decodeDhtRequest (bytes: Uint8Array): DhtRequest {
  const message = decodeProtobuf(bytes, LIMITS.relayMessageFields)
  const type = TYPES[Number(message.varint(1) ?? 0n)]
  if (type === undefined) throw new CarrierError('ERR_PROTOCOL', 'the DHT message has no known type')
  return { type, key: message.bytes(2) ?? new Uint8Array(0), record: type === 'put-value' ? message.bytes(3) : undefined }
}

/** Encodes an answer that names servers closer to the key and, if there is one, the value that is kept. */
export function encodeDhtAnswer (request: DhtRequest, closer: readonly DhtServerFacts[], value?: Uint8Array): Uint8Array {
  return encodeProtobuf([
    [1, TYPES.indexOf(request.type)],
    [2, request.type === 'get-value' || request.type === 'put-value' ? request.key : undefined],
    [3, value === undefined ? undefined : encodeDhtRecord({ key: request.key, value })],
    ...closer.map(({ id, addresses }) => [8, encodeProtobuf([[1, id], ...addresses.map((address) => [2, address] as const)])] as const)
  ])
}
