import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection, MultiaddrConnection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import fc from 'fast-check'
import { CarrierError, createMetrics, createTaskOwner, errorCode, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { didFromPeerIdString } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { AuthGate } from '../../../src/node/auth-gate.ts'
import { planDial } from '../../../src/node/dial-plan.ts'
import { createGater } from '../../../src/node/gater.ts'
import { createInboundLimits } from '../../../src/node/inbound-limits.ts'
import { createPeerDirectory } from '../../../src/node/peer-directory.ts'
import { createProtocolDoor } from '../../../src/node/protocol-door.ts'
import { parseRelayAddress } from '../../../src/node/relay-address.ts'
import { judgeRelayHints, resolveRelayHint } from '../../../src/node/relay-hints.ts'
import type { RelayHintRules } from '../../../src/node/relay-hints.ts'
import { createRelayHintPool } from '../../../src/node/relay-hints-pool.ts'
import { createRelayHintSource } from '../../../src/node/relay-hints-source.ts'
import type { RelayRecord } from '../../../src/node/relay-record.ts'
import { deriveLookUpKey } from '../../../src/node/relay-record-key.ts'
import { sealRelayRecord } from '../../../src/node/relay-record-envelope.ts'
import { signRelayRecord } from '../../../src/node/relay-record.ts'
import type { PeerLevel } from '../../../src/node/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

const A = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
const B = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'
const C = '12D3KooWL3XJ9EMCyZvmmGXL2LMiVBtrVa2BuESsJiXkSj7333Jw'
const OWN = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'

const interfaces = {
  lo: [{ address: '127.0.0.1', netmask: '255.0.0.0', family: 'IPv4' as const, mac: '00:00:00:00:00:00', internal: true, cidr: '127.0.0.1/8' }],
  eth0: [{ address: '192.168.7.3', netmask: '255.255.255.0', family: 'IPv4' as const, mac: '00:00:00:00:00:00', internal: false, cidr: '192.168.7.3/24' }]
}
const rules: RelayHintRules = { isListed: (peerId) => peerId === C, ownPeerId: OWN, relayHosts: ['203.0.113.200', 'listed.example'], interfaces, mayUseLoopback: false, mayBorrow: true }

const borrowedOf = (texts: string[], change: Partial<RelayHintRules> = {}): string[] => judgeRelayHints(texts, { ...rules, ...change }).borrowed.map(({ text }) => text)

test('I10: of the relays that a friend names only those in the internet and in our own networks are dialled', () => {
  for (const text of [
    `/ip4/203.0.113.7/tcp/4001/p2p/${A}`, `/ip4/192.168.7.9/tcp/4001/p2p/${A}`, `/ip6/2001:db8::7/tcp/443/tls/ws/p2p/${A}`,
    `/dns4/relay.example/tcp/443/wss/p2p/${A}`, `/dns/relay.example/tcp/443/tls/sni/relay.example/ws/p2p/${A}`,
    `/ip4/192.168.7.9/tcp/8443/tls/ws/p2p/${A}`, `/ip4/203.0.113.7/tcp/80/ws/p2p/${A}`
  ]) assert.equal(borrowedOf([text]).length, 1, text)
  for (const text of [
    `/ip4/127.0.0.1/tcp/4001/p2p/${A}`, `/ip4/192.168.8.9/tcp/80/p2p/${A}`, `/ip4/10.0.0.1/tcp/80/p2p/${A}`, `/ip4/100.64.0.1/tcp/80/p2p/${A}`, `/ip4/192.168.7.3/tcp/80/p2p/${A}`,
    `/ip4/169.254.169.254/tcp/80/p2p/${A}`, `/ip4/0.0.0.0/tcp/80/p2p/${A}`, `/ip4/224.0.0.1/tcp/80/p2p/${A}`, `/ip4/203.0.113.7/tcp/0/p2p/${A}`,
    `/ip6/::1/tcp/80/p2p/${A}`, `/ip6/fe80::1/tcp/80/p2p/${A}`, `/ip6/fd00::1/tcp/80/p2p/${A}`, `/ip6/ff02::1/tcp/80/p2p/${A}`, `/ip6/64:ff9b::7f00:1/tcp/80/p2p/${A}`,
    `/ip4/203.0.113.7/tcp/80/ws/http-path/admin%2Freboot/p2p/${A}`, `/dns4/relay.example/tcp/443/wss/http-path/x/p2p/${A}`,
    `/ip4/192.168.7.9/tcp/22/p2p/${A}`, `/ip4/192.168.7.9/tcp/443/tls/ws/p2p/${A}`, `/ip4/192.168.7.9/tcp/8080/ws/p2p/${A}`, `/ip6/::ffff:c0a8:709/tcp/80/p2p/${A}`,
    `/ip4/203.0.113.200/tcp/9464/p2p/${A}`, `/ip6/::ffff:cb00:71c8/tcp/9464/p2p/${A}`, `/dns4/LISTED.example/tcp/9464/p2p/${A}`,
    `/ip6/::ffff:7f00:1/tcp/4001/p2p/${A}`, `/ip6/::ffff:a00:1/tcp/4001/p2p/${A}`, `/ip6/2002:7f00:1::/tcp/4001/p2p/${A}`,
    `/dnsaddr/relay.example/p2p/${A}`, `/dns4/localhost/tcp/80/p2p/${A}`, `/dns4/metadata/tcp/80/p2p/${A}`, `/dns4/127.1/tcp/80/p2p/${A}`, `/dns4/2130706433/tcp/80/p2p/${A}`,
    `/ip4/203.0.113.7/tcp/80/p2p/${B}/p2p-circuit/p2p/${A}`, `/ip4/203.0.113.7/udp/80/quic-v1/p2p/${A}`, '/ip4/203.0.113.7/tcp/80', `/ip4/203.0.113.7/tcp/80/p2p/${OWN}`, `/ip4/203.0.113.7/tcp/80/p2p/${C}`, 'nonsense'
  ]) assert.deepEqual(borrowedOf([text]), [], text)
  assert.equal(borrowedOf([`/ip4/127.0.0.1/tcp/4001/p2p/${A}`], { mayUseLoopback: true }).length, 1)
  assert.deepEqual(borrowedOf([`/ip4/203.0.113.7/tcp/4001/p2p/${A}`], { mayBorrow: false }), [])
})

test('a listed relay is used at the address of our own list, and a thousand relays are four', () => {
  const { listed, borrowed } = judgeRelayHints([`/ip4/203.0.113.7/tcp/80/p2p/${C}`, `/ip4/203.0.113.8/tcp/80/p2p/${A}`, `/ip4/203.0.113.9/tcp/80/p2p/${A}`], rules)
  assert.deepEqual(listed, [C])
  assert.deepEqual(borrowed.map(({ text }) => text), [`/ip4/203.0.113.8/tcp/80/p2p/${A}`])
  const many = Array.from({ length: 1_000 }, (_, index) => `/ip4/203.0.113.${index % 250}/tcp/${index + 1}/p2p/${index % 2 === 0 ? A : B}`)
  assert.ok(borrowedOf(many).length <= LIMITS.relayRecordRelayCount)
})

test('I10: whatever a friend names, no host outside the rules is left', () => {
  fc.assert(fc.property(fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)), fc.integer({ min: 1, max: 65_535 }), ([a, b, c, d], port) => {
    const isLocal = a === 0 || a === 10 || a === 127 || a >= 224 || (a === 100 && b >= 64 && b < 128) || (a === 169 && b === 254) || (a === 172 && b >= 16 && b < 32) || (a === 192 && b === 168 && c !== 7)
    if (isLocal) assert.deepEqual(borrowedOf([`/ip4/${a}.${b}.${c}.${d}/tcp/${port}/p2p/${A}`]), [])
  }))
  fc.assert(fc.property(fc.string({ maxLength: 80 }), (text) => { assert.deepEqual(borrowedOf([text]), []) }))
})

