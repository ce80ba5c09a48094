/** Nodes that have no relay in common: they reach each other over the relays that their friends' records name. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { LIMITS, systemClock, toHex } from '../../src/base/index.ts'
import { RELAY_NEWS_PROTOCOL } from '../../src/friends/relay-news.ts'
import type { Did } from '../../src/identity/index.ts'
import { deriveLookUpKey, sealRelayRecord, signRelayRecord } from '../../src/node/index.ts'
import type { RelayRecord, RelayRecordBook } from '../../src/node/index.ts'
import { befriend, makeIdentity, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { metricOf, startRecordDevice, startRecordRelay } from '../support/relay-record-devices.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { openSilentPort } from '../support/silent-port.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, timed, waitFor, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

/** Figure of the issue; the test fails at ten times as much: most of it is work of this machine. */
const FIND_STALE_MS = 1_500
const TOLERANCE = 10

/** For what a busy machine may not manage in the time that a server gets, and then does at the next try. */
const SLOWLY = { deadlineMs: PATIENCE_MS, intervalMs: 200 }

/** A book that a test writes. */
function makeBook (): RelayRecordBook & { records: Map<Did, RelayRecord> } {
  const records = new Map<Did, RelayRecord>()
  return { records, recall: (device) => records.get(device), secretsOf: () => [], keep: (record) => { records.set(record.device, record) } }
}

function recordOf (device: Did, relays: readonly string[]): RelayRecord {
  return { device, seq: 1, expiresAtMs: systemClock.now() + 3_600_000, relays }
}

/** The laptop lists the first relay only, the office the second only. */
async function apart (t: TestContext): Promise<{ laptop: TestNode, office: TestNode, book: ReturnType<typeof makeBook>, relays: Array<Awaited<ReturnType<typeof prepareStockRelay>>> }> {
  const relays = await Promise.all(['of-laptop', 'of-office'].map(prepareStockRelay))
  await Promise.all(relays.map(async (relay) => { await relay.start() }))
  const book = makeBook()
  const laptop = await makeNode({ relays: [relays[0]?.address ?? ''], loopback: true }, { relayRecords: book })
  const office = await makeNode({ relays: [relays[1]?.address ?? ''], loopback: true })
  befriend(laptop, office)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await laptop.node.stop()
    await office.node.stop()
    await Promise.all(relays.map(async (relay) => { await relay.kill() }))
  })
  await Promise.all([laptop.node.start(), office.node.start()])
  await Promise.all([reserved(laptop, PATIENCE_MS), reserved(office, PATIENCE_MS)])
  return { laptop, office, book, relays }
}

test('a friend without a relay in common is reached over the relay that its record names, and the relay is forgotten afterwards', async (t) => {
  const { laptop, office, book, relays } = await apart(t)
  await assert.rejects(laptop.node.openStream(office.did, HOLD), { code: 'ERR_PEER_OFFLINE' })
  book.records.set(office.did, recordOf(office.did, [relays[1]?.address ?? '']))
  const { stream, peer } = await within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD))
  assert.equal(peer.path, 'relayed')
  assert.equal(peer.relayPeerId, relays[1]?.peerId)
  assert.match(await laptop.metrics.text(), /carrier_node_borrowed_relays 1/)
  assert.equal(laptop.node.relays().length, 1)
  stream.abort(new Error('done'))
  await laptop.node.disconnect(office.did)
  await relays[1]?.kill()
  await waitFor('the borrowed relay to be forgotten', async () => (await laptop.metrics.text()).includes('carrier_node_borrowed_relays 0'), PATIENT)
})

test('I10: a record does not make us knock at other places, nor take a friend for a relay', async (t) => {
  const { laptop, office, book, relays } = await apart(t)
  const friend = await makeNode({ relays: [relays[0]?.address ?? ''], loopback: true })
  befriend(laptop, friend)
  friend.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => { await friend.node.stop() })
  await friend.node.start()
  await reserved(friend, PATIENCE_MS)
  const port = relays[1]?.address.split('/')[4] ?? ''
  book.records.set(office.did, recordOf(office.did, [
    // the key of a friend, and another key than the one that answers there
    `/ip4/127.0.0.1/tcp/${port}/p2p/${friend.identity.peerId.toString()}`,
    `/ip4/127.0.0.1/tcp/${port}/p2p/${office.identity.peerId.toString()}`,
    `/dnsaddr/localhost/p2p/${relays[1]?.peerId ?? ''}`
  ]))
  await assert.rejects(laptop.node.openStream(office.did, HOLD), { code: 'ERR_PEER_OFFLINE' })
  assert.match(await laptop.metrics.text(), /carrier_node_borrowed_relays 0/)
  const { stream } = await within('a stream to the friend', PATIENCE_MS, laptop.node.openStream(friend.did, HOLD))
  stream.abort(new Error('done'))
})

