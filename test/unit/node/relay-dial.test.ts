/** A relay with several addresses: of both families, or on two ports. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection } from '@libp2p/interface'
import { errorCode, LIMITS } from '../../../src/base/index.ts'
import type { Host } from '../../../src/node/host.ts'
import { addressesOf, parseRelayAddresses } from '../../../src/node/relay-address.ts'
import { dialRelay } from '../../../src/node/relay-dial.ts'
import { createKeptRelay, usefulAddresses } from '../../../src/node/relay-supervisor-record.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { within } from '../../support/wait.ts'

const RELAY = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
const OTHER = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'
const FOUR = `/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}`
const SIX = `/ip6/2001:db8::7/tcp/4001/p2p/${RELAY}`
const NAME = `/dnsaddr/relay.example/p2p/${RELAY}`
const [relay] = parseRelayAddresses([FOUR, SIX])
assert.ok(relay !== undefined)
const [, six] = addressesOf(relay)
assert.ok(six !== undefined)

/** A host whose dials are settled by the test. */
function fakeHost (open: Connection[] = []): { host: () => Pick<Host, 'libp2p' | 'dialAddress'>, dials: Map<string, PromiseWithResolvers<Connection> & { signal: AbortSignal }> } {
  const dials: ReturnType<typeof fakeHost>['dials'] = new Map()
  const dial = async (address: { toString: () => string }, signal: AbortSignal): Promise<Connection> => {
    const settled = { ...Promise.withResolvers<Connection>(), signal }
    dials.set(address.toString(), settled)
    signal.addEventListener('abort', () => { settled.reject(new Error('aborted')) }, { once: true })
    return settled.promise
  }
  const host = { dialAddress: dial, libp2p: { getConnections: () => open, dial: async (address: { toString: () => string }, options: { signal: AbortSignal }) => dial({ toString: () => `libp2p ${address.toString()}` }, options.signal) } }
  return { host: () => host as unknown as Host, dials }
}

function fakeConnection (): { connection: Connection, wasAborted: () => boolean } {
  let isAborted = false
  return { connection: { remotePeer: { toString: () => RELAY }, status: 'open', direct: true, abort: () => { isAborted = true } } as unknown as Connection, wasAborted: () => isAborted }
}

const turn = async (): Promise<void> => new Promise((resolve) => { setImmediate(resolve) })
const { signal } = new AbortController()

test('several addresses of one relay are one relay, the same twice is one address, and they are bounded', () => {
  const relays = parseRelayAddresses([FOUR, `/ip4/192.0.2.8/tcp/1/p2p/${OTHER}`, SIX, FOUR])
  assert.deepEqual(relays.map((one) => addressesOf(one).map(({ text }) => text)), [[FOUR, SIX], [`/ip4/192.0.2.8/tcp/1/p2p/${OTHER}`]])
  const many = Array.from({ length: LIMITS.relayAddressCount }, (_one, index) => `/ip4/192.0.2.7/tcp/${index + 1}/p2p/${RELAY}`)
  assert.equal(parseRelayAddresses(many).length, 1)
  assert.throws(() => parseRelayAddresses([...many, FOUR]), (err) => errorCode(err) === 'ERR_CONFIG' && String(err).includes(RELAY))
})

test('the next address is tried when the first is silent for a stagger, and what comes second is given up', async () => {
  const clock = createFakeClock()
  const { host, dials } = fakeHost()
  const dialled = dialRelay({ host, clock }, relay, undefined, signal)
  await clock.advance(LIMITS.dialStaggerMs - 1)
  assert.deepEqual([...dials.keys()], [FOUR])
  await clock.advance(1)
  assert.deepEqual([...dials.keys()], [FOUR, SIX])
  const [early, late] = [fakeConnection(), fakeConnection()]
  dials.get(SIX)?.resolve(early.connection)
  dials.get(FOUR)?.resolve(late.connection)
  assert.deepEqual(await dialled, { connection: early.connection, address: six })
  await turn()
  assert.deepEqual([early.wasAborted(), late.wasAborted()], [false, true])
  assert.equal(clock.pendingTimerCount(), 0)
})

test('an address of a family that the network lacks costs nothing', async () => {
  const clock = createFakeClock()
  const { host, dials } = fakeHost()
  const dialled = dialRelay({ host, clock }, relay, undefined, signal)
  dials.get(FOUR)?.reject(new Error('connect ENETUNREACH'))
  await turn()
  const { connection } = fakeConnection()
  dials.get(SIX)?.resolve(connection)
  assert.equal((await dialled).address?.text, SIX)
})

test('the address that answered last comes first; a dnsaddr is looked up by libp2p', async () => {
  const clock = createFakeClock()
  const { host, dials } = fakeHost()
  const dialled = dialRelay({ host, clock }, relay, six, signal)
  assert.deepEqual([...dials.keys()], [SIX])
  dials.get(SIX)?.resolve(fakeConnection().connection)
  await dialled
  const named = fakeHost()
  const [both] = parseRelayAddresses([NAME, FOUR])
  assert.ok(both !== undefined)
  const second = dialRelay({ host: named.host, clock }, both, undefined, signal)
  assert.deepEqual([...named.dials.keys()], [`libp2p ${NAME}`])
  named.dials.get(`libp2p ${NAME}`)?.resolve(fakeConnection().connection)
  await second
})

test('an open connection is used; when nothing answers, every failure is told', async () => {
  const clock = createFakeClock()
  const { connection } = fakeConnection()
  assert.deepEqual(await dialRelay({ host: fakeHost([connection]).host, clock }, relay, undefined, signal), { connection, address: undefined })
  const { host, dials } = fakeHost()
  const dialled = dialRelay({ host, clock }, relay, undefined, signal)
  dials.get(FOUR)?.reject(new Error('connect ENETUNREACH'))
  await turn()
  dials.get(SIX)?.reject(new Error('connect ECONNREFUSED'))
  await assert.rejects(dialled, (err) => err instanceof AggregateError && err.errors.length === 2)
})

test('one that came over another relay does not count as open', async () => {
  for (const other of [{ direct: false }, { limits: { bytes: 1n } }]) {
    const circuit = Object.assign(fakeConnection().connection, other)
    const { host, dials } = fakeHost([circuit])
    const dialled = dialRelay({ host, clock: createFakeClock() }, relay, undefined, signal)
    const { connection } = fakeConnection()
    dials.get(FOUR)?.resolve(connection)
    assert.equal((await within('a connection', 20_000, dialled)).connection, connection)
  }
})

test('when libp2p gives the connection that won for another address, it is kept', async () => {
  const clock = createFakeClock()
  const [both] = parseRelayAddresses([NAME, FOUR])
  assert.ok(both !== undefined)
  const { host, dials } = fakeHost()
  const dialled = dialRelay({ host, clock }, both, undefined, signal)
  await clock.advance(LIMITS.dialStaggerMs)
  const won = fakeConnection()
  dials.get(FOUR)?.resolve(won.connection)
  dials.get(`libp2p ${NAME}`)?.resolve(won.connection)
  assert.equal((await dialled).address?.text, FOUR)
  await turn()
  assert.equal(won.wasAborted(), false)
})

test('dials go to the address that answers, and to all while none does', () => {
  const item = createKeptRelay(relay)
  const texts = (): string[] => usefulAddresses(item).map(({ text }) => text)
  assert.deepEqual(texts(), [FOUR, SIX])
  item.reachedAt = six
  item.health = 'up'
  assert.deepEqual(texts(), [SIX])
  item.health = 'down'
  assert.deepEqual(texts(), [FOUR, SIX])
})