test('I10: a name is resolved once, judged, and dialled as the address that was judged', async () => {
  const relay = parseRelayAddress(`/dns4/relay.example/tcp/443/wss/p2p/${A}`)
  const families: number[] = []
  const resolved = await resolveRelayHint(relay, rules, async (_name, family) => {
    families.push(family)
    return ['10.0.0.1', '203.0.113.5']
  })
  assert.equal(resolved.text, `/ip4/203.0.113.5/tcp/443/tls/sni/relay.example/ws/p2p/${A}`)
  assert.deepEqual(families, [4])
  assert.equal((await resolveRelayHint(parseRelayAddress(`/dns/relay.example/tcp/443/tls/ws/p2p/${A}`), rules, async () => ['2001:db8::5'])).text, `/ip6/2001:db8::5/tcp/443/tls/sni/relay.example/ws/p2p/${A}`)
  assert.equal((await resolveRelayHint(parseRelayAddress(`/dns/relay.example/tcp/4001/p2p/${A}`), rules, async () => ['203.0.113.5'])).text, `/ip4/203.0.113.5/tcp/4001/p2p/${A}`)
  await assert.rejects(resolveRelayHint(relay, rules, async () => ['127.0.0.1', '192.168.8.1', '::ffff:7f00:1', '203.0.113.200']), { code: 'ERR_PEER_OFFLINE' })
  await assert.rejects(resolveRelayHint(relay, rules, async () => ['192.168.7.9']), { code: 'ERR_PEER_OFFLINE' }, 'port 443 of a neighbour')
  await assert.rejects(resolveRelayHint(parseRelayAddress(`/dns4/relay.example/tcp/8080/ws/p2p/${A}`), rules, async () => ['192.168.7.9']), { code: 'ERR_PEER_OFFLINE' })
  assert.equal((await resolveRelayHint(parseRelayAddress(`/dns4/relay.example/tcp/4001/p2p/${A}`), rules, async () => ['192.168.7.9'])).text, `/ip4/192.168.7.9/tcp/4001/p2p/${A}`)
})

