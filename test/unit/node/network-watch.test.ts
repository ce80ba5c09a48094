import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection } from '@libp2p/interface'
import { createTaskOwner, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createConnectionCheck } from '../../../src/node/connection-check.ts'
import type { Interfaces } from '../../../src/node/listen-addresses.ts'
import { addressesOf, compareLooks, createNetworkWatch } from '../../../src/node/network-watch.ts'
import type { NetworkChange } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'

type Address = NonNullable<Interfaces[string]>[number]

function interfacesWith (...hosts: string[]): Interfaces {
  const address = (host: string): Address => ({ address: host, netmask: '', family: 'IPv4', mac: '', internal: host.startsWith('127.'), cidr: null })
  return { lo: [address('127.0.0.1')], eth0: hosts.map(address) }
}

function watchOf (clock: FakeClock, init: Interfaces): { changes: Array<NetworkChange['kind']>, become: (next: Interfaces | 'unknown') => void, start: () => void, stop: () => void } {
  const changes: Array<NetworkChange['kind']> = []
  let now: Interfaces | 'unknown' = init
  const watch = createNetworkWatch({
    clock,
    interfaces: () => {
      if (now === 'unknown') throw new Error('not permitted')
      return now
    },
    onChange: ({ kind }) => { changes.push(kind) }
  })
  return { changes, become: (next) => { now = next }, ...watch }
}

test('what happened between two looks', () => {
  const before = { wallMs: 1_000_000, monotonicMs: 500, addresses: 'a' }
  const after = (passedMs: number, wallMs: number, addresses = 'a'): ReturnType<typeof compareLooks> =>
    compareLooks(before, { wallMs: before.wallMs + wallMs, monotonicMs: before.monotonicMs + passedMs, addresses }, 1_000)
  assert.equal(after(1_000, 1_000), undefined)
  assert.equal(after(1_000, 1_000, 'b'), 'addresses')
  // the monotonic clock stood still in sleep
  assert.equal(after(1_000, 12_000), 'woke')
  assert.equal(after(1_000, 10_500), undefined)
  // it went on
  assert.equal(after(12_000, 12_000), 'woke')
  assert.equal(after(12_000, 12_000, 'b'), 'woke')
  assert.equal(after(9_000, 9_000), undefined)
  // the wall clock was set back: nobody slept
  assert.equal(after(1_000, -3_600_000), undefined)
})

test('addresses count whatever their order; those that lead to nobody do not count', () => {
  assert.equal(addressesOf(interfacesWith('192.168.1.5', '10.0.0.1')), addressesOf(interfacesWith('10.0.0.1', '192.168.1.5')))
  assert.equal(addressesOf(interfacesWith('10.0.0.1', 'fe80::1', 'FEBF::1', '169.254.7.7')), '10.0.0.1')
  assert.equal(addressesOf({ eth0: undefined }), '')
})

test('each change is told once, however long it lasts', async () => {
  const clock = createFakeClock()
  const watch = watchOf(clock, interfacesWith('10.0.0.1'))
  watch.start()
  watch.start()
  await clock.advance(10 * LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, [])
  watch.become(interfacesWith('10.0.0.2'))
  watch.become(interfacesWith('10.0.0.3'))
  await clock.advance(LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, ['addresses'])
  await clock.advance(10 * LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, ['addresses'])
  clock.setNow(clock.now() + 3_600_000)
  await clock.advance(10 * LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, ['addresses', 'woke'])
  watch.stop()
  watch.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('no address at all is no news; their return is, even when they are the same', async () => {
  const clock = createFakeClock()
  const watch = watchOf(clock, interfacesWith('10.0.0.1'))
  watch.start()
  watch.become(interfacesWith())
  await clock.advance(5 * LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, [])
  watch.become(interfacesWith('10.0.0.1'))
  await clock.advance(LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, ['addresses'])
  watch.stop()
})

test('a machine that does not tell its addresses still notices sleep', async () => {
  const clock = createFakeClock()
  const watch = watchOf(clock, interfacesWith('10.0.0.1'))
  watch.become('unknown')
  watch.start()
  await clock.advance(5 * LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, [])
  clock.setNow(clock.now() + 3_600_000)
  await clock.advance(LIMITS.networkWatchMs)
  assert.deepEqual(watch.changes, ['woke'])
  watch.stop()
})

test('500 changes in a row are told, with one timer', async () => {
  const clock = createFakeClock()
  const watch = watchOf(clock, interfacesWith('10.0.0.1'))
  watch.start()
  for (let round = 0; round < 500; round++) {
    watch.become(interfacesWith(`10.0.1.${round % 2}`))
    await clock.advance(LIMITS.networkWatchMs)
    assert.equal(clock.pendingTimerCount(), 1)
  }
  assert.equal(watch.changes.length, 500)
  watch.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

/** A connection that answers pings as told. */
function fakeConnection (): Connection & { failures: unknown[], pings: Array<PromiseWithResolvers<number>> } {
  const failures: unknown[] = []
  const connection = {
    status: 'open',
    remotePeer: 'peer',
    failures,
    pings: [],
    abort: (err: Error) => {
      failures.push(err)
      connection.status = 'closed'
    }
  }
  return connection as unknown as ReturnType<typeof fakeConnection>
}

test('a connection that is asked: silence ends it, an answer or a refusal does not, and it is asked once at a time', async () => {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const check = createConnectionCheck({
    clock,
    log: silentLogger,
    tasks: () => tasks,
    ping: async (connection, signal) => {
      const answer = Promise.withResolvers<number>()
      const { pings } = connection as ReturnType<typeof fakeConnection>
      pings.push(answer)
      signal.addEventListener('abort', () => { answer.reject(signal.reason) }, { once: true })
      return answer.promise
    }
  })
  const [silent, alive, refusing] = [fakeConnection(), fakeConnection(), fakeConnection()]
  for (let round = 0; round < 500; round++) for (const connection of [silent, alive, refusing]) check(connection, undefined)
  assert.deepEqual([silent, alive, refusing].map(({ pings }) => pings.length), [1, 1, 1])
  alive.pings[0]?.resolve(5)
  refusing.pings[0]?.reject(new Error('protocol not supported'))
  // a last look follows the end of the patience
  await clock.advance(LIMITS.networkCheckMs + 99)
  assert.deepEqual(silent.failures, [])
  await clock.advance(1)
  assert.deepEqual([silent, alive, refusing].map(({ failures }) => failures.length), [1, 0, 0])
  assert.equal(clock.pendingTimerCount(), 0)
  // a closed one is not asked, one that answered is asked again
  check(silent, undefined)
  check(alive, undefined)
  assert.deepEqual([silent, alive].map(({ pings }) => pings.length), [1, 2])
  await tasks.stop()
  assert.deepEqual(alive.failures, [])
  assert.equal(clock.pendingTimerCount(), 0)
})
