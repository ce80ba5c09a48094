import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { ed25519 } from '@noble/curves/ed25519.js'
import { encodeCbor, fromHex, toHex } from '../../../src/base/index.ts'
import { authMessage, encodePresent, publicKeyFromDid, verifyAuthProof } from '../../../src/identity/index.ts'
import type { AuthTranscript, Did, Present } from '../../../src/identity/index.ts'
import { encodeSessionFrame } from '../../../src/session/frames.ts'
import { splitAuthMessage } from '../../../src/session/session-auth-messages.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  initiator: Did
  responder: Did
  initiatorNonce: string
  responderNonce: string
  sessionId: string
  epoch: number
  present: Present
  presentHash: string
  proofs: Array<{ role: 'i' | 'r', message: string, signature: string }>
  frames: string[]
  longFrame: { exchange: number, frameBytes: number, headers: string[], lengths: number[] }
}
const vectors = readVectors<Vectors>('session-auth')

const wire = (number: number, frame: Uint8Array): Uint8Array[] => splitAuthMessage(number, frame).map(([body, isLast]) => encodeSessionFrame({ type: 'auth', isLast, body }))

test('proofs in a session are those of the vectors, byte for byte, and count for their session, link and role only', () => {
  assert.equal(createHash('sha256').update(encodePresent(vectors.present)).digest('hex'), vectors.presentHash)
  for (const { role, message, signature } of vectors.proofs) {
    const session = { sessionId: fromHex(vectors.sessionId), epoch: vectors.epoch }
    const transcript: AuthTranscript = {
      initiator: vectors.initiator,
      responder: vectors.responder,
      initiatorNonce: fromHex(vectors.initiatorNonce),
      responderNonce: fromHex(vectors.responderNonce),
      role,
      present: vectors.present,
      session
    }
    assert.equal(toHex(authMessage(transcript)), message)
    assert.ok(verifyAuthProof(transcript, fromHex(signature)))
    assert.ok(ed25519.verify(fromHex(signature), fromHex(message), publicKeyFromDid(role === 'i' ? vectors.initiator : vectors.responder)))
    for (const other of [
      { ...transcript, session: undefined },
      { ...transcript, session: { ...session, epoch: vectors.epoch + 1 } },
      { ...transcript, session: { ...session, sessionId: new Uint8Array(16) } },
      { ...transcript, session: { ...session, epoch: 0 } },
      { ...transcript, role: role === 'i' ? 'r' as const : 'i' as const }
    ]) assert.equal(verifyAuthProof(other, fromHex(signature)), false)
  }
})

test('auth frames are those of the vectors', () => {
  assert.deepEqual(wire(3, encodeCbor({ v: 1, n: fromHex(vectors.initiatorNonce) })).map(toHex), vectors.frames)
  const { exchange, frameBytes, headers, lengths } = vectors.longFrame
  const pieces = wire(exchange, new Uint8Array(frameBytes).fill(0x77))
  assert.deepEqual(pieces.map((piece) => toHex(piece.subarray(0, 12))), headers)
  assert.deepEqual(pieces.map((piece) => piece.length), lengths)
})
