import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateKeyPairFromSeed, publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import { base58 } from '@scure/base'
import fc from 'fast-check'
import { fromHex, toHex } from '../../../src/base/index.ts'
import { assertStrongKey, didFromPeerId, didFromPeerIdString, didFromPublicKey, isDid, parseDid, peerIdFromDid, publicKeyFromDid } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  equal: Array<{ seed?: string, publicKey: string, did: Did, peerId?: string, cid?: string }>
  refusedDids: Array<{ about: string, did: string, code: string }>
  refusedPeerIds: Array<{ about: string, peerId: string, code: string }>
  weakKeys: Array<{ about: string, publicKey: string }>
}
const vectors = readVectors<Vectors>('did-key-peer-id')

for (const row of vectors.equal) {
  test(`key, DID and PeerId are spellings of one another: ${row.did}`, async () => {
    assert.equal(didFromPublicKey(fromHex(row.publicKey)), row.did)
    assert.equal(toHex(publicKeyFromDid(row.did)), row.publicKey)
    assert.equal(parseDid(row.did), row.did)
    assert.equal(didFromPeerId(peerIdFromDid(row.did)), row.did)
    if (row.peerId !== undefined) {
      assert.equal(peerIdFromDid(row.did).toString(), row.peerId)
      assert.equal(didFromPeerIdString(row.peerId), row.did)
    }
    if (row.cid !== undefined) assert.equal(didFromPeerIdString(row.cid), row.did)
    if (row.seed !== undefined) {
      const key = await generateKeyPairFromSeed('Ed25519', fromHex(row.seed))
      assert.equal(toHex(key.publicKey.raw), row.publicKey)
    }
  })
}

for (const row of vectors.refusedDids) {
  test(`I2: no Carrier device can have this DID: ${row.about}`, () => {
    assert.throws(() => parseDid(row.did), { name: 'CarrierError', code: row.code })
    assert.equal(isDid(row.did), false)
  })
}

for (const row of vectors.refusedPeerIds) {
  test(`I2: no Carrier device can have this PeerId: ${row.about}`, () => {
    assert.throws(() => didFromPeerIdString(row.peerId), { name: 'CarrierError', code: row.code })
  })
}

for (const row of vectors.weakKeys) {
  test(`I2: a weak key is refused in every spelling: ${row.about}`, () => {
    const publicKey = fromHex(row.publicKey)
    assert.throws(() => { assertStrongKey(publicKey) }, { code: 'ERR_WEAK_KEY' })
    assert.throws(() => didFromPublicKey(publicKey), { code: 'ERR_WEAK_KEY' })
    const did = `did:key:z${base58.encode(Uint8Array.of(0xed, 0x01, ...publicKey))}`
    assert.throws(() => parseDid(did), { code: 'ERR_WEAK_KEY' })
    assert.throws(() => didFromPeerId(peerIdFromPublicKey(publicKeyFromRaw(publicKey))), { code: 'ERR_WEAK_KEY' })
  })
}

test('a key of the wrong length is refused', () => {
  for (const length of [0, 31, 33, 64]) assert.throws(() => didFromPublicKey(new Uint8Array(length)), { code: 'ERR_WEAK_KEY' })
})

test('an overlong text is refused before it is decoded, and the message quotes only its beginning', () => {
  const long = `did:key:z${'6'.repeat(1_000_000)}`
  assert.throws(() => parseDid(long), (err: Error) => err.message.length < 300)
})

test('any text is either a DID or refused with a Carrier code', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.string().map((text) => `did:key:z${text}`), fc.string().map((text) => `did:key:z6Mk${text}`)), (text) => {
    try {
      assert.equal(parseDid(text), text)
    } catch (err) {
      assert.ok(['ERR_INVALID_DID', 'ERR_WEAK_KEY'].includes((err as { code: string }).code), String(err))
    }
  }))
})

test('a DID has one spelling: changing any one character of it gives another key or none', () => {
  const did = vectors.equal[0]?.did ?? ''
  fc.assert(fc.property(fc.integer({ min: 9, max: did.length - 1 }), fc.constantFrom(...'123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'), (index, character) => {
    const changed = did.slice(0, index) + character + did.slice(index + 1)
    if (changed === did || !isDid(changed)) return
    assert.notDeepEqual(publicKeyFromDid(changed), publicKeyFromDid(did))
  }))
})
