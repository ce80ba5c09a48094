/** Whether a sealed record is signed, at a price that a server can pay for many: OpenSSL takes a fraction of the time of the library. */
import { createPublicKey, verify } from 'node:crypto'
import { assertStrongKey } from '../identity/index.ts'
import type { RelayEnvelope } from '../node/index.ts'

/** DER of a SubjectPublicKeyInfo with an Ed25519 key, up to the key. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/**
 * True when the owner of the blinded key has signed it. As strict as everywhere: keys of small order and other spellings of a point
 * are refused before, whatever the version of OpenSSL thinks of them. It refuses an S beyond the group's order and has no cofactor
 * (RFC 8032, 5.1.7), so what a server keeps every node accepts.
 */
export function isEnvelopeSigned ({ blindedKey, signature, signed }: Pick<RelayEnvelope, 'blindedKey' | 'signature' | 'signed'>): boolean {
  try {
    assertStrongKey(blindedKey)
    return verify(null, signed, createPublicKey({ key: Buffer.concat([SPKI_PREFIX, blindedKey]), format: 'der', type: 'spki' }), signature)
  } catch {
    // nobody's key, so nobody's record
    return false
  }
}
