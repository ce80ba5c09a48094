import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDatabase } from '../../../src/base/index.ts'
import type { Database } from '../../../src/base/index.ts'
import { CLOCK_MIGRATIONS, CLOCK_SKEW_MS, createClockGuard, isExpired, isNotYetValid, judgeClock } from '../../../src/identity/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const BUILT = Date.UTC(2026, 10, 20)
const NOW = Date.UTC(2027, 5, 1)
const HOUR_MS = 3_600_000

function makeDatabase (): Database {
  return openDatabase({ path: ':memory:', migrations: CLOCK_MIGRATIONS, name: 'state' })
}

test('a clock that is later than everything known is believed', () => {
  assert.deepEqual(judgeClock({ nowMs: NOW, buildAt: BUILT, lastSeenAt: NOW - HOUR_MS }), { isSure: true, atMs: NOW })
  assert.deepEqual(judgeClock({ nowMs: NOW, buildAt: BUILT, lastSeenAt: NOW + CLOCK_SKEW_MS }), { isSure: true, atMs: NOW }, 'a small step back is a correction')
})

test('a clock earlier than the release or than the last stored time is unsure, and the reason says so', () => {
  const beforeRelease = judgeClock({ nowMs: BUILT - 1, buildAt: BUILT, lastSeenAt: 0 })
  assert.equal(beforeRelease.isSure, false)
  assert.match(beforeRelease.isSure ? '' : beforeRelease.reason, /earlier than this release/)
  const wentBack = judgeClock({ nowMs: NOW - HOUR_MS, buildAt: BUILT, lastSeenAt: NOW })
  assert.equal(wentBack.isSure, false)
  assert.match(wentBack.isSure ? '' : wentBack.reason, /earlier than when Carrier last ran/)
  assert.equal(wentBack.atMs, NOW)
})

test('with an unsure clock "not yet valid" is ignored and expiry counts from the last stored time', () => {
  const unsure = judgeClock({ nowMs: 0, buildAt: BUILT, lastSeenAt: NOW })
  assert.equal(isNotYetValid(unsure, NOW + HOUR_MS), false)
  assert.equal(isExpired(unsure, NOW - HOUR_MS), true, 'expired before the clock broke')
  assert.equal(isExpired(unsure, NOW + HOUR_MS), false)
})

test('with a sure clock both ends of a validity are judged with 60 s of skew', () => {
  const sure = judgeClock({ nowMs: NOW, buildAt: BUILT, lastSeenAt: 0 })
  assert.equal(isNotYetValid(sure, NOW + CLOCK_SKEW_MS), false)
  assert.equal(isNotYetValid(sure, NOW + CLOCK_SKEW_MS + 1), true)
  assert.equal(isExpired(sure, NOW - CLOCK_SKEW_MS), false)
  assert.equal(isExpired(sure, NOW - CLOCK_SKEW_MS - 1), true)
})

test('the guard remembers the time over a restart, and time goes on while the wall clock is wrong', async () => {
  const database = makeDatabase()
  const first = createFakeClock({ nowMs: NOW })
  const guard = createClockGuard({ clock: first, database }, { buildDateMs: BUILT })
  await guard.start()
  await first.advance(10 * 60_000)
  assert.equal(guard.isUnsure(), false)
  await guard.stop()
  assert.equal(first.pendingTimerCount(), 0)

  const second = createFakeClock({ nowMs: BUILT + 1 })
  const restarted = createClockGuard({ clock: second, database }, { buildDateMs: BUILT })
  assert.equal(restarted.isUnsure(), true)
  assert.equal(restarted.judge().atMs, NOW + 10 * 60_000)
  await restarted.start()
  await second.advance(HOUR_MS)
  assert.equal(restarted.judge().atMs, NOW + 10 * 60_000 + HOUR_MS)
  second.setNow(NOW + 2 * HOUR_MS)
  assert.deepEqual(restarted.judge(), { isSure: true, atMs: NOW + 2 * HOUR_MS }, 'a clock that was set is believed at once')
  await restarted.stop()
})

test('I7: a process that is killed has lost at most a minute of the stored time', async () => {
  const database = makeDatabase()
  const clock = createFakeClock({ nowMs: NOW })
  await createClockGuard({ clock, database }, { buildDateMs: BUILT }).start()
  await clock.advance(5 * 60_000 + 59_999)
  // no stop: the next process finds what is in the database
  const next = createClockGuard({ clock: createFakeClock({ nowMs: BUILT }), database }, { buildDateMs: BUILT })
  assert.equal(next.judge().atMs, NOW + 5 * 60_000)
})

test('a person can say that the clock is right now', async () => {
  const database = makeDatabase()
  const clock = createFakeClock({ nowMs: Date.UTC(2099, 0, 1) })
  const guard = createClockGuard({ clock, database }, { buildDateMs: BUILT })
  await guard.start()
  clock.setNow(NOW)
  assert.equal(guard.isUnsure(), true)
  guard.trustNow()
  assert.deepEqual(guard.judge(), { isSure: true, atMs: NOW })
  await guard.stop()
  assert.equal(createClockGuard({ clock, database }, { buildDateMs: BUILT }).isUnsure(), false)
})

test('a database that fails does not stop the guard', async () => {
  const database = makeDatabase()
  const clock = createFakeClock({ nowMs: NOW })
  const guard = createClockGuard({ clock, database }, { buildDateMs: BUILT })
  await guard.start()
  database.close()
  await clock.advance(120_000)
  assert.equal(guard.isUnsure(), false)
  assert.equal(clock.pendingTimerCount(), 1)
})
