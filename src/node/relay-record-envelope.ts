/**
 * A relay record as it lies in the DHT: sealed, of constant size, and signed with a key that says nothing about the device.
 * Servers keep what {@link checkRelayEnvelope} lets through and whose signature holds. PROTOCOL.md "Relay records".
 *
 *   body     = DAG-CBOR {c: nonce (24 bytes) ‖ XChaCha20-Poly1305(seal key, nonce, padded record, aad: blinded key), exp: epoch ms, seq: int, v: 1}
 *   envelope = DAG-CBOR {b: body as bytes, k: blinded key, s: Ed25519(blinded key, "carrier/relay-envelope/v1\0" ‖ body)}
 *   padded   = length of the record (2 bytes, big endian) ‖ record ‖ zeros, LIMITS.relayRecordBytes + 2 in all
 */
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { z } from 'zod'
import { CarrierError, LIMITS, concatBytes, decodeCbor, encodeCbor, equalBytes, utf8Encode } from '../base/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import { bytesSchema, isSigned, verifyRelayRecord } from './relay-record.ts'
import type { RelayRecord } from './relay-record.ts'
import { dhtKeyOf, signBlinded } from './relay-record-key.ts'
import type { LookUpKey } from './relay-record-key.ts'

/** Signature domain of an envelope. */
const ENVELOPE_DOMAIN = utf8Encode('carrier/relay-envelope/v1\0')

const NONCE_BYTES = 24
const TAG_BYTES = 16
const PADDED_BYTES = 2 + LIMITS.relayRecordBytes
const SEALED_BYTES = NONCE_BYTES + PADDED_BYTES + TAG_BYTES

const envelopeSchema = z.strictObject({ b: bytesSchema(1, LIMITS.relayEnvelopeBytes), k: bytesSchema(32, 32), s: bytesSchema(64, 64) })
const bodySchema = z.strictObject({ c: bytesSchema(SEALED_BYTES, SEALED_BYTES), exp: z.int().nonnegative(), seq: z.int().nonnegative(), v: z.literal(1) })

/** What a server needs to know of an envelope. */
export interface RelayEnvelope {
  seq: number
  /** What it says, but never more than LIMITS.relayRecordTtlMs from now. */
  expiresAtMs: number
  blindedKey: Uint8Array
  sealed: Uint8Array
  signature: Uint8Array
  /** What the signature covers. */
  signed: Uint8Array
}

/** Seals and signs a record. `random` gives a nonce of 24 bytes. */
export function sealRelayRecord (identity: Pick<Identity, 'privateKey'>, key: LookUpKey, record: { bytes: Uint8Array, seq: number, expiresAtMs: number }, random: (length: number) => Uint8Array): Uint8Array {
  const { bytes } = record
  if (bytes.length > LIMITS.relayRecordBytes) throw new CarrierError('ERR_INVALID_ARGUMENT', `a relay record of ${bytes.length} bytes is too long to be sealed`)
  const padded = new Uint8Array(PADDED_BYTES)
  padded.set([bytes.length >> 8, bytes.length & 0xff])
  padded.set(bytes, 2)
  const nonce = random(NONCE_BYTES)
  const sealed = concatBytes([nonce, xchacha20poly1305(key.sealKey, nonce, key.blindedKey).encrypt(padded)])
  const body = encodeCbor({ c: sealed, exp: record.expiresAtMs, seq: record.seq, v: 1 })
  return encodeCbor({ b: body, k: key.blindedKey, s: signBlinded(identity, key, concatBytes([ENVELOPE_DOMAIN, body])) })
}

/**
 * Everything about an envelope but its signature, which costs a hundred times as much.
 *
 * @throws CarrierError ERR_PROTOCOL when it is too long, malformed, for another key, or expired
 */
export function checkRelayEnvelope (bytes: Uint8Array, dhtKey: Uint8Array, nowMs: number): RelayEnvelope {
  if (bytes.length > LIMITS.relayEnvelopeBytes) throw new CarrierError('ERR_PROTOCOL', `the record of ${bytes.length} bytes is over the limit of ${LIMITS.relayEnvelopeBytes}`)
  const { b: body, k: blindedKey, s: signature } = decodeCbor(envelopeSchema, bytes)
  if (!equalBytes(dhtKeyOf(blindedKey), dhtKey)) throw new CarrierError('ERR_PROTOCOL', 'the record is for another key')
  const { c, exp, seq } = decodeCbor(bodySchema, body)
  if (exp <= nowMs) throw new CarrierError('ERR_PROTOCOL', 'the record has expired')
  return { seq, expiresAtMs: Math.min(exp, nowMs + LIMITS.relayRecordTtlMs), blindedKey, sealed: c, signature, signed: concatBytes([ENVELOPE_DOMAIN, body]) }
}

/**
 * Opens what a server gave for the key and verifies the record inside.
 *
 * @throws CarrierError ERR_PROTOCOL when any part of it is not the device's
 */
export function openRelayEnvelope (bytes: Uint8Array, key: LookUpKey, device: Did, nowMs: number): { record: RelayRecord, bytes: Uint8Array } {
  const envelope = checkRelayEnvelope(bytes, key.dhtKey, nowMs)
  if (!isSigned(envelope.signature, envelope.signed, key.blindedKey)) throw new CarrierError('ERR_PROTOCOL', 'the signature of the sealed record is wrong')
  let padded: Uint8Array
  try {
    padded = xchacha20poly1305(key.sealKey, envelope.sealed.subarray(0, NONCE_BYTES), key.blindedKey).decrypt(envelope.sealed.subarray(NONCE_BYTES))
  } catch (err) {
    throw new CarrierError('ERR_PROTOCOL', 'the sealed record cannot be opened', { cause: err })
  }
  const length = (padded[0] ?? 0) << 8 | (padded[1] ?? 0)
  if (length > LIMITS.relayRecordBytes) throw new CarrierError('ERR_PROTOCOL', 'the sealed record is malformed')
  const inner = padded.slice(2, 2 + length)
  return { record: verifyRelayRecord(inner, device, nowMs), bytes: inner }
}
