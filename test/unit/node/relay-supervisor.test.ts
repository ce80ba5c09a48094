import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { createFakeRelayWorld } from '../../support/fake-relay-host.ts'
import type { FakeRelayWorld, RelayMood } from '../../support/fake-relay-host.ts'

const STEP_MS = 100

/** Starts with a relay that is up for a minute. */
async function reservedWorld (random?: () => number): Promise<{ clock: FakeClock, world: FakeRelayWorld }> {
  const clock = createFakeClock()
  const world = createFakeRelayWorld(clock, random)
  await world.supervisor.start()
  await clock.advance(60_000)
  assert.ok(world.isReserved())
  return { clock, world }
}

/** Milliseconds from the end of an outage to the reservation. */
async function backAfterMs (outage: { mood: RelayMood, downMs: number, seed: number }): Promise<number> {
  let state = outage.seed
  const { clock, world } = await reservedWorld(() => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  })
  world.setMood(outage.mood)
  await clock.advance(outage.downMs)
  assert.ok(!world.isReserved())
  world.setMood('up')
  let waitedMs = 0
  for (; !world.isReserved(); waitedMs += STEP_MS) await clock.advance(STEP_MS)
  await world.supervisor.stop()
  assert.equal(clock.pendingTimerCount(), 0)
  return waitedMs
}

test('the only relay was down for 3 s and more: reserved at most 3 s after it is back', async () => {
  const waits = await Promise.all(Array.from({ length: 40 }, async (_item, seed) => backAfterMs({ mood: 'refused', downMs: 3_000 + seed * 937, seed: seed + 1 })))
  assert.ok(Math.max(...waits) <= 3_000, `${Math.max(...waits)} ms`)
})

test('the only relay was down for 10 min, refusing or silent: reserved at most 15 s after it is back', async () => {
  for (const mood of ['refused', 'silent'] as const) {
    const waits = await Promise.all(Array.from({ length: 20 }, async (_item, seed) => backAfterMs({ mood, downMs: 600_000 + seed * 711, seed: seed + 1 })))
    assert.ok(Math.max(...waits) <= 15_000, `${mood}: ${Math.max(...waits)} ms`)
    // attempts go on for ever, but not as often as at first
    assert.ok(Math.max(...waits) > 3_000, `${mood}: ${Math.max(...waits)} ms`)
  }
})

test('a network change: a relay that is down is tried at once, and attempts are quick again', async () => {
  const { clock, world } = await reservedWorld()
  world.setMood('refused')
  await clock.advance(300_000)
  const count = world.attemptsMs.length
  world.supervisor.networkChanged()
  await clock.advance(0)
  assert.equal(world.attemptsMs.length, count + 1)
  await clock.advance(2_000)
  assert.ok(world.attemptsMs.length >= count + 3, 'the delays of a long outage went on')
  await world.supervisor.stop()
})

test('a network change: a relay whose connection turns out to be dead is tried without a pause, once', async () => {
  const { clock, world } = await reservedWorld()
  world.supervisor.networkChanged()
  await clock.advance(LIMITS.networkCheckMs)
  const count = world.attemptsMs.length
  world.setMood('refused')
  await clock.advance(0)
  assert.equal(world.attemptsMs.length, count + 1)
  await clock.advance(LIMITS.relayRetryFirstMs / 2)
  assert.equal(world.attemptsMs.length, count + 1)
  await world.supervisor.stop()
})

test('a loss long after a network change waits as any other loss does', async () => {
  const { clock, world } = await reservedWorld()
  world.supervisor.networkChanged()
  await clock.advance(60_000)
  const count = world.attemptsMs.length
  world.setMood('refused')
  await clock.advance(LIMITS.relayRetryFirstMs / 2)
  assert.equal(world.attemptsMs.length, count)
  await clock.advance(LIMITS.relayRetryFirstMs)
  assert.ok(world.attemptsMs.length > count)
  await world.supervisor.stop()
})

test('a network change ends an attempt on the old network, but not one that has just begun', async () => {
  const { clock, world } = await reservedWorld()
  world.setMood('silent')
  await clock.advance(LIMITS.relayRetryFirstMs * 1.25 + LIMITS.networkCheckMs)
  const count = world.attemptsMs.length
  assert.equal(world.openAttemptCount(), 1)
  world.supervisor.networkChanged()
  await clock.advance(0)
  assert.equal(world.attemptsMs.length, count + 1)
  assert.equal(world.openAttemptCount(), 1)
  world.supervisor.networkChanged()
  await clock.advance(0)
  assert.equal(world.attemptsMs.length, count + 1)
  await world.supervisor.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('500 network changes in a row, with relays that are up, down and silent in turn, leave nothing behind', async () => {
  const { clock, world } = await reservedWorld()
  const held = (): object => ({
    timers: clock.pendingTimerCount(),
    atListener: world.listenerCount(),
    atConnections: world.connections.reduce((sum, { listenerCount }) => sum + listenerCount, 0),
    openConnections: world.connections.filter(({ status }) => status === 'open').length
  })
  const before = held()
  const moods: readonly RelayMood[] = ['up', 'refused', 'silent']
  for (let round = 0; round < 500; round++) {
    world.setMood(moods[Math.floor(round / 7) % 3] ?? 'up')
    world.supervisor.networkChanged()
    await clock.advance(LIMITS.networkWatchMs)
    assert.ok(world.openAttemptCount() <= 1)
  }
  // each change is worth one attempt, and the pauses in between at most two
  assert.ok(world.attemptsMs.length <= 3 * 500, `${world.attemptsMs.length} attempts`)
  world.setMood('up')
  await clock.advance(60_000)
  assert.ok(world.isReserved())
  assert.deepEqual(held(), before)
  await world.supervisor.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