test('the plan: relays of ours that the device names, reserved ones, and by turns with them its own while its word is valid', () => {
  const [ours, named] = [parseRelayAddress(`/ip4/192.0.2.7/tcp/1/p2p/${A}`), parseRelayAddress(`/ip4/192.0.2.8/tcp/1/p2p/${C}`)]
  const theirs = parseRelayAddress(`/ip4/203.0.113.8/tcp/1/p2p/${B}`)
  const base = { peerId: OWN, level: 'friend' as const, remembered: ['/ip4/203.0.113.1/tcp/1', '/ip4/203.0.113.2/tcp/1'], relays: [ours, named], isReserved: (peerId: string) => peerId === A, mayUseLan: false, mayUseLoopback: false }
  const viasOf = (plan: ReturnType<typeof planDial>): string[] => plan.map(({ via, address }) => via === 'relay' ? (address.toString().includes(A) ? 'ours' : 'named') : via)
  assert.deepEqual(viasOf(planDial(base)), ['direct', 'ours', 'direct', 'named'])
  assert.deepEqual(viasOf(planDial({ ...base, hints: { listed: [], borrowed: [theirs], isFresh: true } })), ['direct', 'ours', 'borrowed', 'direct', 'named'])
  assert.deepEqual(viasOf(planDial({ ...base, hints: { listed: [C], borrowed: [theirs], isFresh: true } })), ['direct', 'named', 'direct', 'ours', 'borrowed'])
  assert.deepEqual(viasOf(planDial({ ...base, hints: { listed: [], borrowed: [theirs], isFresh: false } })), ['direct', 'ours', 'direct', 'named', 'borrowed'])
  assert.deepEqual(viasOf(planDial({ ...base, relays: [], remembered: [], hints: { listed: [], borrowed: [theirs], isFresh: true } })), ['borrowed'])
  assert.deepEqual(viasOf(planDial({ ...base, relays: [], remembered: [], avoidRelays: [B], hints: { listed: [], borrowed: [theirs], isFresh: true } })), [])
})

/** A connection that a test closes and that carries as many streams as the test says. */
function fakeConnection (): { connection: Connection, streams: unknown[], lose: () => void, isClosed: () => boolean } {
  const target = new EventTarget()
  const streams: unknown[] = []
  const state = { status: 'open' }
  const lose = (): void => {
    state.status = 'closed'
    target.dispatchEvent(new Event('close'))
  }
  const connection = {
    streams,
    get status () { return state.status },
    addEventListener: target.addEventListener.bind(target),
    close: async () => { lose() },
    abort: lose
  }
  return { connection: connection as unknown as Connection, streams, lose, isClosed: () => state.status === 'closed' }
}

function makePool (levelOf: (device: Did) => PeerLevel = () => 'stranger'): { clock: ReturnType<typeof createFakeClock>, made: Array<ReturnType<typeof fakeConnection>>, forgotten: string[], pool: ReturnType<typeof createRelayHintPool>, fail: { err?: Error } } {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const made: Array<ReturnType<typeof fakeConnection>> = []
  const forgotten: string[] = []
  const fail: { err?: Error } = {}
  const pool = createRelayHintPool({
    clock,
    log: silentLogger,
    tasks: () => tasks,
    levelOf,
    onForgotten: (peerId) => { forgotten.push(peerId) },
    dialAddress: async () => {
      if (fail.err !== undefined) throw fail.err
      const fake = fakeConnection()
      made.push(fake)
      return fake.connection
    }
  })
  return { clock, made, forgotten, pool, fail }
}

const relayA = parseRelayAddress(`/ip4/203.0.113.7/tcp/4001/p2p/${A}`)
const { signal } = new AbortController()

