import assert from 'node:assert/strict'
import test from 'node:test'
import { errorCode, fromHex, toHex } from '../../../src/base/index.ts'
import { decodeLoad, decodeRelayCall, decodeSpliceAsk, encodeDrain, encodeLoad, encodeLoadAsk } from '../../../src/node/splice-messages.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  ask: string
  loads: Array<{ permille: number, isDraining: boolean, bytes: string }>
  drains: Array<{ withinMs: number, bytes: string }>
  refused: Array<{ why: string, bytes: string }>
}

test('the bytes of load and drain are those of PROTOCOL.md', () => {
  const vectors = readVectors<Vectors>('relay-words')
  assert.equal(toHex(encodeLoadAsk()), vectors.ask)
  assert.deepEqual(decodeSpliceAsk(fromHex(vectors.ask)), { t: 'load' })
  for (const { permille, isDraining, bytes } of vectors.loads) {
    assert.equal(toHex(encodeLoad({ permille, isDraining })), bytes)
    assert.deepEqual(decodeLoad(fromHex(bytes)), { permille, isDraining })
  }
  for (const { withinMs, bytes } of vectors.drains) {
    assert.equal(toHex(encodeDrain(withinMs)), bytes)
    assert.deepEqual(decodeRelayCall(fromHex(bytes)), { t: 'drain', withinMs })
  }
  for (const { why, bytes } of vectors.refused) {
    for (const decode of [decodeLoad, decodeRelayCall]) assert.throws(() => decode(fromHex(bytes)), (err) => errorCode(err) === 'ERR_PROTOCOL', why)
  }
})