/** Ends what a test started, the last first. */
function createOwner (t: TestContext): <Part extends { stop: () => Promise<void> }>(part: Part) => Part {
  const parts: Array<{ stop: () => Promise<void> }> = []
  t.after(async () => { for (const part of parts.toReversed()) await part.stop() })
  return (part) => {
    parts.push(part)
    return part
  }
}

const HANDED_ON = 'carrier_relay_dht_requests_total{type="put-value",outcome="kept"}'
const KEPT = 'carrier_friends_relay_publications_total{result="kept"}'

test('by DID alone: two who never had a relay in common become friends through the DHT of their relays, and find each other again', async (t) => {
  const own = createOwner(t)
  const first = own(await startRecordRelay())
  const second = own(await startRecordRelay([first.address]))
  await waitFor('the relays to know each other', async () => await metricOf(first.server.metrics, 'carrier_relay_dht_servers_count') === 1, PATIENT)
  const directory = makeTempDirectory('records')
  const office = own(await startRecordDevice({ directory, relays: [second.address] }))
  const laptop = own(await startRecordDevice({ directory: makeTempDirectory('records'), relays: [first.address] }))
  // the copy for friends, and the one under the first address
  await waitFor('the record of the office', async () => await metricOf(office.metrics, KEPT) >= 2, PATIENT)
  laptop.friends.add(office.addresses.current()?.address ?? '', { hello: 'it is the laptop' })
  await waitFor('the request', () => office.friends.requests().length === 1, PATIENT)
  office.friends.accept(laptop.did)
  await waitFor('the friendship', () => laptop.friends.levelOf(office.did) === 'friend' && office.friends.levelOf(laptop.did) === 'friend', PATIENT)
  await waitFor('the office to be told by the laptop', () => office.records.book.secretsOf(laptop.did).some(({ kind }) => kind === 'friend'), PATIENT)
  await waitFor('the laptop to be told by the office', () => laptop.records.book.secretsOf(office.did).some(({ kind }) => kind === 'friend'), PATIENT)
  assert.deepEqual(laptop.records.book.recall(office.did)?.relays, [second.address])
  assert.deepEqual(office.records.book.recall(laptop.did)?.relays, [first.address])

  // the office moves to a third relay while the laptop cannot hear it
  await office.stop()
  const third = own(await startRecordRelay([first.address]))
  await waitFor('the relays to know each other', async () => await metricOf(first.server.metrics, 'carrier_relay_dht_servers_count') === 2, PATIENT)
  const handedOn = await metricOf(first.server.metrics, HANDED_ON)
  const moved = own(await startRecordDevice({ directory, relays: [third.address], identity: office.identity }))
  await waitFor('the record of the moved office', async () => await metricOf(moved.metrics, KEPT) >= 2, PATIENT)
  await waitFor('the relay of the laptop to have it', async () => await metricOf(first.server.metrics, HANDED_ON) >= handedOn + 2, PATIENT)
  const { value: { peer }, elapsedMs } = await timed(async () => waitFor('a stream', async () => laptop.node.openStream(office.did, RELAY_NEWS_PROTOCOL), PATIENT))
  console.log(`found on another relay after ${Math.round(elapsedMs)} ms`)
  assert.equal(peer.relayPeerId, third.server.peerId.toString())
  assert.deepEqual(laptop.records.book.recall(office.did)?.relays, [third.address])
})

