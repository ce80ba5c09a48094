import assert from 'node:assert/strict'
import test from 'node:test'
import { ed25519 } from '@noble/curves/ed25519.js'
import { concatBytes } from '../../../src/base/index.ts'
import { isEnvelopeSigned } from '../../../src/bootstrap/dht-signature.ts'

const { Point } = ed25519
const signed = new Uint8Array([1, 2, 3])
const littleEndian = (value: bigint): Uint8Array => new Uint8Array(Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse())
const bigOf = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)

test('the owner of the key is told from others', () => {
  const secret = new Uint8Array(32).fill(7)
  const blindedKey = ed25519.getPublicKey(secret)
  const signature = ed25519.sign(signed, secret)
  assert.equal(isEnvelopeSigned({ blindedKey, signature, signed }), true)
  for (let index = 0; index < signature.length; index += 9) {
    const wrong = signature.slice()
    wrong[index] = (wrong[index] ?? 0) ^ 1
    assert.equal(isEnvelopeSigned({ blindedKey, signature: wrong, signed }), false)
  }
  assert.equal(isEnvelopeSigned({ blindedKey, signature, signed: new Uint8Array([1, 2]) }), false)
  assert.equal(isEnvelopeSigned({ blindedKey: ed25519.getPublicKey(new Uint8Array(32).fill(8)), signature, signed }), false)
  assert.equal(isEnvelopeSigned({ blindedKey, signature: signature.subarray(1), signed }), false)
  assert.equal(isEnvelopeSigned({ blindedKey: blindedKey.subarray(1), signature, signed }), false)
})

test('I3: one signature has one spelling', () => {
  const secret = new Uint8Array(32).fill(7)
  const signature = ed25519.sign(signed, secret)
  const larger = concatBytes([signature.subarray(0, 32), littleEndian(bigOf(signature.subarray(32)) + Point.Fn.ORDER)])
  assert.equal(isEnvelopeSigned({ blindedKey: ed25519.getPublicKey(secret), signature: larger, signed }), false)
})

test('I3: keys for which anybody can sign are refused in every spelling', () => {
  // R = S·B holds for every message when the key is the neutral element
  const signature = concatBytes([Point.BASE.multiply(5n).toBytes(), littleEndian(5n)])
  for (const y of [1n, Point.Fp.ORDER + 1n]) {
    const blindedKey = littleEndian(y)
    assert.equal(ed25519.verify(signature, signed, blindedKey, { zip215: true }), true)
    assert.equal(isEnvelopeSigned({ blindedKey, signature, signed }), false)
  }
})
