/** DIDs of devices: `did:key` of an Ed25519 key, the same 32 bytes as the libp2p PeerId. Spec: W3C CCG did:key, libp2p peer-ids. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { base58 } from '@scure/base'
import { CarrierError, errorMessage } from '../base/index.ts'

/** An Ed25519 did:key that was parsed once and is trusted from then on. */
export type Did = `did:key:z6Mk${string}`

const DID_PREFIX = 'did:key:z'
const ED25519_MULTICODEC = Uint8Array.of(0xed, 0x01)

/** Longest text that is looked at when a DID is parsed. */
const MAX_DID_CHARACTERS = 128

/**
 * Parses a DID.
 *
 * @throws CarrierError ERR_INVALID_DID when it is no Ed25519 did:key, ERR_WEAK_KEY for keys that nobody should own
 */
export function parseDid (text: string): Did {
  publicKeyFromDid(text)
  return text as Did
}

/** True when `text` is an Ed25519 did:key with a sound key. */
export function isDid (text: string): text is Did {
  try {
    publicKeyFromDid(text)
    return true
  } catch {
    // the reason is not asked for
    return false
  }
}

/** The DID of a raw 32-byte Ed25519 key. @throws CarrierError ERR_WEAK_KEY */
export function didFromPublicKey (publicKey: Uint8Array): Did {
  assertStrongKey(publicKey)
  const bytes = new Uint8Array(2 + publicKey.length)
  bytes.set(ED25519_MULTICODEC, 0)
  bytes.set(publicKey, 2)
  return `${DID_PREFIX}${base58.encode(bytes)}` as Did
}

/** The raw 32-byte key of a DID. @throws CarrierError ERR_INVALID_DID, ERR_WEAK_KEY */
export function publicKeyFromDid (did: string): Uint8Array {
  if (did.length > MAX_DID_CHARACTERS || !did.startsWith(DID_PREFIX)) throw invalidDid(did, 'it must start with did:key:z6Mk')
  let bytes: Uint8Array
  try {
    bytes = base58.decode(did.slice(DID_PREFIX.length))
  } catch (err) {
    throw invalidDid(did, errorMessage(err))
  }
  if (bytes[0] !== ED25519_MULTICODEC[0] || bytes[1] !== ED25519_MULTICODEC[1]) throw invalidDid(did, 'only Ed25519 keys (did:key:z6Mk…) can be Carrier devices')
  if (bytes.length !== 34) throw invalidDid(did, `the key has ${bytes.length - 2} bytes instead of 32`)
  const publicKey = bytes.slice(2)
  assertStrongKey(publicKey)
  return publicKey
}

/** The DID of a libp2p PeerId. @throws CarrierError ERR_INVALID_DID for other key types, ERR_WEAK_KEY */
export function didFromPeerId (peerId: PeerId): Did {
  if (peerId.type !== 'Ed25519') throw new CarrierError('ERR_INVALID_DID', `peer ${peerId.toString()} has a ${peerId.type} key; Carrier nodes have Ed25519 keys`)
  return didFromPublicKey(peerId.publicKey.raw)
}

/** The DID of a PeerId in text form. @throws CarrierError ERR_INVALID_DID, ERR_WEAK_KEY */
export function didFromPeerIdString (text: string): Did {
  let peerId: PeerId
  try {
    peerId = peerIdFromString(text)
  } catch (err) {
    throw new CarrierError('ERR_INVALID_DID', `"${text.slice(0, MAX_DID_CHARACTERS)}" is not a PeerId: ${errorMessage(err)}`, { cause: err })
  }
  return didFromPeerId(peerId)
}

/** The libp2p PeerId of a DID. */
export function peerIdFromDid (did: Did): PeerId {
  return peerIdFromPublicKey(publicKeyFromRaw(publicKeyFromDid(did)))
}

/**
 * Refuses keys under which a signature proves nothing: small-order points, non-canonical encodings, wrong length.
 *
 * @throws CarrierError ERR_WEAK_KEY
 */
export function assertStrongKey (publicKey: Uint8Array): void {
  if (publicKey.length !== 32) throw new CarrierError('ERR_WEAK_KEY', `an Ed25519 key has 32 bytes, not ${publicKey.length}`)
  let isSmallOrder: boolean
  try {
    isSmallOrder = ed25519.Point.fromBytes(publicKey, false).isSmallOrder()
  } catch (err) {
    throw new CarrierError('ERR_WEAK_KEY', 'the key is not a canonical point of Ed25519', { cause: err })
  }
  if (isSmallOrder) throw new CarrierError('ERR_WEAK_KEY', 'the key is of small order: anybody could sign for it')
}

function invalidDid (did: string, reason: string): CarrierError {
  return new CarrierError('ERR_INVALID_DID', `"${did.slice(0, MAX_DID_CHARACTERS)}" is not a Carrier DID: ${reason}`)
}
