/** The signature of `/carrier/auth/1.0.0`: it binds both devices, both nonces, the signer's role and the set of credentials. PROTOCOL.md "Auth". */
import { createHash } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { z } from 'zod'
import { CarrierError, concatBytes, encodeCbor, utf8Encode } from '../base/index.ts'
import { publicKeyFromDid } from './did.ts'
import type { Did } from './did.ts'
import type { Identity } from './types.ts'

/** Signature domain of the proof. */
const DOMAIN = utf8Encode('carrier-auth/1\0')

/** Length of each side's nonce. */
export const AUTH_NONCE_BYTES = 16

/** Length of the proof. */
export const AUTH_SIGNATURE_BYTES = 64

const MAX_TOKEN_CHARACTERS = 4096
const MAX_TOKEN_COUNT = 16

/** Shape of {@link Present} on the wire; the frame that carries it bounds its bytes. */
export const presentSchema = z.strictObject({
  v: z.literal(1),
  vcs: z.array(z.string().max(MAX_TOKEN_CHARACTERS)).max(MAX_TOKEN_COUNT),
  grants: z.array(z.string().max(MAX_TOKEN_CHARACTERS)).max(MAX_TOKEN_COUNT),
  docs: z.array(z.unknown()).max(MAX_TOKEN_COUNT)
})

/** The credentials that one side shows: identity tokens, grants, and documents that let the other side check them offline. */
export type Present = z.infer<typeof presentSchema>

/** A presentation without credentials: the owner is the device itself. */
export const EMPTY_PRESENT: Present = { v: 1, vcs: [], grants: [], docs: [] }

/** Who signs: the side that opened the connection (`i`) or the one that answered (`r`). */
export type AuthRole = 'i' | 'r'

/** Everything that a proof covers. Each side builds it from what it knows itself, never from claims of the other. */
export interface AuthTranscript {
  /** DID of the key that the transport proved for the initiator. */
  initiator: Did
  responder: Did
  initiatorNonce: Uint8Array
  responderNonce: Uint8Array
  /** Role of the signer. */
  role: AuthRole
  /** What the signer presents. */
  present: Present
}

/** Canonical bytes of a presentation; their SHA-256 stands in the signed message. */
export function encodePresent (present: Present): Uint8Array {
  return encodeCbor(present)
}

/** The signed bytes. @throws CarrierError ERR_PROTOCOL for a nonce of the wrong length */
export function authMessage (transcript: AuthTranscript): Uint8Array {
  const { initiatorNonce, responderNonce } = transcript
  if (initiatorNonce.length !== AUTH_NONCE_BYTES || responderNonce.length !== AUTH_NONCE_BYTES) {
    throw new CarrierError('ERR_PROTOCOL', `a nonce of the auth handshake has ${AUTH_NONCE_BYTES} bytes`)
  }
  return concatBytes([DOMAIN, encodeCbor({
    i: transcript.initiator,
    r: transcript.responder,
    ni: initiatorNonce,
    nr: responderNonce,
    role: transcript.role,
    h: new Uint8Array(createHash('sha256').update(encodePresent(transcript.present)).digest())
  })])
}

/** Signs as this device; the transcript's DID of the signer's role must be our own. */
export async function signAuthProof (identity: Pick<Identity, 'did' | 'sign'>, transcript: AuthTranscript): Promise<Uint8Array> {
  if (signerDid(transcript) !== identity.did) throw new CarrierError('ERR_INTERNAL', 'an auth proof can only be signed for the own role')
  return identity.sign(authMessage(transcript))
}

/** True when `signature` is the proof of the device that the transcript names for the signer's role. Never throws on what came from the network. */
export function verifyAuthProof (transcript: AuthTranscript, signature: Uint8Array): boolean {
  if (signature.length !== AUTH_SIGNATURE_BYTES) return false
  try {
    // publicKeyFromDid refuses weak keys; zip215: false is the strict verification of RFC 8032
    return ed25519.verify(signature, authMessage(transcript), publicKeyFromDid(signerDid(transcript)), { zip215: false })
  } catch {
    // a malformed nonce, key or signature proves nothing; the caller counts the refusal
    return false
  }
}

function signerDid (transcript: AuthTranscript): Did {
  return transcript.role === 'i' ? transcript.initiator : transcript.responder
}
