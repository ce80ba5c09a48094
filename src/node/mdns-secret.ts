/**
 * How two friends recognise each other on a local network without being recognised: both know a secret that follows from their
 * device keys (X25519 of the one's private and the other's public key), and everything that is sent follows from it. PROTOCOL.md
 * "Local network".
 */
import { createHmac } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { ADDRESS_BYTES, concatBytes, decodeAddress, encodeAddress, utf8Encode } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'

/** First bytes of what the secret is used for. */
const LAN_DOMAIN = 'carrier/lan/v1\0'

/** So long a tag is the same. */
export const TAG_HOUR_MS = 3_600_000

/** Bytes of a tag: looks like chance to everybody but the two. */
export const TAG_BYTES = 16

/** Addresses in an answer: always as many bytes, however many there are. */
export const ANSWER_ADDRESSES = 4

/** Bytes of a nonce. */
const NONCE_BYTES = 24

/** Bytes of a sealed answer. */
export const ANSWER_BYTES = NONCE_BYTES + ANSWER_ADDRESSES * ADDRESS_BYTES + 16

/** The secret of two devices; 32 bytes. Costs a millisecond, so keep it. */
export function lanSecret (identity: Pick<Identity, 'privateKey' | 'publicKey'>, friend: Did): Uint8Array {
  const theirs = publicKeyFromDid(friend)
  // libp2p keeps seed ‖ public key
  const shared = x25519.getSharedSecret(ed25519.utils.toMontgomerySecret(identity.privateKey.raw.subarray(0, 32)), ed25519.utils.toMontgomery(theirs))
  const [low, high] = Buffer.compare(identity.publicKey, theirs) < 0 ? [identity.publicKey, theirs] : [theirs, identity.publicKey]
  return mac(shared, [utf8Encode(LAN_DOMAIN), low, high])
}

/** The number of the hour in which `nowMs` (epoch) lies. */
export function hourOf (nowMs: number): number {
  return Math.floor(nowMs / TAG_HOUR_MS)
}

/** With which the device `asker` asks for the other one in this hour. */
export function lanTag (secret: Uint8Array, asker: Did, hour: number): Uint8Array {
  const time = Buffer.alloc(8)
  time.writeBigUInt64BE(BigInt(hour))
  return mac(secret, [utf8Encode('ask\0'), time, publicKeyFromDid(asker)]).subarray(0, TAG_BYTES)
}

/** Seals where we listen, as an answer to `tag`. `nonce` is random. */
export function sealAnswer (secret: Uint8Array, tag: Uint8Array, addresses: readonly HostAndPort[], nonce: Uint8Array): Uint8Array {
  const plain = new Uint8Array(ANSWER_ADDRESSES * ADDRESS_BYTES)
  for (const [index, address] of addresses.slice(0, ANSWER_ADDRESSES).entries()) plain.set(encodeAddress(address), index * ADDRESS_BYTES)
  return concatBytes([nonce, xchacha20poly1305(answerKey(secret), nonce, tag).encrypt(plain)])
}

/** Opens an answer; undefined when the friend has not made it, or it holds no addresses. */
export function openAnswer (secret: Uint8Array, tag: Uint8Array, sealed: Uint8Array): HostAndPort[] | undefined {
  if (sealed.length !== ANSWER_BYTES) return undefined
  try {
    const plain = xchacha20poly1305(answerKey(secret), sealed.subarray(0, NONCE_BYTES), tag).decrypt(sealed.subarray(NONCE_BYTES))
    return Array.from({ length: ANSWER_ADDRESSES }, (_address, index) => plain.subarray(index * ADDRESS_BYTES, (index + 1) * ADDRESS_BYTES)).filter((bytes) => bytes[0] !== 0).map(decodeAddress)
  } catch {
    // forged, meant for somebody else, or a friend's who sealed what is no address
    return undefined
  }
}

function answerKey (secret: Uint8Array): Uint8Array {
  return mac(secret, [utf8Encode('answer\0')])
}

function mac (key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const hmac = createHmac('sha256', key)
  for (const part of parts) hmac.update(part)
  return new Uint8Array(hmac.digest())
}
