import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { errorCode, LIMITS } from '../../../src/base/index.ts'
import { createDhtShelf } from '../../../src/bootstrap/dht-shelf.ts'
import type { DhtShelf } from '../../../src/bootstrap/dht-shelf.ts'
import { createDhtStore } from '../../../src/bootstrap/dht-store.ts'
import type { DhtSource } from '../../../src/bootstrap/dht-shelf.ts'
import type { Identity } from '../../../src/identity/index.ts'
import { deriveLookUpKey, sealRelayRecord } from '../../../src/node/index.ts'
import type { LookUpKey } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

const HOME: DhtSource = { name: '198.51.100.1', isServer: false }
const SERVERS: DhtSource = { name: 'servers', isServer: true }
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length))

interface Owner { identity: Identity, key: LookUpKey, value: (seq: number, expiresAtMs: number) => Uint8Array }

async function makeOwner (shared?: Identity): Promise<Owner> {
  const identity = shared ?? await makeIdentity()
  const key = await deriveLookUpKey(identity.did, { kind: 'friend', secret: random(32) })
  return { identity, key, value: (seq, expiresAtMs) => sealRelayRecord(identity, key, { bytes: new Uint8Array(10), seq, expiresAtMs }, random) }
}

test('a record is kept until it expires, a newer one takes its place, an older one does not', async () => {
  const clock = createFakeClock()
  const store = createDhtStore(clock)
  const { key, value } = await makeOwner()
  const second = value(2, clock.now() + 10_000)
  store.put(key.dhtKey, value(1, clock.now() + 10_000), HOME)
  store.put(key.dhtKey, second, HOME)
  assert.deepEqual(store.get(key.dhtKey), second)
  for (const seq of [1, 2]) assert.throws(() => { store.put(key.dhtKey, value(seq, clock.now() + 10_000), HOME) }, (err) => errorCode(err) === 'ERR_SUPERSEDED')
  // the same bytes again are no mistake
  store.put(key.dhtKey, second, HOME)
  assert.equal(store.size, 1)
  await clock.advance(10_000)
  assert.equal(store.get(key.dhtKey), undefined)
  assert.equal(store.size, 0)
})

test('I3: nothing is kept but what the owner of the key has signed', async () => {
  const clock = createFakeClock()
  const store = createDhtStore(clock)
  const [owner, stranger] = [await makeOwner(), await makeOwner()]
  const good = owner.value(1, clock.now() + 10_000)
  const changed = good.slice()
  changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1
  for (const value of [changed, stranger.value(1, clock.now() + 10_000), owner.value(1, clock.now()), new Uint8Array(0), random(LIMITS.relayEnvelopeBytes), random(LIMITS.relayEnvelopeBytes + 1)]) {
    assert.throws(() => { store.put(owner.key.dhtKey, value, HOME) }, (err) => errorCode(err) === 'ERR_PROTOCOL')
  }
  assert.throws(() => { store.put(random(32), good, HOME) }, (err) => errorCode(err) === 'ERR_PROTOCOL')
  assert.equal(store.size, 0)
})

/** A record whose signature is wrong. */
async function forgery (): Promise<{ key: Uint8Array, value: Uint8Array }> {
  const { key, value } = await makeOwner()
  const bad = value(9, createFakeClock().now() + 10_000)
  bad[bad.length - 1] = (bad.at(-1) ?? 0) ^ 1
  return { key: key.dhtKey, value: bad }
}

function codeOf (put: () => void): string {
  try {
    put()
    return 'kept'
  } catch (err) {
    return errorCode(err)
  }
}

test('I9: a source that sends without end gets few signatures checked, and takes no turn of others', async () => {
  const clock = createFakeClock()
  const store = createDhtStore(clock)
  const owner = await makeOwner()
  const bad = await forgery()
  const codes = Array.from({ length: 200 }, () => codeOf(() => { store.put(bad.key, bad.value, HOME) }))
  const checkedCount = Math.ceil(LIMITS.dhtChecksPerSourcePerSecondCount / LIMITS.dhtForgedCheckCost)
  assert.ok(checkedCount < LIMITS.dhtChecksPerSourcePerSecondCount)
  assert.equal(codes.filter((code) => code === 'ERR_PROTOCOL').length, checkedCount)
  assert.equal(codes.filter((code) => code === 'ERR_LIMIT').length, 200 - checkedCount)
  store.put(owner.key.dhtKey, owner.value(1, clock.now() + 10_000), { name: '198.51.100.2', isServer: false })
  await clock.advance(1_000)
  store.put(owner.key.dhtKey, owner.value(2, clock.now() + 10_000), HOME)
})

