import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { errorCode, LIMITS } from '../../../src/base/index.ts'
import { planDial } from '../../../src/node/dial-plan.ts'
import { explainDialFailure } from '../../../src/node/dialer.ts'
import { createInboundLimits } from '../../../src/node/inbound-limits.ts'
import { announcedMultiaddrs, listenHosts } from '../../../src/node/listen-addresses.ts'
import type { Interfaces } from '../../../src/node/listen-addresses.ts'
import { isLocalHost, isLoopbackHost, isUnicastHost, pathOf } from '../../../src/node/path.ts'
import { encodeLine, readLine } from '../../../src/node/protocol-negotiation.ts'
import { race } from '../../../src/node/race.ts'
import { parseRelayAddress, parseRelayAddresses } from '../../../src/node/relay-address.ts'
import { explainRelayFailure, relayRetryMs } from '../../../src/node/relay-plan.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const RELAY = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
const PEER = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'
const relayText = `/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}`
const { multiaddr } = await import('@multiformats/multiaddr')

test('relay retries: at most 2 s apart for two minutes, at most 10 s after, never less than 300 ms', () => {
  fc.assert(fc.property(fc.nat(10_000), fc.nat(10_000_000), fc.double({ min: 0, max: 0.999, noNaN: true }), (attempt, downForMs, random) => {
    const delayMs = relayRetryMs({ attempt, downForMs }, () => random)
    assert.ok(delayMs >= 300)
    assert.ok(delayMs <= (downForMs < 120_000 ? 2_000 : 10_000))
  }))
  assert.ok(relayRetryMs({ attempt: 500, downForMs: 500_000 }, () => 0.5) > 5_000)
})