test('a borrowed relay is shared, kept while something runs over it, then closed and forgotten', async () => {
  const { clock, made, forgotten, pool } = makePool()
  const [one, two] = await Promise.all([pool.borrow(relayA, signal), pool.borrow(relayA, signal)])
  assert.equal(made.length, 1)
  assert.equal(one.connection, two.connection)
  assert.equal(pool.isBorrowed(A), true)
  made[0]?.streams.push('a circuit')
  one.end()
  two.end()
  await clock.advance(10 * LIMITS.borrowedRelayIdleMs)
  assert.equal(pool.isBorrowed(A), true)
  made[0]?.streams.pop()
  await clock.advance(2 * LIMITS.borrowedRelayIdleMs)
  assert.equal(pool.isBorrowed(A), false)
  assert.equal(made[0]?.isClosed(), true)
  assert.deepEqual(forgotten, [A])
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a borrowed relay that is lost, or was never reached, is forgotten at once', async () => {
  const { clock, made, pool, fail } = makePool()
  const borrowed = await pool.borrow(relayA, signal)
  made[0]?.lose()
  assert.equal(pool.size, 0)
  borrowed.end()
  fail.err = new CarrierError('ERR_PEER_OFFLINE', 'nobody there')
  await assert.rejects(pool.borrow(relayA, signal), /nobody there/)
  await clock.advance(0)
  assert.equal(pool.size, 0)
})

test('I8: relays in use are bounded; those that are idle give way', async () => {
  const { made, pool } = makePool()
  const relays = await Promise.all(Array.from({ length: LIMITS.borrowedRelayCount + 1 }, async (_, index) => parseRelayAddress(`/ip4/203.0.113.7/tcp/${index + 1}/p2p/${(await makeIdentity()).peerId.toString()}`)))
  const [last, ...others] = relays
  const used = await Promise.all(others.map(async (relay) => pool.borrow(relay, signal)))
  assert.ok(last !== undefined)
  await assert.rejects(pool.borrow(last, signal), { code: 'ERR_LIMIT' })
  used[0]?.end()
  await pool.borrow(last, signal)
  assert.equal(pool.size, LIMITS.borrowedRelayCount)
  assert.equal(made[0]?.isClosed(), true)
})

test('a friend cannot make a relay of somebody whom we know', async () => {
  const level: { of: PeerLevel } = { of: 'friend' }
  const { made, pool } = makePool((device) => device === didFromPeerIdString(A) ? level.of : 'stranger')
  for (const known of ['friend', 'pending', 'blocked'] as const) {
    level.of = known
    await assert.rejects(pool.borrow(relayA, signal), { code: 'ERR_NOT_AVAILABLE' })
  }
  assert.equal(made.length, 0)
  level.of = 'stranger'
  await pool.borrow(relayA, signal)
  assert.equal(pool.isBorrowed(A), true)
  level.of = 'friend'
  assert.equal(pool.isBorrowed(A), false)
})

test('a look-up keeps the newest true record, passes over what is false, and is not repeated without end', async () => {
  const clock = createFakeClock()
  const identity = await makeIdentity()
  const secret = new Uint8Array(32).fill(3)
  const key = await deriveLookUpKey(identity.did, { kind: 'friend', secret })
  const envelopeOf = async (seq: number): Promise<Uint8Array> => {
    const facts = { seq, expiresAtMs: clock.now() + 1_000_000, relays: [relayA.text] }
    return sealRelayRecord(identity, key, { bytes: await signRelayRecord(identity, facts), ...facts }, (length) => new Uint8Array(length))
  }
  const kept: RelayRecord[] = []
  const answers = [await envelopeOf(1), new Uint8Array(900), await envelopeOf(2)]
  let level: PeerLevel = 'friend'
  const source = createRelayHintSource({
    book: { recall: () => kept.at(-1), secretsOf: () => [{ kind: 'friend', secret }], keep: (record) => { if ((kept.at(-1)?.seq ?? 0) < record.seq) kept.push(record) } },
    dht: { get: async () => answers },
    clock,
    log: silentLogger,
    levelOf: () => level,
    rules: () => rules
  })
  assert.equal(source.mayLookUp(identity.did), true)
  await source.lookUp(identity.did, signal)
  assert.deepEqual(kept.map(({ seq }) => seq), [1, 2])
  assert.deepEqual(source.hintsFor(identity.did).borrowed.map(({ text }) => text), [relayA.text])
  assert.equal(source.hintsFor(identity.did).isFresh, true)
  assert.equal(source.mayLookUp(identity.did), false)
  await clock.advance(LIMITS.relayLookUpFirstMs)
  assert.equal(source.mayLookUp(identity.did), true)
  answers.length = 0
  await assert.rejects(source.lookUp(identity.did, signal), (err) => errorCode(err) === 'ERR_NOT_FOUND')
  await clock.advance(LIMITS.relayLookUpFirstMs)
  assert.equal(source.mayLookUp(identity.did), false)
  source.noteReached(identity.did)
  assert.equal(source.mayLookUp(identity.did), true)
  await clock.advance(1_000_000)
  assert.equal(source.hintsFor(identity.did).isFresh, false)
  assert.equal(source.hintsFor(identity.did).borrowed.length, 1)
  await clock.advance(LIMITS.relayRecordKeepMs)
  assert.equal(source.hintsFor(identity.did).borrowed.length, 0)
  level = 'stranger'
  assert.equal(source.mayLookUp(identity.did), false)
})

