/**
 * What forwarding says over channels, PROTOCOL.md "Forwarding".
 *
 * kind `tcp`       opening message {v, service, probe?}; then bytes of the connection in both directions.
 *                  With `probe` the answering side connects to the target, closes it, and ends the channel without a byte.
 * kind `services`  opening message {v}; answer: one frame {v, names}, then the end.
 *
 * A refusal is a reset with one of the wire codes of base/errors.ts.
 */
import { z } from 'zod'
import { CarrierError, decodeCbor, encodeCbor, LIMITS } from '../base/index.ts'

/** Kinds of channels. */
export const CHANNEL_KIND = { tcp: 'tcp', services: 'services' } as const

/** Version of both opening messages. */
const VERSION = 1

const serviceName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)

const version = z.object({ v: z.number().int() })

const tcpOpening = z.strictObject({ v: z.literal(VERSION), service: serviceName, probe: z.boolean().optional() })

const servicesOpening = z.strictObject({ v: z.literal(VERSION) })

const servicesAnswer = z.strictObject({ v: z.literal(VERSION), names: z.array(serviceName).max(LIMITS.serviceCount) })

/** Asks for a connection to a service, or only whether one would come about. */
export interface TcpOpening { service: string, probe: boolean }

/** Encodes the opening message of kind `tcp`. */
export function encodeTcpOpening (opening: TcpOpening): Uint8Array {
  return encodeCbor({ v: VERSION, service: opening.service, ...(opening.probe ? { probe: true } : {}) })
}

/** Openings that were decoded: friends ask for the same few services again and again. */
const decoded = new Map<string, TcpOpening>()
const MAX_DECODED_COUNT = 256

/** @throws CarrierError ERR_PROTOCOL, ERR_UNSUPPORTED_VERSION */
export function decodeTcpOpening (bytes: Uint8Array): TcpOpening {
  if (bytes.length > MAX_OPENING_BYTES) return decodeNewOpening(bytes)
  const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
  const known = decoded.get(key)
  if (known !== undefined) return known
  const opening = decodeNewOpening(bytes)
  if (decoded.size >= MAX_DECODED_COUNT) decoded.clear()
  decoded.set(key, opening)
  return opening
}

/** Longer than any that is right. */
const MAX_OPENING_BYTES = 256

function decodeNewOpening (bytes: Uint8Array): TcpOpening {
  checkVersion(bytes)
  const { service, probe } = decodeCbor(tcpOpening, bytes)
  return Object.freeze({ service, probe: probe === true })
}

/** Encodes the opening message of kind `services`. */
export function encodeServicesOpening (): Uint8Array {
  return encodeCbor({ v: VERSION })
}

/** @throws CarrierError ERR_PROTOCOL, ERR_UNSUPPORTED_VERSION */
export function checkServicesOpening (bytes: Uint8Array): void {
  checkVersion(bytes)
  decodeCbor(servicesOpening, bytes)
}

/** Encodes the answer of kind `services`. */
export function encodeServicesAnswer (names: readonly string[]): Uint8Array {
  return encodeCbor({ v: VERSION, names })
}

/** @throws CarrierError ERR_PROTOCOL, ERR_UNSUPPORTED_VERSION */
export function decodeServicesAnswer (bytes: Uint8Array): string[] {
  checkVersion(bytes)
  return decodeCbor(servicesAnswer, bytes).names
}

/** The version is judged before the shape, so that a newer shape gets the right answer. */
function checkVersion (bytes: Uint8Array): void {
  if (bytes.length > LIMITS.friendFrameBytes) throw new CarrierError('ERR_PROTOCOL', 'the message is too long')
  const { v } = decodeCbor(version, bytes)
  if (v !== VERSION) throw new CarrierError('ERR_UNSUPPORTED_VERSION', `the other side speaks version ${v} of forwarding, this release version ${VERSION}: update the older one`)
}