test('I9: five sources of forgeries keep nobody else from being checked; what strangers use up, listed servers have still', async () => {
  const clock = createFakeClock()
  const store = createDhtStore(clock)
  const owner = await makeOwner()
  const bad = await forgery()
  const knock = (name: string): string => codeOf(() => { store.put(bad.key, bad.value, { name, isServer: false }) })
  for (let source = 0; source < 5; source++) for (let count = 0; count < LIMITS.dhtChecksPerSourcePerSecondCount; count++) knock(`203.0.113.${source}`)
  store.put(owner.key.dhtKey, owner.value(1, clock.now() + 10_000), HOME)
  let strangers = 0
  while (knock(`stranger ${strangers++}`) === 'ERR_PROTOCOL') assert.ok(strangers < 100_000)
  assert.ok(strangers > 100)
  assert.equal(codeOf(() => { store.put(owner.key.dhtKey, owner.value(2, clock.now() + 10_000), HOME) }), 'ERR_LIMIT')
  store.put(owner.key.dhtKey, owner.value(3, clock.now() + 10_000), SERVERS)
})

test('I8: a source has its quota, and the one that expires first gives way; listed servers have none of their own', async () => {
  const clock = createFakeClock()
  const store = createDhtStore(clock)
  const identity = await makeIdentity()
  const first = await makeOwner(identity)
  store.put(first.key.dhtKey, first.value(1, clock.now() + 1_000_000), HOME)
  for (let index = 0; index < LIMITS.dhtRecordsPerSourceCount; index++) {
    const { key, value } = await makeOwner(identity)
    store.put(key.dhtKey, value(1, clock.now() + 80_000_000), HOME)
    if (index % 5 === 0) await clock.advance(1_000)
  }
  assert.equal(store.size, LIMITS.dhtRecordsPerSourceCount)
  assert.equal(store.get(first.key.dhtKey), undefined)
  const more = await makeOwner(identity)
  store.put(more.key.dhtKey, more.value(1, clock.now() + 80_000_000), SERVERS)
  assert.equal(store.size, LIMITS.dhtRecordsPerSourceCount + 1)
})

/** Values and keys of many owners at once would take minutes to sign, so these tests look at the shelf alone. */
const bytes = new Uint8Array(1)

test('I8: newcomers leave listed servers their half, and the largest of the others gives way', () => {
  const shelf = createDhtShelf()
  const half = LIMITS.dhtRecordCount / 2
  for (let index = 0; index < half; index++) shelf.add(`server ${index}`, { value: bytes, seq: 1, expiresAtMs: index, source: SERVERS })
  for (let index = 0; index < 300; index++) shelf.add(`greedy ${index}`, { value: bytes, seq: 1, expiresAtMs: 1e9 + index, source: { name: 'greedy', isServer: false } })
  for (let index = 300; index < half; index++) shelf.add(`other ${index}`, { value: bytes, seq: 1, expiresAtMs: index, source: { name: `home ${index % 100}`, isServer: false } })
  assert.equal(shelf.size, LIMITS.dhtRecordCount)
  for (let index = 0; index < 50; index++) shelf.add(`newcomer ${index}`, { value: bytes, seq: 1, expiresAtMs: 1, source: { name: `newcomer ${index}`, isServer: false } })
  assert.equal(shelf.size, LIMITS.dhtRecordCount)
  assert.equal(countOf(shelf, 'newcomer', 50), 50)
  assert.equal(countOf(shelf, 'other', half), half - 300)
  assert.equal(countOf(shelf, 'server', half), half)
  // of the greedy one, what expires first
  assert.equal(countOf(shelf, 'greedy', 50), 0)
  assert.equal(countOf(shelf, 'greedy', 300), 250)
})

test('I8: what listed servers have beyond their half goes first, and they take no more than that from others', () => {
  const shelf = createDhtShelf()
  const half = LIMITS.dhtRecordCount / 2
  for (let index = 0; index < LIMITS.dhtRecordCount; index++) shelf.add(`server ${index}`, { value: bytes, seq: 1, expiresAtMs: index, source: SERVERS })
  for (let index = 0; index < half + 100; index++) shelf.add(`other ${index}`, { value: bytes, seq: 1, expiresAtMs: 1e9, source: { name: `home ${index % 100}`, isServer: false } })
  assert.equal(countOf(shelf, 'server', LIMITS.dhtRecordCount), half)
  assert.equal(shelf.get('server 0'), undefined)
  const others = countOf(shelf, 'other', half + 100)
  shelf.add('server last', { value: bytes, seq: 1, expiresAtMs: 1e9, source: SERVERS })
  assert.equal(countOf(shelf, 'other', half + 100), others)
  assert.equal(shelf.size, LIMITS.dhtRecordCount)
})

test('what has expired is swept out in turns of bounded length', () => {
  const shelf = createDhtShelf()
  for (let index = 0; index < LIMITS.dhtSweepCount * 2; index++) shelf.add(String(index), { value: bytes, seq: 1, expiresAtMs: index % 2 === 0 ? 10 : 30, source: SERVERS })
  shelf.sweep(20)
  assert.equal(shelf.size, LIMITS.dhtSweepCount * 1.5)
  shelf.sweep(20)
  assert.equal(shelf.size, LIMITS.dhtSweepCount)
  // and from the beginning again
  for (let turn = 0; turn < 3; turn++) shelf.sweep(40)
  assert.equal(shelf.size, 0)
})

function countOf (shelf: DhtShelf, prefix: string, upTo: number): number {
  return Array.from({ length: upTo }, (_none, index) => shelf.get(`${prefix} ${index}`)).filter((entry) => entry !== undefined).length
}