test('records are judged by the time of their book, not by a clock that was set wrong', async () => {
  const clock = createFakeClock()
  const identity = await makeIdentity()
  const secret = new Uint8Array(32).fill(3)
  const key = await deriveLookUpKey(identity.did, { kind: 'friend', secret })
  const trueMs = clock.now()
  const facts = { seq: 1, expiresAtMs: trueMs + 1_000_000, relays: [relayA.text] }
  const envelope = sealRelayRecord(identity, key, { bytes: await signRelayRecord(identity, facts), ...facts }, (length) => new Uint8Array(length))
  const kept: RelayRecord[] = []
  const source = createRelayHintSource({
    book: { recall: () => kept.at(-1), secretsOf: () => [{ kind: 'friend', secret }], keep: (record) => { kept.push(record) }, now: () => trueMs },
    dht: { get: async () => [envelope] },
    clock,
    log: silentLogger,
    levelOf: () => 'friend',
    rules: () => rules
  })
  for (const wrongMs of [trueMs - 20 * 365 * 86_400_000, trueMs + 20 * 365 * 86_400_000]) {
    clock.setNow(wrongMs)
    await source.lookUp(identity.did, signal)
    assert.equal(kept.at(-1)?.expiresAtMs, facts.expiresAtMs)
    assert.equal(source.hintsFor(identity.did).isFresh, true)
  }
})

test('I10: a borrowed relay is dialled by us alone, and brings neither circuits nor offers nor a connection of its own', async () => {
  const listed = parseRelayAddress(`/ip4/192.0.2.8/tcp/1/p2p/${C}`)
  const peers = createPeerDirectory([listed], (peerId) => peerId === A)
  const refused: string[] = []
  const clock = createFakeClock()
  const gater = createGater({ clock, relays: [listed], peers, levelOf: () => 'blocked', limits: createInboundLimits(), onRefused: (_peer, reason) => { refused.push(reason) } })
  const [borrowed, listedPeer, somebody] = [A, C, B].map((text) => peerIdFromString(text))
  assert.ok(borrowed !== undefined && listedPeer !== undefined && somebody !== undefined)
  const none = {} as unknown as MultiaddrConnection
  assert.equal(await gater.denyOutboundEncryptedConnection?.(borrowed, none), false)
  assert.equal(await gater.denyInboundEncryptedConnection?.(borrowed, none), true)
  assert.equal(await gater.denyDialPeer?.(borrowed), true)
  assert.equal(await gater.denyDialMultiaddr?.(relayA.multiaddr), true)
  assert.equal(await gater.denyInboundRelayedConnection?.(borrowed, somebody), true)
  assert.deepEqual(refused, ['blocked', 'unlisted-relay'])
  const tasks = createTaskOwner(silentLogger)
  const metrics = createMetrics()
  const door = createProtocolDoor({
    clock,
    log: silentLogger,
    tasks: () => tasks,
    gate: {} as unknown as AuthGate,
    peers,
    levelOf: () => 'friend',
    describe: () => { throw new Error('nobody gets so far') },
    onRefused: () => {},
    streams: metrics.counter('carrier_test_total', 'Test.', ['direction']),
    openStreams: metrics.gauge('carrier_test', 'Test.'),
    spliceOffers: { isReady: () => true, handle: async () => {} }
  })
  for (const protocol of ['/libp2p/circuit/relay/0.2.0/stop', '/carrier/splice/1.0.0', '/carrier/auth/1.0.0', '/carrier/friend/1.0.0']) {
    assert.equal(door.judge(borrowed, protocol), 'refuse', protocol)
  }
  for (const protocol of ['/libp2p/circuit/relay/0.2.0/stop', '/carrier/splice/1.0.0']) assert.equal(door.judge(listedPeer, protocol), 'accept', protocol)
})
