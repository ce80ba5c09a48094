/**
 * Under which key a relay record lies in the DHT, and with which it is sealed. Both follow from the device's key and a secret that
 * only those know who may find the device: friends (a look-up secret of 32 bytes), or whoever was given an address (its nospam).
 *
 * The servers of the DHT are to refuse what the device has not made, without learning who it is. So the record is signed with a
 * blinded key, as the onion services of Tor (rend-spec v3) have it: P' = h·P with h from the secret. Who knows the secret computes
 * P' from P; who does not cannot tell P' from a random key; and only the device can sign, with h·a. A key that followed from the
 * secret alone would let every friend overwrite the record.
 */
import { createHash, hkdfSync, scrypt } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { CarrierError, concatBytes, utf8Encode } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import { RELAY_RECORD_DOMAIN } from './relay-record.ts'

/** What somebody knows who may find a device. */
export type LookUpSecret = { kind: 'friend', secret: Uint8Array } | { kind: 'address', nospam: Uint8Array }

/** Where a record lies, and how it is opened. */
export interface LookUpKey {
  /** Key of the DHT: SHA-256 of the blinded key. 32 bytes. */
  dhtKey: Uint8Array
  /** The blinded Ed25519 key with which the record must be signed. */
  blindedKey: Uint8Array
  /** XChaCha20-Poly1305. */
  sealKey: Uint8Array
  /** h, as 32 bytes little-endian: the secret of whoever may find the device. */
  blind: Uint8Array
}

/** Length of the secret that friends are given. */
export const LOOK_UP_SECRET_BYTES = 32

const { Point } = ed25519
const { Fn } = Point

/** Cost of making one key out of a nospam: its 48 secret bits alone could be tried out by somebody who knows the DID. */
const SCRYPT = { N: 16_384, r: 8, p: 1 }

/** Derives the keys of a device's record. An address takes about 50 ms on another thread, so keep what it gave. */
export async function deriveLookUpKey (device: Did, by: LookUpSecret): Promise<LookUpKey> {
  const publicKey = publicKeyFromDid(device)
  const [purpose, material] = by.kind === 'friend' ? ['friend', by.secret] as const : ['address', await stretch(by.nospam, publicKey)] as const
  if (material.length !== LOOK_UP_SECRET_BYTES) throw new CarrierError('ERR_INVALID_ARGUMENT', `a look-up secret has ${LOOK_UP_SECRET_BYTES} bytes`)
  const derive = (use: string, length: number): Uint8Array => new Uint8Array(hkdfSync('sha256', material, publicKey, concatBytes([RELAY_RECORD_DOMAIN, utf8Encode(`${purpose} ${use}`)]), length))
  // twice as long as the group's order, so that no value is likelier than another
  const blind = Fn.create(littleEndian(derive('blind', 64)))
  const blindedKey = Point.fromBytes(publicKey).multiply(blind).toBytes()
  return { dhtKey: dhtKeyOf(blindedKey), blindedKey, sealKey: derive('seal', 32), blind: toLittleEndian(blind) }
}

/** The key of the DHT for a blinded key. */
export function dhtKeyOf (blindedKey: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(blindedKey).digest())
}

/** Signs with the blinded key: an ordinary Ed25519 signature under `key.blindedKey`. `message` begins with a domain of its own. */
export function signBlinded (identity: Pick<Identity, 'privateKey'>, key: LookUpKey, message: Uint8Array): Uint8Array {
  // libp2p keeps seed ‖ public key
  const { scalar, prefix } = ed25519.utils.getExtendedPublicKey(identity.privateKey.raw.subarray(0, 32))
  const blindedScalar = Fn.mul(scalar, littleEndian(key.blind))
  // the nonce differs from that of every other use of the device's key
  const blindedPrefix = sha512([RELAY_RECORD_DOMAIN, utf8Encode('nonce'), prefix, key.blind]).subarray(0, 32)
  const nonce = Fn.create(littleEndian(sha512([blindedPrefix, message])))
  const commitment = Point.BASE.multiply(nonce).toBytes()
  const challenge = Fn.create(littleEndian(sha512([commitment, key.blindedKey, message])))
  return concatBytes([commitment, toLittleEndian(Fn.add(nonce, Fn.mul(challenge, blindedScalar)))])
}

async function stretch (nospam: Uint8Array, publicKey: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    scrypt(nospam, concatBytes([RELAY_RECORD_DOMAIN, publicKey]), LOOK_UP_SECRET_BYTES, SCRYPT, (err, bytes) => {
      if (err === null) resolve(new Uint8Array(bytes))
      else reject(err)
    })
  })
}

function sha512 (parts: readonly Uint8Array[]): Uint8Array {
  return createHash('sha512').update(concatBytes(parts)).digest()
}

function littleEndian (bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
}

function toLittleEndian (value: bigint): Uint8Array {
  return new Uint8Array(Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse())
}
