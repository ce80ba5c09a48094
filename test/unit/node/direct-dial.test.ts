import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { CarrierError, createMetrics, createTaskOwner, LIMITS, silentLogger } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { AuthenticatedConnection } from '../../../src/node/auth-gate.ts'
import { createDirectDial } from '../../../src/node/direct-dial.ts'
import type { PeerLevel } from '../../../src/node/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const office = 'did:key:office' as Did
const RELAYED = '/ip4/203.0.113.1/tcp/1/p2p/12D3KooWEyFkj4kGmkcuLBNLj8umCKCJisDNgXwsQrFUD8owmv8m/p2p-circuit'

function setUp () {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const dialled: string[] = []
  const state = { addresses: ['/ip4/192.0.2.1/tcp/1'], connections: [RELAYED], level: 'friend' as PeerLevel, works: false }
  const entry = (address: string): AuthenticatedConnection => ({ connection: { remoteAddr: multiaddr(address), close: async () => {} } as unknown as Connection, device: office, instanceId: undefined, addresses: [] })
  const dial = createDirectDial({
    clock,
    log: silentLogger,
    tasks: () => tasks,
    random: () => 0.5,
    gate: {
      connectionsOf: () => state.connections.map(entry),
      passed: async (connection) => {
        state.connections.push(connection.remoteAddr.toString())
        return entry(connection.remoteAddr.toString())
      }
    },
    levelOf: () => state.level,
    candidates: () => state.addresses.map((text) => multiaddr(text)),
    dialAddress: async (address) => {
      dialled.push(address.toString())
      if (!state.works) throw new CarrierError('ERR_PEER_OFFLINE', 'refused')
      return { remoteAddr: address } as unknown as Connection
    },
    dials: createMetrics().counter('carrier_test_total', 'test', ['result'])
  })
  return { clock, tasks, dialled, state, dial }
}

test('a friend that cannot be reached is tried again and again, rarer and rarer, while there is contact', async () => {
  const { clock, tasks, dialled, state, dial } = setUp()
  dial.consider(office)
  for (let count = 0; count < 100; count++) dial.consider(office)
  await clock.advance(0)
  assert.equal(dialled.length, 1)
  await clock.advance(LIMITS.directDialRetryFirstMs)
  assert.equal(dialled.length, 2)
  await clock.advance(LIMITS.directDialRetryFirstMs)
  assert.equal(dialled.length, 2)
  await clock.advance(LIMITS.directDialRetryFirstMs)
  assert.equal(dialled.length, 3)
  dial.networkChanged()
  await clock.advance(0)
  assert.equal(dialled.length, 4, 'in another network at once')
  state.connections = []
  await clock.advance(10 * LIMITS.directDialRetryMaxMs)
  assert.equal(dialled.length, 4, 'without contact nobody is dialled')
  await tasks.stop()
  dial.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('what there is, or who is no friend, is not dialled', async () => {
  for (const change of [{ connections: [RELAYED, '/ip4/192.0.2.7/tcp/9'] }, { level: 'stranger' as const }, { addresses: [] }]) {
    const { clock, tasks, dialled, state, dial } = setUp()
    Object.assign(state, change)
    dial.consider(office)
    await clock.advance(LIMITS.directDialRetryMaxMs)
    assert.equal(dialled.length, 0)
    await tasks.stop()
  }
})

test('a lost direct connection is dialled again soon, and a friend that closes what it accepts does not keep us busy', async () => {
  const { clock, tasks, dialled, state, dial } = setUp()
  state.works = true
  dial.consider(office)
  await clock.advance(0)
  assert.deepEqual(state.connections, [RELAYED, '/ip4/192.0.2.1/tcp/1'])
  for (let count = 2; count < 5; count++) {
    state.connections = [RELAYED]
    dial.consider(office)
    await clock.advance(LIMITS.directDialLeastMs - 1)
    assert.equal(dialled.length, count - 1)
    await clock.advance(1)
    assert.equal(dialled.length, count)
  }
  await tasks.stop()
  dial.stop()
})

test('I10: a friend with ever new addresses makes us dial once in a while only', async () => {
  const { clock, tasks, dialled, state, dial } = setUp()
  for (let second = 0; second < 60; second++) {
    state.addresses = [`/ip4/192.0.2.${second}/tcp/1`]
    dial.consider(office)
    await clock.advance(1_000)
  }
  assert.ok(dialled.length <= 60_000 / LIMITS.directDialLeastMs + 1, `${dialled.length} dials`)
  assert.ok(dialled.length > 3)
  await tasks.stop()
  dial.stop()
})

test('I10: a friend with ever new addresses uses up its minute and its hour, and what it told before is dialled when its turn comes', async () => {
  const { clock, tasks, dialled, state, dial } = setUp()
  const counts: number[] = []
  for (let second = 0; second < 3_600; second += 4) {
    state.addresses = Array.from({ length: LIMITS.rememberedAddressCount }, (_one, index) => `/ip4/192.0.2.${index}/tcp/${second + 1}`)
    dial.consider(office)
    await clock.advance(4_000)
    if (second === 56) counts.push(dialled.length)
  }
  counts.push(dialled.length)
  assert.deepEqual(counts, [LIMITS.directDialNewMinuteCount, LIMITS.directDialNewHourCount])
  await clock.advance(60_000)
  dial.consider(office)
  await clock.advance(LIMITS.directDialLeastMs)
  assert.ok(dialled.length > LIMITS.directDialNewHourCount, 'an hour later it may tell new ones again')
  await tasks.stop()
  dial.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a new address is dialled soon, and those that failed wait for their turn', async () => {
  const { clock, tasks, dialled, state, dial } = setUp()
  dial.consider(office)
  await clock.advance(LIMITS.directDialLeastMs)
  state.addresses = [...state.addresses, '/ip4/192.0.2.2/tcp/1']
  dial.consider(office)
  await clock.advance(0)
  assert.deepEqual(dialled, ['/ip4/192.0.2.1/tcp/1', '/ip4/192.0.2.2/tcp/1'])
  await tasks.stop()
  dial.stop()
})
