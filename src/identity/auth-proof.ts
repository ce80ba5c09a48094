/**
 * The signature of `/carrier/auth/1.0.0`: it binds both devices, both nonces, the signer's role and the set of credentials;
 * inside a session the session and the number of its link too. PROTOCOL.md "Auth".
 */
import { createHash, createPublicKey, verify } from 'node:crypto'
import { z } from 'zod'
import { CarrierError, concatBytes, encodeCbor, utf8Encode } from '../base/index.ts'
import { publicKeyFromDid } from './did.ts'
import type { Did } from './did.ts'
import type { Identity } from './types.ts'

/** Signature domain of the proof of a connection. */
const CONNECTION_DOMAIN = utf8Encode('carrier-auth/1\0')

/** Signature domain of the proof of a link in a session. */
const SESSION_DOMAIN = utf8Encode('carrier-auth-session/1\0')

/** Length of a session id. */
const SESSION_ID_BYTES = 16

/** SubjectPublicKeyInfo of an Ed25519 key up to its 32 bytes (RFC 8410). */
const SPKI_PREFIX = new Uint8Array([0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00])

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

/** Who signs: the side that opened the connection (`i`) or the one that answered (`r`). In a session `i` is its controller. */
export type AuthRole = 'i' | 'r'

/** Where a proof holds when it was not given for a connection: one link of one session. */
export interface SessionBinding {
  /** 16 bytes. */
  sessionId: Uint8Array
  /** Number of the link, 1 to 2^32 - 1. */
  epoch: number
}

/** What this end shows to others in auth, and how it judges what they show. */
export interface Credentials {
  /** What a friend's device is shown; nobody else is shown anything. */
  presentTo: (device: Did) => Present
  /**
   * Judges what the device of a friend showed; the signature over it was verified. Gives the epoch seconds after which it must
   * be shown again, 0 when never. @throws CarrierError when it is not accepted: what ran over it ends
   */
  judge: (device: Did, present: Present) => number
}

/** Nothing is shown, everything is accepted for ever: the owner is the device itself. */
export const NO_CREDENTIALS: Credentials = { presentTo: () => EMPTY_PRESENT, judge: () => 0 }

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
  /** Set inside a session. */
  session?: SessionBinding | undefined
}

/** Canonical bytes of a presentation; their SHA-256 stands in the signed message. */
export function encodePresent (present: Present): Uint8Array {
  return encodeCbor(present)
}

/** The signed bytes. @throws CarrierError ERR_PROTOCOL for a nonce, a session id or an epoch that cannot be one */
export function authMessage (transcript: AuthTranscript): Uint8Array {
  const { initiatorNonce, responderNonce, session } = transcript
  if (initiatorNonce.length !== AUTH_NONCE_BYTES || responderNonce.length !== AUTH_NONCE_BYTES) {
    throw new CarrierError('ERR_PROTOCOL', `a nonce of the auth handshake has ${AUTH_NONCE_BYTES} bytes`)
  }
  if (session !== undefined && (session.sessionId.length !== SESSION_ID_BYTES || !(session.epoch >= 1 && session.epoch <= 0xffff_ffff))) {
    throw new CarrierError('ERR_PROTOCOL', 'a proof in a session names its id, of 16 bytes, and the number of a link')
  }
  return concatBytes([session === undefined ? CONNECTION_DOMAIN : SESSION_DOMAIN, encodeCbor({
    i: transcript.initiator,
    r: transcript.responder,
    ni: initiatorNonce,
    nr: responderNonce,
    role: transcript.role,
    h: new Uint8Array(createHash('sha256').update(encodePresent(transcript.present)).digest()),
    ...(session === undefined ? {} : { s: session.sessionId, e: session.epoch })
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
    // publicKeyFromDid refuses weak keys; OpenSSL verifies strictly as RFC 8032 has it, in a tenth of the time of portable code
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKeyFromDid(signerDid(transcript))]), format: 'der', type: 'spki' })
    return verify(null, authMessage(transcript), key, signature)
  } catch {
    // a malformed nonce, key or signature proves nothing; the caller counts the refusal
    return false
  }
}

function signerDid (transcript: AuthTranscript): Did {
  return transcript.role === 'i' ? transcript.initiator : transcript.responder
}