test('friends who are connected learn another relay directly, and one who is removed cannot look us up any more', async (t) => {
  const own = createOwner(t)
  const first = own(await startRecordRelay())
  const second = await startRecordRelay()
  const office = own(await startRecordDevice({ directory: makeTempDirectory('records'), relays: [first.address, second.address] }))
  const laptop = own(await startRecordDevice({ directory: makeTempDirectory('records'), relays: [first.address] }))
  laptop.friends.add(office.addresses.current()?.address ?? '')
  await waitFor('the request', () => office.friends.requests().length === 1, PATIENT)
  office.friends.accept(laptop.did)
  await waitFor('both relays', () => laptop.records.book.recall(office.did)?.relays.length === 2, PATIENT)
  const secretOf = (): Uint8Array | undefined => laptop.records.book.secretsOf(office.did).flatMap((by) => by.kind === 'friend' ? [by.secret] : [])[0]
  // the record may have come from the DHT before
  const before = await waitFor('the secret', async () => {
    await laptop.node.ping(office.did)
    return secretOf()
  }, SLOWLY)
  await second.stop()
  await waitFor('the relay that is left', async () => {
    // friends are told at a contact
    await laptop.node.ping(office.did)
    return String(laptop.records.book.recall(office.did)?.relays) === first.address
  }, SLOWLY)
  assert.equal(toHex(secretOf() ?? new Uint8Array(0)), toHex(before))
  await office.friends.remove(laptop.did)
  const after = office.records.ownNews()?.lookUpSecret ?? new Uint8Array(0)
  assert.notEqual(toHex(after), toHex(before))
})

test('a splice runs over the relay of a friend, and that relay may bring nothing itself', async (t) => {
  const own = createOwner(t)
  const [ours, theirs] = [own(await startRecordRelay()), own(await startRecordRelay())]
  const book = makeBook()
  const laptop = await makeNode({ relays: [ours.address], loopback: true }, { relayRecords: book })
  const office = await makeNode({ relays: [theirs.address], loopback: true })
  befriend(laptop, office)
  const arrived = Promise.withResolvers<Socket>()
  office.node.handleSplices({ admits: () => true, onSocket: (socket) => { arrived.resolve(socket) } })
  laptop.node.handleSplices({ admits: () => true, onSocket: (socket) => { socket.destroy() } })
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  for (const { node } of [laptop, office]) {
    own(node)
    await node.start()
  }
  await Promise.all([reserved(laptop, PATIENCE_MS), reserved(office, PATIENCE_MS)])
  book.records.set(office.did, recordOf(office.did, [theirs.address]))
  const { stream } = await within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD))
  const relayPeerId = theirs.server.peerId.toString()
  await waitFor('the relay to offer splices', () => laptop.node.canSplice(relayPeerId), PATIENT)
  const near = await within('our leg', PATIENCE_MS, laptop.node.openSplice(office.did, relayPeerId))
  const far = await within('their leg', PATIENCE_MS, arrived.promise)
  near.resume()
  far.resume()
  const heard = once(far, 'data')
  near.write('hello')
  assert.equal(String((await within('the bytes', PATIENCE_MS, heard))[0]), 'hello')
  // the other way the relay would have to call us, and we hold no reservation there
  await assert.rejects(office.node.openSplice(laptop.did, relayPeerId), { code: 'ERR_NOT_AVAILABLE' })
  for (const socket of [near, far]) socket.destroy()
  stream.abort(new Error('done'))
})

test('who keeps its address to itself (punch off) dials no relay that a friend names', async (t) => {
  const own = createOwner(t)
  const [ours, theirs] = [own(await startRecordRelay()), own(await startRecordRelay())]
  const book = makeBook()
  const laptop = await makeNode({ relays: [ours.address], loopback: true, punch: false }, { relayRecords: book })
  const office = await makeNode({ relays: [theirs.address], loopback: true })
  befriend(laptop, office)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  for (const { node } of [laptop, office]) {
    own(node)
    await node.start()
  }
  await Promise.all([reserved(laptop, PATIENCE_MS), reserved(office, PATIENCE_MS)])
  book.records.set(office.did, recordOf(office.did, [theirs.address]))
  await assert.rejects(laptop.node.openStream(office.did, HOLD), { code: 'ERR_PEER_OFFLINE' })
  assert.equal(await metricOf(theirs.server.metrics, 'carrier_relay_connections_count'), 1)
})

