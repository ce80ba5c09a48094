import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import fc from 'fast-check'
import { encodeCbor, errorCode, fromHex, LIMITS, toHex } from '../../../src/base/index.ts'
import { isEnvelopeSigned } from '../../../src/bootstrap/dht-signature.ts'
import { decodeRelayNews, encodeRelayNews } from '../../../src/friends/relay-news.ts'
import { decodeDhtValue, encodeDhtGet, encodeDhtPut } from '../../../src/node/dht-client-messages.ts'
import { checkRelayEnvelope, openRelayEnvelope, sealRelayRecord } from '../../../src/node/relay-record-envelope.ts'
import { deriveLookUpKey, signBlinded } from '../../../src/node/relay-record-key.ts'
import type { LookUpKey } from '../../../src/node/relay-record-key.ts'
import { isSigned, signRelayRecord, verifyRelayRecord } from '../../../src/node/relay-record.ts'
import { identityOf, makeIdentity } from '../../support/node-pair.ts'
import { readVectors } from '../../support/vectors.ts'

interface KeyVector { blind: string, blindedKey: string, sealKey: string, dhtKey: string }
interface Vectors {
  seed: string
  publicKey: string
  did: string
  seq: number
  expiresAtMs: number
  relays: string[]
  record: string
  friend: KeyVector & { lookUpSecret: string }
  address: KeyVector & { nospam: string }
  nonce: string
  envelope: string
  news: string
  put: string
  get: string
}

const vectors = readVectors<Vectors>('relay-record')
const identity = identityOf(await generateKeyPairFromSeed('Ed25519', fromHex(vectors.seed)))
const friendKey = await deriveLookUpKey(identity.did, { kind: 'friend', secret: fromHex(vectors.friend.lookUpSecret) })
const nowMs = vectors.seq
const record = fromHex(vectors.record)
const envelope = fromHex(vectors.envelope)
const sealed = { bytes: record, seq: vectors.seq, expiresAtMs: vectors.expiresAtMs }

function shown (key: LookUpKey): KeyVector {
  return { blind: toHex(key.blind), blindedKey: toHex(key.blindedKey), sealKey: toHex(key.sealKey), dhtKey: toHex(key.dhtKey) }
}

test('a record has the bytes of the vector, and says what was signed', async () => {
  assert.equal(identity.did, vectors.did)
  assert.equal(toHex(await signRelayRecord(identity, vectors)), vectors.record)
  assert.deepEqual(verifyRelayRecord(record, identity.did, nowMs), { device: identity.did, seq: vectors.seq, expiresAtMs: vectors.expiresAtMs, relays: vectors.relays })
})

test('keys, envelope and messages have the bytes of the vectors', async () => {
  const { lookUpSecret, ...ofFriend } = vectors.friend
  const { nospam, ...ofAddress } = vectors.address
  assert.deepEqual(shown(friendKey), ofFriend)
  assert.deepEqual(shown(await deriveLookUpKey(identity.did, { kind: 'address', nospam: fromHex(nospam) })), ofAddress)
  assert.equal(toHex(sealRelayRecord(identity, friendKey, sealed, () => fromHex(vectors.nonce))), vectors.envelope)
  assert.equal(toHex(encodeRelayNews({ record, lookUpSecret: fromHex(lookUpSecret) })), vectors.news)
  assert.deepEqual(decodeRelayNews(fromHex(vectors.news)), { record, lookUpSecret: fromHex(lookUpSecret) })
  assert.equal(toHex(encodeDhtPut({ key: friendKey.dhtKey, value: envelope })), vectors.put)
  assert.equal(toHex(encodeDhtGet(friendKey.dhtKey)), vectors.get)
  assert.deepEqual(decodeDhtValue(fromHex(vectors.put)), { key: friendKey.dhtKey, value: envelope })
})

test('I2: any other byte in a record or an envelope is noticed', () => {
  for (const [bytes, read] of [
    [record, (changed: Uint8Array) => verifyRelayRecord(changed, identity.did, nowMs)],
    [envelope, (changed: Uint8Array) => openRelayEnvelope(changed, friendKey, identity.did, nowMs)]
  ] as const) {
    for (let index = 0; index < bytes.length; index += 7) {
      const changed = bytes.slice()
      changed[index] = (changed[index] ?? 0) ^ 1
      assert.throws(() => read(changed), (err) => errorCode(err) === 'ERR_PROTOCOL', `byte ${index}`)
    }
    assert.throws(() => read(bytes.subarray(0, -1)), (err) => errorCode(err) === 'ERR_PROTOCOL')
  }
})

test('I2: a record of another device is refused, also when it is well signed', async () => {
  const other = await makeIdentity()
  assert.throws(() => verifyRelayRecord(record, other.did, nowMs), /another device/)
  const theirs = await signRelayRecord({ publicKey: identity.publicKey, sign: other.sign }, vectors)
  assert.throws(() => verifyRelayRecord(theirs, identity.did, nowMs), /signature/)
})

test('a friend who knows the secret cannot write in the place of the device', async () => {
  const friend = await makeIdentity()
  const forged = sealRelayRecord(friend, friendKey, { ...sealed, seq: vectors.seq + 1 }, (length) => new Uint8Array(randomBytes(length)))
  assert.equal(isEnvelopeSigned(checkRelayEnvelope(forged, friendKey.dhtKey, nowMs)), false)
  assert.throws(() => openRelayEnvelope(forged, friendKey, identity.did, nowMs), /signature/)
  const theirKey = await deriveLookUpKey(friend.did, { kind: 'friend', secret: fromHex(vectors.friend.lookUpSecret) })
  const theirs = sealRelayRecord(friend, theirKey, sealed, (length) => new Uint8Array(randomBytes(length)))
  assert.throws(() => checkRelayEnvelope(theirs, friendKey.dhtKey, nowMs), /another key/)
})

