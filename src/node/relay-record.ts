/**
 * What a device says of the relays that hold a reservation for it: signed with its key, so that whoever carries it (a friend, the
 * DHT, a mailbox) can neither make one up nor bring an older one back. PROTOCOL.md "Relay records".
 *
 *   statement = DAG-CBOR {d: key (32 bytes), exp: epoch ms, r: [multiaddr bytes, at most 4], seq: int, v: 1}
 *   record    = DAG-CBOR {b: statement as bytes, s: Ed25519(device key, "carrier/relay-record/v1\0" ‖ statement)}
 */
import { ed25519 } from '@noble/curves/ed25519.js'
import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import { CarrierError, LIMITS, concatBytes, decodeCbor, encodeCbor, equalBytes, utf8Encode } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import { parseRelayAddress } from './relay-address.ts'

/** Signature domain of a record; derivations from the look-up secret begin with it too. */
export const RELAY_RECORD_DOMAIN = utf8Encode('carrier/relay-record/v1\0')

/** A record that was verified. */
export interface RelayRecord {
  device: Did
  /** Grows with every record of the device. Made from its clock, but no time: nothing but the order may be read from it. */
  seq: number
  /** Until when the relays may be relied on; never more than LIMITS.relayRecordTtlMs from the moment of its verification. */
  expiresAtMs: number
  /** Multiaddrs with /p2p/, of relays only; still to be judged before one is dialled (relay-hints.ts). */
  relays: readonly string[]
}

/** What a device says. */
export interface RelayRecordFacts { seq: number, expiresAtMs: number, relays: readonly string[] }

const recordSchema = z.strictObject({ b: bytesSchema(1, LIMITS.relayRecordBytes), s: bytesSchema(64, 64) })

const statementSchema = z.object({
  d: bytesSchema(32, 32),
  exp: z.int().nonnegative(),
  r: z.array(bytesSchema(1, LIMITS.relayRecordAddressBytes)).max(LIMITS.relayRecordRelayCount),
  seq: z.int().nonnegative(),
  v: z.literal(1)
})

/**
 * Signs a record as this device. Of the relays those are left out that are too long; at most LIMITS.relayRecordRelayCount go in.
 *
 * @returns at most LIMITS.relayRecordBytes bytes
 */
export async function signRelayRecord (identity: Pick<Identity, 'publicKey' | 'sign'>, facts: RelayRecordFacts): Promise<Uint8Array> {
  const relays = facts.relays.map((text) => multiaddr(text).bytes).filter((bytes) => bytes.length <= LIMITS.relayRecordAddressBytes).slice(0, LIMITS.relayRecordRelayCount)
  const statement = encodeCbor({ d: identity.publicKey, exp: facts.expiresAtMs, r: relays, seq: facts.seq, v: 1 })
  return encodeCbor({ b: statement, s: await identity.sign(signedBytes(statement)) })
}

/**
 * Verifies a record of `device`. Relays that this release cannot read are left out; one that has expired is a valid record too.
 *
 * @throws CarrierError ERR_PROTOCOL when it is too long, malformed, of another device, or its signature is wrong
 */
export function verifyRelayRecord (bytes: Uint8Array, device: Did, nowMs: number): RelayRecord {
  if (bytes.length > LIMITS.relayRecordBytes) throw new CarrierError('ERR_PROTOCOL', `a relay record has at most ${LIMITS.relayRecordBytes} bytes, not ${bytes.length}`)
  const { b: statement, s: signature } = decodeCbor(recordSchema, bytes)
  const { d, exp, r, seq } = decodeCbor(statementSchema, statement)
  const publicKey = publicKeyFromDid(device)
  if (!equalBytes(d, publicKey)) throw new CarrierError('ERR_PROTOCOL', 'the relay record is of another device')
  if (!isSigned(signature, signedBytes(statement), publicKey)) throw new CarrierError('ERR_PROTOCOL', 'the signature of the relay record is wrong')
  return { device, seq, expiresAtMs: Math.min(exp, Math.floor(nowMs) + LIMITS.relayRecordTtlMs), relays: r.flatMap(readRelay) }
}

/** The strict verification of RFC 8032; what is malformed is not signed. */
export function isSigned (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean {
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false })
  } catch {
    // a malformed key or signature proves nothing
    return false
  }
}

/** A byte string of so many bytes. */
export function bytesSchema (minBytes: number, maxBytes: number): z.ZodType<Uint8Array> {
  return z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length >= minBytes && value.length <= maxBytes, `must be ${minBytes} to ${maxBytes} bytes`)
}

function signedBytes (statement: Uint8Array): Uint8Array {
  return concatBytes([RELAY_RECORD_DOMAIN, statement])
}

function readRelay (bytes: Uint8Array): string[] {
  try {
    return [parseRelayAddress(multiaddr(bytes).toString()).text]
  } catch {
    // a kind of address of a later release, or nonsense: the others may do
    return []
  }
}
