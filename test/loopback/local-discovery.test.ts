/** Friends find each other by multicast DNS over real sockets; strangers, forgers and floods get nothing out of it. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import type { NetworkInterfaceInfo } from 'node:os'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { createMetrics, LIMITS, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Clock, HostAndPort } from '../../src/base/index.ts'
import type { Did, Identity } from '../../src/identity/index.ts'
import { createLocalDiscovery } from '../../src/node/local-discovery.ts'
import type { LocalDiscovery } from '../../src/node/local-discovery.ts'
import { createMdns } from '../../src/node/mdns.ts'
import { hourOf, lanSecret, lanTag } from '../../src/node/mdns-secret.ts'
import { decodeAnswer, decodeQuery, encodeAnswer, encodeQuery, MDNS_GROUP, QUERY_BYTES, QUERY_TAGS } from '../../src/node/mdns-wire.ts'
import { makeIdentity } from '../support/node-pair.ts'
import { pause, PATIENT, waitFor } from '../support/wait.ts'

const HOST = '127.0.0.1'
const LO: NetworkInterfaceInfo = { address: HOST, family: 'IPv4', internal: false, netmask: '255.0.0.0', mac: '', cidr: '127.0.0.1/8' }

interface Machine { identity: Identity, did: Did, friends: Did[], near: Set<Did>, found: Did[], discovery: LocalDiscovery, results: () => Promise<string> }

/** Queries follow each other quickly, and answers are waited for as usual. */
const quickClock: Clock = { ...systemClock, setTimer: (run, delayMs) => systemClock.setTimer(run, delayMs > LIMITS.lanAnswerMs / 2 ? 150 : delayMs) }

async function machine (t: TestContext, port: number, listens: HostAndPort[], options: { clock?: Clock } = {}): Promise<Machine> {
  const identity = await makeIdentity()
  const metrics = createMetrics()
  const clock = options.clock ?? quickClock
  const friends: Did[] = []
  const near = new Set<Did>()
  const found: Did[] = []
  const discovery = createLocalDiscovery({
    clock,
    log: silentLogger,
    random: () => 0.5,
    identity,
    friends: () => friends,
    isNear: (device) => near.has(device),
    interfaces: () => ({ lo: [LO] }),
    addresses: () => listens,
    createMdns: (answer) => createMdns({ clock, log: silentLogger, answer, hosts: () => [HOST], port }),
    onFound: (device) => { found.push(device) },
    results: metrics.counter('carrier_test_total', 'test', ['result'])
  })
  t.after(async () => { await discovery.stop() })
  return { identity, did: identity.did, friends, near, found, discovery, results: async () => metrics.text() }
}

/** A port that nobody uses now. */
async function freePort (): Promise<number> {
  const socket = createSocket('udp4')
  socket.bind(0, HOST)
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}

/** Hears what everybody hears. */
async function eavesdrop (t: TestContext, port: number): Promise<{ socket: Socket, heard: Array<{ bytes: Buffer, port: number }> }> {
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const heard: Array<{ bytes: Buffer, port: number }> = []
  socket.on('message', (bytes, from) => { heard.push({ bytes, port: from.port }) })
  socket.bind(port, '0.0.0.0')
  await once(socket, 'listening')
  socket.addMembership(MDNS_GROUP, HOST)
  t.after(() => { socket.close() })
  return { socket, heard }
}

test('two friends find each other; a node that does not listen is not found, and a stranger neither finds nor is found', async (t) => {
  const port = await freePort()
  const office = await machine(t, port, [{ host: '192.168.7.5', port: 4001 }, { host: 'fd00::5', port: 4001 }])
  const laptop = await machine(t, port, [{ host: '192.168.7.6', port: 4001 }])
  const phone = await machine(t, port, [])
  const stranger = await machine(t, port, [{ host: '192.168.7.9', port: 4001 }])
  office.friends.push(laptop.did, phone.did)
  laptop.friends.push(office.did, phone.did)
  phone.friends.push(office.did, laptop.did)
  stranger.friends.push(office.did, laptop.did)
  const { heard } = await eavesdrop(t, port)
  for (const { discovery } of [office, laptop, phone, stranger]) await discovery.start()
  await waitFor('all that can be found', () => office.found.includes(laptop.did) && laptop.found.includes(office.did) && phone.found.includes(office.did) && phone.found.includes(laptop.did), PATIENT)
  assert.deepEqual(laptop.discovery.recall(office.did), ['/ip4/192.168.7.5/tcp/4001', '/ip6/fd00::5/tcp/4001'])
  assert.deepEqual(laptop.discovery.recall(phone.did), [])
  assert.deepEqual([stranger.found, laptop.discovery.recall(stranger.did)], [[], []])
  // what was multicast: queries alone, all alike, without a word about who
  await waitFor('queries of all', () => new Set(heard.map((one) => one.port)).size >= 4, PATIENT)
  for (const { bytes } of heard) {
    assert.equal(bytes.length, QUERY_BYTES)
    const tags = decodeQuery(bytes)?.tags ?? []
    assert.equal(new Set(tags).size, QUERY_TAGS, 'a question that stands for nobody looks like every other')
    for (const { identity } of [office, laptop, phone, stranger]) assert.equal(tags.some((tag) => Buffer.from(identity.publicKey).toString('hex').includes(tag)), false)
  }
  office.discovery.networkChanged()
  assert.deepEqual(office.discovery.recall(laptop.did), [], 'in another network it is forgotten')
  await waitFor('it again', () => office.discovery.recall(laptop.did).length > 0, PATIENT)
})

