import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { ed25519 } from '@noble/curves/ed25519.js'
import { base58 } from '@scure/base'
import fc from 'fast-check'
import { fromHex, toHex } from '../../../src/base/index.ts'
import { authMessage, EMPTY_PRESENT, encodePresent, presentSchema, signAuthProof, verifyAuthProof } from '../../../src/identity/index.ts'
import type { AuthTranscript, Did, Present } from '../../../src/identity/index.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  initiatorSeed: string
  responderSeed: string
  initiator: Did
  responder: Did
  initiatorNonce: string
  responderNonce: string
  role: 'i' | 'r'
  present: Present
  presentBytes: string
  presentHash: string
  message: string
  signature: string
}
const vectors = readVectors<Vectors>('auth-proof')
const transcript: AuthTranscript = {
  initiator: vectors.initiator,
  responder: vectors.responder,
  initiatorNonce: fromHex(vectors.initiatorNonce),
  responderNonce: fromHex(vectors.responderNonce),
  role: vectors.role,
  present: vectors.present
}
const signature = fromHex(vectors.signature)

async function signer (seed: string, did: Did): Promise<{ did: Did, sign: (message: Uint8Array) => Promise<Uint8Array> }> {
  const key = await generateKeyPairFromSeed('Ed25519', fromHex(seed))
  return { did, sign: async (message) => key.sign(message) }
}

test('message and signature are those of the vector, byte for byte', async () => {
  assert.equal(toHex(encodePresent(vectors.present)), vectors.presentBytes)
  assert.equal(createHash('sha256').update(encodePresent(vectors.present)).digest('hex'), vectors.presentHash)
  assert.equal(toHex(authMessage(transcript)), vectors.message)
  const identity = await signer(vectors.initiatorSeed, vectors.initiator)
  assert.equal(toHex(await signAuthProof(identity, transcript)), vectors.signature)
  assert.equal(verifyAuthProof(transcript, signature), true)
})

test('I2: a proof counts for exactly one transcript', () => {
  const others: Array<[what: string, change: Partial<AuthTranscript>]> = [
    ['another initiator', { initiator: vectors.responder }],
    ['another responder', { responder: vectors.initiator }],
    ['a replay under a new nonce of the initiator', { initiatorNonce: new Uint8Array(16).fill(0x12) }],
    ['a replay under a new nonce of the responder', { responderNonce: new Uint8Array(16).fill(0x23) }],
    ['nonces swapped', { initiatorNonce: transcript.responderNonce, responderNonce: transcript.initiatorNonce }],
    ['a reflection: the same proof in the other role', { role: 'r' }],
    ['another credential set', { present: EMPTY_PRESENT }],
    ['one grant added', { present: { ...vectors.present, grants: ['D.E.F'] } }]
  ]
  for (const [what, change] of others) assert.equal(verifyAuthProof({ ...transcript, ...change }, signature), false, what)
})

test('I2: the responder signs as responder, and its proof does not pass as the initiator\'s', async () => {
  const identity = await signer(vectors.responderSeed, vectors.responder)
  const theirs = { ...transcript, role: 'r' as const }
  const proof = await signAuthProof(identity, theirs)
  assert.equal(verifyAuthProof(theirs, proof), true)
  assert.equal(verifyAuthProof(transcript, proof), false)
})

test('signing for the other side\'s role is refused', async () => {
  const identity = await signer(vectors.responderSeed, vectors.responder)
  await assert.rejects(signAuthProof(identity, transcript), { code: 'ERR_INTERNAL' })
})

test('I2: the signature that fits every message under a weak key is refused', () => {
  // R = identity point, S = 0: lax verification (ZIP 215) accepts it under the identity-point key for any message
  const forged = new Uint8Array(64)
  forged[0] = 1
  const weakKey = new Uint8Array(32)
  weakKey[0] = 1
  const weakDid = `did:key:z${base58.encode(Uint8Array.of(0xed, 0x01, ...weakKey))}` as Did
  const weak = { ...transcript, initiator: weakDid }
  assert.equal(ed25519.verify(forged, authMessage(weak), weakKey), true, 'the attack exists')
  assert.equal(verifyAuthProof(weak, forged), false)
})

test('I2: the strict verification of RFC 8032 is used: a signature whose R is not canonical is refused', () => {
  // R = the identity point, written as y = p + 1; the key's owner can make such a signature, and lax verification takes it
  const { scalar, pointBytes } = ed25519.utils.getExtendedPublicKey(fromHex(vectors.initiatorSeed))
  const r = new Uint8Array(32).fill(0xff)
  r[0] = 0xee
  r[31] = 0x7f
  const message = authMessage(transcript)
  const hash = createHash('sha512').update(r).update(pointBytes).update(message).digest()
  const order = ed25519.Point.Fn.ORDER
  const s = (littleEndian(hash) % order) * scalar % order
  const proof = new Uint8Array(64)
  proof.set(r)
  proof.set(Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse(), 32)
  assert.equal(ed25519.verify(proof, message, pointBytes), true, 'lax verification takes it')
  assert.equal(verifyAuthProof(transcript, proof), false)
})

test('the signer\'s role is in the signed bytes', () => {
  assert.notDeepEqual(authMessage(transcript), authMessage({ ...transcript, role: 'r' }))
})

function littleEndian (bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
}

test('what comes from the network never makes the verifier throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ maxLength: 20 }), fc.string(), (proof, nonce, did) => {
    assert.equal(verifyAuthProof({ ...transcript, responderNonce: nonce, initiator: did as Did }, proof), false)
    assert.equal(verifyAuthProof(transcript, proof), false)
  }), { numRuns: 50 })
  for (const length of [0, 63, 65]) assert.equal(verifyAuthProof(transcript, new Uint8Array(length)), false)
})

test('a nonce of the wrong length is refused', () => {
  for (const length of [0, 15, 17]) assert.throws(() => authMessage({ ...transcript, initiatorNonce: new Uint8Array(length) }), { code: 'ERR_PROTOCOL' })
})

test('I8: a presentation is bounded and has no other members', () => {
  assert.equal(presentSchema.safeParse(EMPTY_PRESENT).success, true)
  assert.equal(presentSchema.safeParse({ ...EMPTY_PRESENT, v: 2 }).success, false)
  assert.equal(presentSchema.safeParse({ ...EMPTY_PRESENT, more: 1 }).success, false)
  assert.equal(presentSchema.safeParse({ ...EMPTY_PRESENT, vcs: Array(17).fill('x') }).success, false)
  assert.equal(presentSchema.safeParse({ ...EMPTY_PRESENT, grants: ['x'.repeat(4097)] }).success, false)
})