test('who does not know the secret finds neither key nor content, and all envelopes are of one length', async () => {
  const other = await deriveLookUpKey(identity.did, { kind: 'friend', secret: new Uint8Array(32).fill(0x5b) })
  assert.notDeepEqual(other.dhtKey, friendKey.dhtKey)
  assert.throws(() => openRelayEnvelope(envelope, { ...friendKey, sealKey: other.sealKey }, identity.did, nowMs), /cannot be opened/)
  const none = await signRelayRecord(identity, { ...vectors, relays: [] })
  const short = sealRelayRecord(identity, friendKey, { ...sealed, bytes: none }, () => fromHex(vectors.nonce))
  assert.equal(short.length, envelope.length)
  assert.ok(!Buffer.from(envelope).includes(Buffer.from(identity.publicKey)))
  assert.ok(!Buffer.from(envelope).includes(Buffer.from(record.subarray(20, 40))))
})

test('blinded keys differ from each other and sign for themselves only', async () => {
  const message = new TextEncoder().encode('carrier/relay-envelope/v1\0 test')
  const seen = new Set<string>()
  for (let index = 0; index < 8; index++) {
    const one = await makeIdentity()
    const key = await deriveLookUpKey(one.did, { kind: 'friend', secret: new Uint8Array(32).fill(index) })
    const signature = signBlinded(one, key, message)
    assert.equal(isSigned(signature, message, key.blindedKey), true)
    assert.equal(isSigned(signature, message, one.publicKey), false)
    assert.equal(isSigned(signature, message.subarray(1), key.blindedKey), false)
    seen.add(toHex(key.blindedKey))
  }
  assert.equal(seen.size, 8)
})

test('I8: the largest record fits its place; relays that are too long or too many are left out', async () => {
  const relay = (index: number): string => `/dns4/${'a'.repeat(60)}.${'b'.repeat(30)}.r${index}.example/tcp/443/wss/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA`
  const full = await signRelayRecord(identity, { ...vectors, relays: Array.from({ length: 9 }, (_, index) => relay(index)) })
  assert.ok(full.length <= LIMITS.relayRecordBytes)
  assert.equal(verifyRelayRecord(full, identity.did, nowMs).relays.length, LIMITS.relayRecordRelayCount)
  const value = sealRelayRecord(identity, friendKey, { ...sealed, bytes: full }, () => fromHex(vectors.nonce))
  assert.ok(value.length <= LIMITS.relayEnvelopeBytes, `${value.length} bytes`)
  assert.ok(encodeRelayNews({ record: full, lookUpSecret: new Uint8Array(32) }).length <= LIMITS.relayEnvelopeBytes)
  const long = `/dns4/${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.example/tcp/443/wss/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA`
  assert.deepEqual(verifyRelayRecord(await signRelayRecord(identity, { ...vectors, relays: [long, ...vectors.relays] }), identity.did, nowMs).relays, vectors.relays)
})

test('a record is good for a day at most, whatever it says; an envelope that has expired is none', async () => {
  const eternal = await signRelayRecord(identity, { ...vectors, expiresAtMs: Number.MAX_SAFE_INTEGER })
  assert.equal(verifyRelayRecord(eternal, identity.did, nowMs).expiresAtMs, nowMs + LIMITS.relayRecordTtlMs)
  assert.equal(checkRelayEnvelope(sealRelayRecord(identity, friendKey, { ...sealed, expiresAtMs: Number.MAX_SAFE_INTEGER }, () => fromHex(vectors.nonce)), friendKey.dhtKey, nowMs).expiresAtMs, nowMs + LIMITS.relayRecordTtlMs)
  assert.throws(() => checkRelayEnvelope(envelope, friendKey.dhtKey, vectors.expiresAtMs), /expired/)
})

test('nothing that a peer sends is more than ERR_PROTOCOL', () => {
  const readers = [
    (bytes: Uint8Array) => verifyRelayRecord(bytes, identity.did, nowMs),
    (bytes: Uint8Array) => checkRelayEnvelope(bytes, friendKey.dhtKey, nowMs),
    (bytes: Uint8Array) => decodeRelayNews(bytes),
    (bytes: Uint8Array) => decodeDhtValue(bytes)
  ]
  fc.assert(fc.property(fc.oneof(
    fc.uint8Array({ maxLength: 2_000 }),
    fc.record({ b: fc.uint8Array({ maxLength: 900 }), k: fc.constant(friendKey.blindedKey), s: fc.uint8Array({ minLength: 64, maxLength: 64 }) }).map(encodeCbor),
    fc.record({ b: fc.uint8Array({ maxLength: 900 }), s: fc.uint8Array({ minLength: 64, maxLength: 64 }) }).map(encodeCbor)
  ), (bytes) => {
    for (const read of readers) {
      try {
        read(bytes)
      } catch (err) {
        assert.equal(errorCode(err), 'ERR_PROTOCOL')
      }
    }
  }))
  // keys under which everything is signed
  const weak = new Uint8Array(32)
  weak[0] = 1
  assert.equal(isEnvelopeSigned({ blindedKey: weak, signature: new Uint8Array(64), signed: weak }), false)
})
