import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto'
import { test } from 'node:test'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import type { Did } from '../../../src/identity/index.ts'
import { hourOf, lanSecret, lanTag, openAnswer, sealAnswer, TAG_HOUR_MS } from '../../../src/node/mdns-secret.ts'
import { decodeAnswer, decodeQuery, encodeAnswer, encodeQuery, QUERY_TAGS } from '../../../src/node/mdns-wire.ts'
import { decodeReachNews, encodeReachNews } from '../../../src/node/reach-news.ts'
import { identityOf } from '../../support/node-pair.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  askerSeed: string,
  asker: Did,
  friendSeed: string,
  friend: Did,
  secret: string,
  hour: number,
  tag: string,
  nonce: string
  addresses: Array<{ host: string, port: number }>,
  sealed: string,
  queryId: number,
  queryTags: string[],
  query: string,
  answer: string,
  news: { addrs: string[], message: string }
}

const vectors = readVectors<Vectors>('local-network')
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const identityFrom = (seed: string): ReturnType<typeof identityOf> => {
  const key = privateKeyFromRaw(Buffer.concat([bytesOf(seed), ed25519.getPublicKey(bytesOf(seed))]))
  if (key.type !== 'Ed25519') throw new Error('no Ed25519 key')
  return identityOf(key)
}

test('vectors: both friends come to the same secret, tag and answer', () => {
  const [asker, friend] = [identityFrom(vectors.askerSeed), identityFrom(vectors.friendSeed)]
  assert.deepEqual([asker.did, friend.did], [vectors.asker, vectors.friend])
  assert.equal(hexOf(lanSecret(asker, friend.did)), vectors.secret)
  assert.equal(hexOf(lanSecret(friend, asker.did)), vectors.secret)
  const secret = bytesOf(vectors.secret)
  assert.equal(hexOf(lanTag(secret, asker.did, vectors.hour)), vectors.tag)
  assert.equal(hexOf(sealAnswer(secret, bytesOf(vectors.tag), vectors.addresses, bytesOf(vectors.nonce))), vectors.sealed)
  assert.deepEqual(openAnswer(secret, bytesOf(vectors.tag), bytesOf(vectors.sealed)), vectors.addresses)
  assert.equal(hexOf(encodeQuery(vectors.queryId, vectors.queryTags.map(bytesOf))), vectors.query)
  assert.deepEqual(decodeQuery(bytesOf(vectors.query)), { id: vectors.queryId, tags: vectors.queryTags })
  assert.equal(hexOf(encodeAnswer(vectors.queryId, bytesOf(vectors.tag), bytesOf(vectors.sealed))), vectors.answer)
  const answer = decodeAnswer(bytesOf(vectors.answer))
  assert.deepEqual([answer?.id, answer?.tag, hexOf(answer?.sealed ?? new Uint8Array(0))], [vectors.queryId, vectors.tag, vectors.sealed])
  assert.equal(hexOf(encodeReachNews(vectors.news.addrs)), vectors.news.message)
  assert.deepEqual(decodeReachNews(bytesOf(vectors.news.message)), vectors.news.addrs)
})

test('the secret is X25519 of the device keys, as another implementation has it', () => {
  const [asker, friend] = [identityFrom(vectors.askerSeed), identityFrom(vectors.friendSeed)]
  const theirs = ed25519.utils.toMontgomery(friend.publicKey)
  const own = ed25519.utils.toMontgomerySecret(bytesOf(vectors.askerSeed))
  const privateKey = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), own]), format: 'der', type: 'pkcs8' })
  const publicKey = createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), theirs]), format: 'der', type: 'spki' })
  assert.equal(hexOf(diffieHellman({ privateKey, publicKey })), hexOf(x25519.getSharedSecret(own, theirs)))
  assert.notEqual(hexOf(lanSecret(asker, friend.did)), hexOf(x25519.getSharedSecret(own, theirs)), 'it is not used for itself')
})

test('tags differ by hour and by who asks; an answer opens with its own tag and secret only', () => {
  const secret = bytesOf(vectors.secret)
  const tags = [lanTag(secret, vectors.asker, 1), lanTag(secret, vectors.asker, 2), lanTag(secret, vectors.friend, 1)].map(hexOf)
  assert.equal(new Set(tags).size, 3)
  assert.equal(hourOf(TAG_HOUR_MS * 7 - 1), 6)
  const sealed = bytesOf(vectors.sealed)
  assert.equal(openAnswer(secret, bytesOf(tags[0] ?? ''), sealed), undefined)
  assert.equal(openAnswer(new Uint8Array(32), bytesOf(vectors.tag), sealed), undefined)
  for (const at of [0, 30, 115]) assert.equal(openAnswer(secret, bytesOf(vectors.tag), sealed.with(at, (sealed[at] ?? 0) ^ 1)), undefined)
  assert.equal(openAnswer(secret, bytesOf(vectors.tag), sealed.subarray(1)), undefined)
  assert.equal(sealAnswer(secret, bytesOf(vectors.tag), [], bytesOf(vectors.nonce)).length, sealed.length, 'however many addresses')
})

test('I8: only exactly these datagrams are read', () => {
  const query = bytesOf(vectors.query)
  const answer = bytesOf(vectors.answer)
  for (let length = 0; length < query.length; length += 7) assert.equal(decodeQuery(query.subarray(0, length)), undefined)
  for (let length = 0; length < answer.length; length += 5) assert.equal(decodeAnswer(answer.subarray(0, length)), undefined)
  // every byte but those of id, tags and sealed answer has one value
  for (const at of [2, 4, 5, 6, 11, 12, 45, 54, 65, 70]) assert.equal(decodeQuery(query.with(at, 0xc0)), undefined, `byte ${at}`)
  for (const at of [2, 7, 12, 45, 66, 70, 74, 75]) assert.equal(decodeAnswer(answer.with(at, 0xc0)), undefined, `byte ${at}`)
  assert.equal(decodeQuery(answer), undefined)
  assert.equal(decodeAnswer(query), undefined)
  assert.throws(() => encodeQuery(1, Array.from({ length: QUERY_TAGS - 1 }, () => new Uint8Array(16))))
})
