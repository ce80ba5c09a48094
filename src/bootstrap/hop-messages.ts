/**
 * The messages of circuit relay v2, as its specification names them, without any socket.
 * On the wire every message is preceded by its length as an unsigned varint. Seconds and bytes here are seconds and bytes on the wire.
 */
import { CarrierError, LIMITS, decodeProtobuf, encodeProtobuf } from '../base/index.ts'

/** Protocol that clients of the relay open: RESERVE and CONNECT. */
export const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'

/** Protocol that the relay opens at the called peer. */
export const STOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/stop'

/** Status codes of hop and stop messages. */
export const STATUS = {
  OK: 100,
  RESERVATION_REFUSED: 200,
  RESOURCE_LIMIT_EXCEEDED: 201,
  PERMISSION_DENIED: 202,
  CONNECTION_FAILED: 203,
  NO_RESERVATION: 204,
  MALFORMED_MESSAGE: 400,
  UNEXPECTED_MESSAGE: 401
} as const

/** Name of a status, also used as metric label. */
export type StatusName = keyof typeof STATUS

/** Limits of one circuit; an absent member is "no limit". Bytes count per direction (circuit v2, §limit). */
export interface CircuitLimits { durationSeconds?: number, dataBytes?: bigint }

/** What a client may ask; a status at this place is unexpected. */
export type HopRequest = { type: 'reserve' } | { type: 'connect', peerId: Uint8Array } | { type: 'unexpected' }

/** What a relay answers to RESERVE. */
export interface ReservationAnswer {
  /** Epoch seconds. */
  expireSeconds: number
  /** Multiaddr bytes of the relay. */
  addresses: readonly Uint8Array[]
  /** A signed envelope. */
  voucher: Uint8Array
}

/** Decodes what a client sent on a hop stream. @throws CarrierError ERR_PROTOCOL */
export function decodeHopRequest (bytes: Uint8Array): HopRequest {
  const message = decodeProtobuf(bytes, LIMITS.relayMessageFields)
  switch (message.varint(1)) {
    case 0n: return { type: 'reserve' }
    case 1n: {
      const peer = message.bytes(2)
      const peerId = peer === undefined ? undefined : decodeProtobuf(peer, LIMITS.relayMessageFields).bytes(1)
      if (peerId === undefined || peerId.length === 0 || peerId.length > MAX_PEER_ID_BYTES) throw new CarrierError('ERR_PROTOCOL', 'CONNECT names no peer')
      return { type: 'connect', peerId }
    }
    case 2n: return { type: 'unexpected' }
    case undefined:
    default: throw new CarrierError('ERR_PROTOCOL', 'the hop message has no known type')
  }
}

/** Encodes the relay's answer on a hop stream. */
export function encodeHopStatus (status: StatusName, extra: { reservation?: ReservationAnswer | undefined, limits?: CircuitLimits | undefined } = {}): Uint8Array {
  return encodeProtobuf([
    [1, 2],
    [3, extra.reservation === undefined ? undefined : encodeReservation(extra.reservation)],
    [4, encodeLimits(extra.limits)],
    [5, STATUS[status]]
  ])
}

/** Encodes the relay's CONNECT to the called peer. */
export function encodeStopConnect (caller: Uint8Array, limits: CircuitLimits | undefined): Uint8Array {
  return encodeProtobuf([[1, 0], [2, encodeProtobuf([[1, caller]])], [3, encodeLimits(limits)]])
}

/** The status number that the called peer answered. @throws CarrierError ERR_PROTOCOL */
export function decodeStopStatus (bytes: Uint8Array): number {
  const message = decodeProtobuf(bytes, LIMITS.relayMessageFields)
  const status = message.varint(4)
  if (message.varint(1) !== 1n || status === undefined || status > 0xffffn) throw new CarrierError('ERR_PROTOCOL', 'the called peer did not answer with a status')
  return Number(status)
}

// an identity multihash of a public key is 38 bytes for Ed25519; 64 leaves room for hashed RSA keys
const MAX_PEER_ID_BYTES = 64

function encodeReservation (reservation: ReservationAnswer): Uint8Array {
  return encodeProtobuf([
    [1, reservation.expireSeconds],
    ...reservation.addresses.map((address) => [2, address] as const),
    [3, reservation.voucher]
  ])
}

function encodeLimits (limits: CircuitLimits | undefined): Uint8Array | undefined {
  if (limits?.durationSeconds === undefined && limits?.dataBytes === undefined) return undefined
  return encodeProtobuf([[1, limits.durationSeconds], [2, limits.dataBytes]])
}