test('who is near is not asked for', async (t) => {
  const port = await freePort()
  const office = await machine(t, port, [{ host: '192.168.7.5', port: 4001 }])
  const laptop = await machine(t, port, [{ host: '192.168.7.6', port: 4001 }])
  const { heard } = await eavesdrop(t, port)
  office.friends.push(laptop.did)
  laptop.friends.push(office.did)
  laptop.near.add(office.did)
  await laptop.discovery.start()
  await office.discovery.start()
  await waitFor('the laptop to be found', () => office.found.includes(laptop.did), PATIENT)
  await waitFor('the query', () => heard.length > 0, PATIENT)
  assert.deepEqual(laptop.found, [])
})

test('I3 I8: floods, forged answers and what is no query get no answer; a replayed query gets one that says nothing', async (t) => {
  const port = await freePort()
  // in one and the same second
  const office = await machine(t, port, [{ host: '192.168.7.5', port: 4001 }], { clock: { ...quickClock, monotonicMs: () => 0 } })
  const laptop = await makeIdentity()
  office.friends.push(laptop.did)
  await office.discovery.start()
  const mouth = createSocket('udp4')
  const answers: Buffer[] = []
  mouth.on('message', (bytes) => { answers.push(bytes) })
  mouth.bind(0, HOST)
  await once(mouth, 'listening')
  mouth.setMulticastInterface(HOST)
  t.after(() => { mouth.close() })
  const tag = lanTag(lanSecret(laptop, office.did), laptop.did, hourOf(systemClock.now()))
  const tags = [tag, ...Array.from({ length: QUERY_TAGS - 1 }, (_tag, index) => Buffer.alloc(16, index))]
  const right = Buffer.from(encodeQuery(7, tags))
  const wrong = Buffer.from(right)
  wrong[wrong.length - 1] = 2
  // garbage first: what is answered at the end is the first answer at all
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(9_000, 0xc0), wrong, right.subarray(0, -1), Buffer.concat([right, Buffer.of(0)]), encodeAnswer(7, tag, Buffer.alloc(116)), encodeQuery(7, tags.toSorted(() => -1).map((_one, index) => Buffer.alloc(16, index)))]) mouth.send(bytes, port, MDNS_GROUP)
  // what printers say all day takes nobody's place
  for (let count = 0; count < 2 * LIMITS.lanDatagramsPerSecondCount; count++) {
    mouth.send(Buffer.alloc(60, count), port, MDNS_GROUP)
    if (count % 20 === 0) await pause(1)
  }
  await waitFor('the answer', () => {
    mouth.send(right, port, MDNS_GROUP)
    return answers.length > 0
  }, { deadlineMs: 60_000, intervalMs: 100 })
  const [first] = answers
  assert.ok(first !== undefined)
  const decoded = decodeAnswer(first)
  assert.equal(decoded?.tag, Buffer.from(tag).toString('hex'))
  assert.equal(first.includes(Buffer.from([192, 168, 7, 5])), false, 'the address is sealed')
  // a flood: of what comes within a second only so much is read
  for (let count = 0; count < 10 * LIMITS.lanDatagramsPerSecondCount; count++) {
    mouth.send(right, port, MDNS_GROUP)
    if (count % 20 === 0) await pause(1)
  }
  await waitFor('the limit', () => answers.length >= LIMITS.lanDatagramsPerSecondCount / 2, PATIENT)
  await pause(200)
  assert.ok(answers.length <= LIMITS.lanDatagramsPerSecondCount, `${answers.length} answers`)
})

test('I3: a forged answer to a query that was overheard causes nothing', async (t) => {
  const port = await freePort()
  const office = await machine(t, port, [{ host: '192.168.7.5', port: 4001 }])
  const laptop = await makeIdentity()
  office.friends.push(laptop.did)
  const { socket } = await eavesdrop(t, port)
  let forgedCount = 0
  socket.on('message', (bytes, from) => {
    const query = decodeQuery(bytes)
    for (const tag of query?.tags ?? []) {
      forgedCount++
      socket.send(encodeAnswer(query?.id ?? 0, Buffer.from(tag, 'hex'), Buffer.alloc(116, 1)), from.port, from.address)
    }
  })
  await office.discovery.start()
  await waitFor('forged answers to be read', async () => forgedCount > 0 && /result="forged"\} [1-9]/.test(await office.results()), PATIENT)
  assert.deepEqual(office.found, [])
  assert.deepEqual(office.discovery.recall(laptop.did), [])
})