test('relay failures have plain words', () => {
  assert.deepEqual(explainRelayFailure(new AggregateError([Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' })])).state, 'unreachable')
  assert.match(explainRelayFailure(new Error('reservation failed with status RESERVATION_REFUSED')).reason, /full, .* or it does not accept/)
  assert.equal(explainRelayFailure(new Error('reservation failed with status PERMISSION_DENIED')).state, 'refused')
  assert.match(explainRelayFailure(new Error('Payload identity key A does not match expected B')).reason, /another key/)
  assert.match(explainRelayFailure(Object.assign(new Error('x'), { name: 'TimeoutError' })).reason, /no answer/)
  assert.match(explainRelayFailure(new Error('something odd')).reason, /something odd/)
})

test('relay addresses are checked with a reason, and one relay counts once', () => {
  for (const text of ['', 'relay.example', '/ip4/192.0.2.7/tcp/4001', `${relayText}/p2p-circuit`, `/ip4/192.0.2.7/udp/4001/quic-v1/p2p/${RELAY}`]) {
    assert.throws(() => parseRelayAddress(text), (err) => errorCode(err) === 'ERR_CONFIG', text)
  }
  assert.equal(parseRelayAddress(relayText).peerId, RELAY)
  assert.equal(parseRelayAddresses([relayText, `/ip4/192.0.2.8/tcp/1/p2p/${RELAY}`]).length, 1)
})

test('paths are read from the remote address', () => {
  assert.deepEqual(pathOf(multiaddr(`${relayText}/p2p-circuit/p2p/${PEER}`)), { path: 'relayed', relayPeerId: RELAY })
  assert.equal(pathOf(multiaddr(`/ip4/192.168.1.4/tcp/1/p2p/${PEER}`)).path, 'lan')
  assert.equal(pathOf(multiaddr(`/ip4/203.0.113.4/tcp/1/p2p/${PEER}`)).path, 'direct')
  for (const host of ['::ffff:127.0.0.9', '::ffff:7f00:9', '0:0:0:0:0:ffff:7f00:9', '::7f00:9', '0:0:0:0:0:0:0:1']) assert.equal(isLoopbackHost(host), true, host)
  assert.equal(isLocalHost('172.32.0.1'), false)
  for (const host of ['0.0.0.0', '169.254.1.1', '224.0.0.1', '255.255.255.255', '::', 'fe80::1', 'ff02::1', 'example.org', '::ffff:0:0', '::ffff:a9fe:101', '2002:7f00:1::', '64:ff9b:1::1']) assert.equal(isUnicastHost(host), false, host)
})

test('I10: what a friend says about its addresses cannot make us knock elsewhere', () => {
  const relays = [parseRelayAddress(relayText)]
  const base = { peerId: PEER, level: 'friend', relays, isReserved: () => true, mayUseLan: false, mayUseLoopback: false } as const
  const remembered = [
    '/ip4/127.0.0.1/tcp/22', '/ip4/192.168.0.1/tcp/80', '/ip4/169.254.169.254/tcp/80', '/ip4/0.0.0.0/tcp/80', '/ip4/224.0.0.1/tcp/80', '/dns4/internal/tcp/80',
    `/ip4/203.0.113.9/tcp/4001/p2p/${RELAY}`, `/ip4/203.0.113.9/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`, 'nonsense', '/ip4/203.0.113.9/udp/1'
  ]
  for (const host of ['::ffff:7f00:1', '0:0:0:0:0:ffff:7f00:1', '::7f00:1', '64:ff9b::7f00:1', '::ffff:c0a8:101', '64:ff9b::a00:1', '2002:c0a8:101::1', '2001:0:c0a8:101::1', '::ffff:a9fe:a9fe', '::cb00:7109']) {
    assert.deepEqual(planDial({ ...base, remembered: [`/ip6/${host}/tcp/4001`] }).map(({ via }) => via), ['relay'], host)
  }
  const onlyRelay = planDial({ ...base, remembered })
  assert.deepEqual(onlyRelay.map(({ via }) => via), ['relay'])
  assert.equal(onlyRelay[0]?.address.toString(), `${relayText}/p2p-circuit/p2p/${PEER}`)
  assert.deepEqual(planDial({ ...base, remembered: ['/ip4/203.0.113.9/tcp/4001'] }).map(({ address }) => address.toString())[0], `/ip4/203.0.113.9/tcp/4001/p2p/${PEER}`)
  assert.equal(planDial({ ...base, mayUseLan: true, remembered: ['/ip4/192.168.0.1/tcp/80'] }).length, 2)
  assert.equal(planDial({ ...base, level: 'stranger', remembered: ['/ip4/203.0.113.9/tcp/4001'] }).length, 1)
})

test('relays with a reservation are tried before those without', () => {
  const other = parseRelayAddress(`/ip4/192.0.2.8/tcp/1/p2p/${PEER}`)
  const plan = planDial({ peerId: RELAY, level: 'friend', remembered: [], relays: [parseRelayAddress(relayText), other], isReserved: (peerId) => peerId === PEER, mayUseLan: false, mayUseLoopback: false })
  assert.ok(plan[0]?.address.toString().startsWith('/ip4/192.0.2.8'))
})

test('direct addresses and relays take turns: stale addresses do not keep the relays waiting', () => {
  const other = parseRelayAddress(`/ip4/192.0.2.8/tcp/1/p2p/${PEER}`)
  const remembered = [1, 2, 3].map((number) => `/ip4/203.0.113.${number}/tcp/4001`)
  const plan = planDial({ peerId: PEER, level: 'friend', remembered, relays: [parseRelayAddress(relayText), other], isReserved: () => true, mayUseLan: false, mayUseLoopback: false })
  assert.deepEqual(plan.map(({ via }) => via), ['direct', 'relay', 'direct', 'relay', 'direct'])
  assert.deepEqual(plan.filter(({ via }) => via === 'direct').map(({ address }) => address.toString().split('/')[2]), ['203.0.113.1', '203.0.113.2', '203.0.113.3'])
})

test('a failed dial says whether the device is offline or the way is broken', () => {
  const plan = planDial({ peerId: PEER, level: 'friend', remembered: [], relays: [parseRelayAddress(relayText)], isReserved: () => true, mayUseLan: false, mayUseLoopback: false })
  assert.match(explainDialFailure(new AggregateError([new Error('failed to connect via relay with status NO_RESERVATION')]), plan), /offline, or not on a relay/)
  assert.match(explainDialFailure(new AggregateError([new Error('connect ECONNREFUSED')]), plan), /over 1 address: nothing listens/)
})

test('I9: strangers have few places, friends are never refused because of strangers', () => {
  const limits = createInboundLimits()
  for (let index = 0; index < LIMITS.strangerConnectionCount; index++) {
    assert.equal(limits.judge(`stranger ${index}`, 'stranger').allow, true)
    limits.add(`c${index}`, `stranger ${index}`, true)
  }
  assert.deepEqual(limits.judge('one more', 'stranger'), { allow: false, reason: 'stranger-limit' })
  assert.deepEqual(limits.judge('asked us', 'pending'), { allow: false, reason: 'stranger-limit' })
  assert.deepEqual(limits.judge('friend', 'friend'), { allow: true })
  assert.deepEqual(limits.judge('enemy', 'blocked'), { allow: false, reason: 'blocked' })
  limits.promote('c0')
  assert.equal(limits.strangerCount(), LIMITS.strangerConnectionCount - 1)
  limits.remove('c1')
  assert.equal(limits.judge('one more', 'stranger').allow, true)
  for (let index = 0; index < LIMITS.peerConnectionCount; index++) limits.add(`f${index}`, 'friend', false)
  assert.deepEqual(limits.judge('friend', 'friend'), { allow: false, reason: 'peer-limit' })
  assert.deepEqual(createInboundLimits().judge('x', 'stranger'), { allow: true })
})

test('listen modes open what they say and tell friends addresses that can be used', () => {
  const address = (host: string): NonNullable<Interfaces[string]>[number] => ({ address: host, netmask: '', family: host.includes(':') ? 'IPv6' : 'IPv4', mac: '', internal: false, cidr: null, ...(host.includes(':') ? { scopeid: 0 } : {}) }) as NonNullable<Interfaces[string]>[number]
  const interfaces: Interfaces = { lo: [address('127.0.0.1'), address('::1')], eth0: [address('192.168.1.5'), address('203.0.113.5'), address('fe80::1'), address('fd00::5')] }
  assert.deepEqual(listenHosts('none', interfaces), [])
  assert.deepEqual(listenHosts('lan', interfaces), ['192.168.1.5', 'fd00::5'])
  assert.deepEqual(listenHosts('public', interfaces), ['0.0.0.0', '::'])
  assert.deepEqual(announcedMultiaddrs(['/ip4/0.0.0.0/tcp/7'], interfaces), ['/ip4/192.168.1.5/tcp/7', '/ip4/203.0.113.5/tcp/7'])
  assert.deepEqual(announcedMultiaddrs(['/ip4/127.0.0.1/tcp/7'], interfaces), ['/ip4/127.0.0.1/tcp/7'])
})

test('a race starts the next attempt after the stagger, or at once after a failure', async () => {
  const clock = createFakeClock()
  const started: string[] = []
  const dead = (name: string) => async (signal: AbortSignal) => {
    started.push(name)
    return new Promise<string>((_resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error(`${name} cancelled`)) }) })
  }
  const failing = async (): Promise<string> => {
    started.push('failing')
    throw new Error('no')
  }
  const good = async (): Promise<string> => {
    started.push('good')
    return 'good'
  }
  const raced = race(clock, [dead('first'), failing, good, dead('never')], { staggerMs: 250, discard: () => {}, signal: new AbortController().signal })
  await clock.advance(249)
  assert.deepEqual(started, ['first'])
  await clock.advance(1)
  assert.equal(await raced, 'good')
  assert.deepEqual(started, ['first', 'failing', 'good'])
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a late winner is given back to be closed, and the winner\'s signal stays silent', async () => {
  const clock = createFakeClock()
  const late = Promise.withResolvers<string>()
  const discarded: string[] = []
  const signals: AbortSignal[] = []
  const raced = race(clock, [
    async (signal) => {
      signals.push(signal)
      return late.promise
    },
    async (signal) => {
      signals.push(signal)
      return 'second'
    }
  ], { staggerMs: 10, discard: (value) => { discarded.push(value) }, signal: new AbortController().signal })
  await clock.advance(10)
  assert.equal(await raced, 'second')
  assert.deepEqual(signals.map((signal) => signal.aborted), [true, false])
  late.resolve('first')
  await clock.advance(0)
  assert.deepEqual(discarded, ['first'])
})

test('a race that nobody wins gives all reasons; one that is cancelled gives the reason', async () => {
  const clock = createFakeClock()
  const fail = async (): Promise<never> => { throw new Error('no') }
  const options = { staggerMs: 10, discard: () => {}, signal: new AbortController().signal }
  await assert.rejects(race(clock, [fail, fail], options), (err) => err instanceof AggregateError && err.errors.length === 2)
  await assert.rejects(race(clock, [], options), AggregateError)
  const stop = new AbortController()
  const hung = race(clock, [async () => new Promise<never>(() => {})], { ...options, signal: stop.signal })
  stop.abort(new Error('stopped'))
  await assert.rejects(hung, /stopped/)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('lines of multistream-select round-trip; partial ones wait, malformed ones are refused', () => {
  fc.assert(fc.property(fc.stringMatching(/^[!-~]{1,500}$/), fc.uint8Array({ maxLength: 20 }), (line, rest) => {
    const bytes = encodeLine(line)
    assert.deepEqual(readLine(new Uint8Array([...bytes, ...rest])), { line, bytes: bytes.length })
    assert.equal(readLine(bytes.subarray(0, bytes.length - 1)), undefined)
  }))
  for (const bytes of [[0], [0x80, 0x80, 1], [0xff, 0x7f], [2, 65, 66]]) assert.throws(() => readLine(Uint8Array.from(bytes)), (err) => errorCode(err) === 'ERR_PROTOCOL')
  fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
    try {
      readLine(bytes)
    } catch (err) {
      assert.equal(errorCode(err), 'ERR_PROTOCOL')
    }
  }))
})
