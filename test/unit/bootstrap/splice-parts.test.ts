import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createBufferPool } from '../../../src/base/buffer-pool.ts'
import { createByteRate } from '../../../src/bootstrap/byte-rate.ts'
import { createSpliceAccounts } from '../../../src/bootstrap/splice-accounts.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

test('I8: a pool gives no more than its bytes, and takes buffers back', () => {
  const pool = createBufferPool({ bufferBytes: 10, maxBytes: 25 })
  const [one, two] = [pool.take(), pool.take()]
  assert.equal(one?.length, 10)
  assert.equal(pool.take(), undefined)
  assert.equal(pool.usedBytes, 20)
  assert.ok(two !== undefined)
  pool.give(two)
  assert.equal(pool.take(), two)
})

test('a rate lets a burst pass, then holds, and wakes all who wait once there is room', async () => {
  const clock = createFakeClock()
  const rate = createByteRate(clock, { bytesPerSecond: () => 1_000_000 })
  const woken: string[] = []
  const wake = { one: () => { woken.push('one') }, two: () => { woken.push('two') } }
  assert.equal(rate.charge(100_000, wake.one), true)
  assert.equal(rate.charge(50_000, wake.one), false)
  assert.equal(rate.charge(50_000, wake.two), false)
  await clock.advance(99)
  assert.deepEqual(woken, [])
  assert.ok(clock.pendingTimerCount() <= 1, 'waiting is one timer')
  await clock.advance(10)
  assert.deepEqual(woken, ['one', 'two'])
  assert.equal(clock.pendingTimerCount(), 0)
  assert.equal(rate.charge(200_000, wake.one), false)
  rate.cancel(wake.one)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a new rate wakes those that waited for the old one', async () => {
  const settings = { bytesPerSecond: 1000 as number | undefined }
  const clock = createFakeClock()
  const accounts = createSpliceAccounts(clock, { bytesPerSecond: () => settings.bytesPerSecond, maxCount: 2 })
  let wokenCount = 0
  assert.equal(accounts.of('a').rate.charge(1_000_000, () => { wokenCount++ }), false)
  settings.bytesPerSecond = undefined
  accounts.refresh()
  assert.equal(wokenCount, 1)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('I8: accounts are bounded; the one that was not seen for longest goes', () => {
  const accounts = createSpliceAccounts(createFakeClock(), { bytesPerSecond: () => undefined, maxCount: 2 })
  accounts.of('a').sentBytes = 1
  accounts.of('b').sentBytes = 2
  accounts.of('a')
  accounts.of('c')
  assert.equal(accounts.size, 2)
  assert.equal(accounts.of('a').sentBytes, 1)
  assert.equal(accounts.of('a').rate.charge(1e12, () => {}), true, 'no rate, no bound')
})
