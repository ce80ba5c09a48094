import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { pureJsCrypto } from '@chainsafe/libp2p-noise'
import { Uint8ArrayList } from 'uint8arraylist'
import { createNoiseCrypto } from '../../../src/node/noise-crypto.ts'

describe('the primitives of Noise', () => {
  const ours = createNoiseCrypto()

  it('give what the stock ones give, from one piece or several', () => {
    const key = new Uint8Array(randomBytes(32))
    const nonce = new Uint8Array(randomBytes(12))
    const ad = new Uint8Array(randomBytes(32))
    for (const size of [0, 1, 64, 1199, 1200, 65_519]) {
      const text = new Uint8Array(randomBytes(size))
      const list = new Uint8ArrayList(text.subarray(0, size >> 1), text.subarray(size >> 1))
      const expected = Buffer.from(pureJsCrypto.chaCha20Poly1305Encrypt(text, nonce, ad, key).subarray())
      for (const input of [text, list]) {
        const sealed = ours.chaCha20Poly1305Encrypt(input, nonce, ad, key)
        assert.ok(expected.equals(sealed.subarray()), `${size} bytes`)
        assert.ok(Buffer.from(text).equals(ours.chaCha20Poly1305Decrypt(sealed, nonce, ad, key).subarray()))
      }
      assert.deepEqual(Buffer.from(ours.hashSHA256(list)), Buffer.from(pureJsCrypto.hashSHA256(text)))
    }
    const [one, other] = [ours.generateX25519KeyPair(), pureJsCrypto.generateX25519KeyPair()]
    const shared = Buffer.from(ours.generateX25519SharedKey(one.privateKey, other.publicKey))
    assert.ok(shared.equals(pureJsCrypto.generateX25519SharedKey(other.privateKey, one.publicKey)))
    assert.ok(shared.equals(pureJsCrypto.generateX25519SharedKey(one.privateKey, other.publicKey)))
  })

  it('I1: give nothing out of a record that was changed anywhere', () => {
    const key = new Uint8Array(randomBytes(32))
    const nonce = new Uint8Array(12)
    const sealed = Buffer.from(ours.chaCha20Poly1305Encrypt(new Uint8Array(100), nonce, new Uint8Array(0), key).subarray())
    for (let at = 0; at < sealed.length; at++) {
      const wrong = Buffer.from(sealed)
      wrong.writeUInt8(wrong.readUInt8(at) ^ 1, at)
      assert.throws(() => ours.chaCha20Poly1305Decrypt(wrong, nonce, new Uint8Array(0), key))
    }
    assert.throws(() => ours.chaCha20Poly1305Decrypt(sealed.subarray(0, 10), nonce, new Uint8Array(0), key))
  })
})
