/** Bytes of `/carrier/reach/1.0.0` and of a refusal by quota, as PROTOCOL.md has them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { decodeReachAnswer, decodeReachCheck, encodeReachAnswer, encodeReachCheck } from '../../../src/bootstrap/reach-messages.ts'
import type { ReachAnswer } from '../../../src/bootstrap/reach-messages.ts'
import { decodeSpliceResult, encodeSpliceResult } from '../../../src/node/splice-messages.ts'
import type { SpliceResult } from '../../../src/node/splice-messages.ts'
import { readVectors } from '../../support/vectors.ts'

const vectors = readVectors<{
  check: { addresses: string[], bytes: string }
  answers: Array<{ answer: ReachAnswer, bytes: string }>
  quotaRefusal: { message: SpliceResult, bytes: string }
  refused: Array<{ why: string, bytes: string }>
}>('relay-reach')
const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))
const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('messages are encoded and decoded as in the vectors', () => {
  const { check, answers, quotaRefusal } = vectors
  assert.equal(toHex(encodeReachCheck(check.addresses.map((text) => multiaddr(text).bytes))), check.bytes)
  assert.deepEqual(decodeReachCheck(fromHex(check.bytes)).map((bytes) => multiaddr(bytes).toString()), check.addresses)
  for (const { answer, bytes } of answers) {
    assert.equal(toHex(encodeReachAnswer(answer)), bytes)
    assert.deepEqual(decodeReachAnswer(fromHex(bytes)), answer)
  }
  assert.equal(toHex(encodeSpliceResult(quotaRefusal.message)), quotaRefusal.bytes)
  assert.deepEqual(decodeSpliceResult(fromHex(quotaRefusal.bytes)), quotaRefusal.message)
})

for (const { why, bytes } of vectors.refused) {
  test(`refused: ${why}`, () => {
    assert.throws(() => decodeReachCheck(fromHex(bytes)), { code: 'ERR_PROTOCOL' })
  })
}