test('everything that is known is stale and silent, addresses and relays: the device is found in the DHT soon', async (t) => {
  const own = createOwner(t)
  const [ours, theirs] = [own(await startRecordRelay()), own(await startRecordRelay())]
  const silent = await Promise.all(Array.from({ length: LIMITS.rememberedAddressCount + 1 }, openSilentPort))
  for (const { close } of silent) own({ stop: async () => { close() } })
  const [ofRelay = 0, ...stale] = silent.map(({ port }) => port)
  const book = makeBook()
  const secret = { kind: 'friend', secret: new Uint8Array(32).fill(9) } as const
  const office = await makeNode({ relays: [theirs.address, ours.address], loopback: true })
  const laptop = await makeNode({ relays: [ours.address], loopback: true }, {
    relayRecords: { ...book, secretsOf: () => [secret] },
    addressStore: { remember: () => {}, recall: () => stale.map((port) => `/ip4/127.0.0.1/tcp/${port}`) }
  })
  befriend(laptop, office)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  for (const { node } of [laptop, office]) {
    own(node)
    await node.start()
  }
  await Promise.all([reserved(laptop, PATIENCE_MS), reserved(office, PATIENCE_MS)])
  const facts = { seq: 2, expiresAtMs: systemClock.now() + 3_600_000, relays: [theirs.address] }
  const key = await deriveLookUpKey(office.did, secret)
  const value = sealRelayRecord(office.identity, key, { bytes: await signRelayRecord(office.identity, facts), ...facts }, (length) => new Uint8Array(randomBytes(length)))
  await waitFor('both relays to keep the record', async () => await office.node.dht.put(key.dhtKey, value) === 2, SLOWLY)
  // from now on the laptop's relay knows the office no more, but still has its record
  await office.node.stop()
  const moved = await makeNode({ relays: [theirs.address], loopback: true }, { identity: office.identity })
  befriend(laptop, moved)
  moved.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  await own(moved.node).start()
  await reserved(moved, PATIENCE_MS)
  book.records.set(office.did, recordOf(office.did, [`/ip4/127.0.0.1/tcp/${ofRelay}/p2p/${(await makeIdentity()).peerId.toString()}`]))
  const { value: { stream, peer }, elapsedMs } = await timed(async () => waitFor('a stream', async () => laptop.node.openStream(office.did, HOLD), SLOWLY))
  console.log(`found in the DHT ${Math.round(elapsedMs)} ms past ${stale.length} stale addresses and a stale relay (aim ${FIND_STALE_MS})`)
  assert.equal(peer.relayPeerId, theirs.server.peerId.toString())
  assert.ok(elapsedMs < TOLERANCE * FIND_STALE_MS)
  stream.abort(new Error('done'))
})

test('a DHT server asks the servers that its operator lists, and no other; a newer record of theirs counts', async (t) => {
  const own = createOwner(t)
  const first = own(await startRecordRelay())
  const second = own(await startRecordRelay([first.address]))
  await waitFor('the relays to know each other', async () => await metricOf(first.server.metrics, 'carrier_relay_dht_servers_count') === 1, PATIENT)
  const writer = await makeNode({ relays: [first.address], loopback: true })
  const reader = await makeNode({ relays: [second.address], loopback: true })
  for (const { node } of [writer, reader]) await own(node).start()
  await Promise.all([reserved(writer, PATIENCE_MS), reserved(reader, PATIENCE_MS)])
  const key = await deriveLookUpKey(writer.did, { kind: 'friend', secret: new Uint8Array(32) })
  const valueOf = (seq: number): Uint8Array => sealRelayRecord(writer.identity, key, { bytes: new Uint8Array(8), seq, expiresAtMs: systemClock.now() + 3_600_000 }, (length) => new Uint8Array(randomBytes(length)))
  assert.deepEqual(await reader.node.dht.get(key.dhtKey), [])
  const [one, two] = [valueOf(1), valueOf(2)]
  await waitFor('the record to be kept', async () => await writer.node.dht.put(key.dhtKey, one) === 1, SLOWLY)
  // the first lists nobody, so the record lies there alone
  assert.equal(await metricOf(second.server.metrics, 'carrier_relay_dht_records_count'), 0)
  await waitFor('the record', async () => (await reader.node.dht.get(key.dhtKey)).map(toHex).includes(toHex(one)), SLOWLY)
  await waitFor('the next record to be kept', async () => await writer.node.dht.put(key.dhtKey, two) === 1, SLOWLY)
  assert.equal(await writer.node.dht.put(key.dhtKey, one), 0)
  await waitFor('the next record', async () => (await reader.node.dht.get(key.dhtKey)).map(toHex).includes(toHex(two)), SLOWLY)
  // what the second is given it hands on
  const three = valueOf(3)
  await waitFor('the last record to be kept', async () => await reader.node.dht.put(key.dhtKey, three) === 1, SLOWLY)
  await waitFor('the first to have it', async () => (await writer.node.dht.get(key.dhtKey)).map(toHex).includes(toHex(three)), SLOWLY)
})
