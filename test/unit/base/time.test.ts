import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { abortable, backoffMs, sleep, startDeadline, systemClock } from '../../../src/base/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

test('sleep ends after its time and not before', async () => {
  const clock = createFakeClock()
  let isDone = false
  const done = sleep(clock, 1000).then(() => { isDone = true })
  await clock.advance(999)
  assert.equal(isDone, false)
  await clock.advance(1)
  await done
})

test('an aborted sleep ends at once with the reason and frees its timer', async () => {
  const clock = createFakeClock()
  const controller = new AbortController()
  const slept = sleep(clock, 1000, controller.signal)
  const reason = new Error('stop')
  controller.abort(reason)
  await assert.rejects(slept, reason)
  await assert.rejects(sleep(clock, 1000, controller.signal), reason)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a deadline fires ERR_TIMEOUT with its message when its time is over', async () => {
  const clock = createFakeClock()
  using deadline = startDeadline(clock, 1000, 'no answer from the peer')
  await clock.advance(999)
  assert.equal(deadline.signal.aborted, false)
  await clock.advance(1)
  assert.throws(() => { deadline.signal.throwIfAborted() }, { code: 'ERR_TIMEOUT', message: 'no answer from the peer' })
})

test('a deadline ends with its parent, also one that ended before, and frees its timer', () => {
  const clock = createFakeClock()
  const parent = new AbortController()
  const deadline = startDeadline(clock, 1000, 'late', parent.signal)
  const reason = new Error('cancelled')
  parent.abort(reason)
  assert.equal(deadline.signal.reason, reason)
  deadline[Symbol.dispose]()
  assert.equal(startDeadline(clock, 1000, 'late', parent.signal).signal.reason, reason)
  const fresh = new AbortController()
  const disposed = startDeadline(clock, 1000, 'late', fresh.signal)
  disposed[Symbol.dispose]()
  fresh.abort(reason)
  assert.equal(disposed.signal.aborted, false, 'a disposed deadline listens to nobody')
})

test('abortable gives the value, the failure, or the reason of the signal, whichever is first', async () => {
  const controller = new AbortController()
  assert.equal(await abortable(Promise.resolve(3)), 3)
  assert.equal(await abortable(Promise.resolve(3), controller.signal), 3)
  const failure = new Error('failed')
  await assert.rejects(abortable(Promise.reject(failure), controller.signal), failure)
  const never = abortable(new Promise<void>(() => {}), controller.signal)
  const reason = new Error('stop')
  controller.abort(reason)
  await assert.rejects(never, reason)
  await assert.rejects(abortable(Promise.resolve(3), controller.signal), reason)
})

test('a promise that fails after the abort hurts nobody', async () => {
  const controller = new AbortController()
  const { promise, reject } = Promise.withResolvers<void>()
  const waiting = abortable(promise, controller.signal)
  controller.abort(new Error('stop'))
  await assert.rejects(waiting, /stop/)
  // an unhandled rejection would fail this test file
  reject(new Error('too late'))
})

test('the delay between attempts grows to its maximum, within a quarter of jitter', () => {
  const init = { firstMs: 500, maxMs: 2000, factor: 2 }
  assert.deepEqual([0, 1, 2, 3, 1000].map((attempt) => backoffMs(init, attempt, () => 0.5)), [500, 1000, 2000, 2000, 2000])
  fc.assert(fc.property(fc.nat(1e6), fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (attempt, random) => {
    const delayMs = backoffMs(init, attempt, () => random)
    assert.ok(delayMs >= 375 && delayMs <= 2500, String(delayMs))
  }))
})

test('the system clock goes on, cancels, and takes delays that setTimeout cannot', async () => {
  const before = systemClock.monotonicMs()
  await new Promise<void>((resolve) => { systemClock.setTimer(resolve, 5) })
  assert.ok(systemClock.monotonicMs() > before)
  assert.ok(systemClock.now() > Date.UTC(2025, 0, 1))
  let hasFired = false
  const timer = systemClock.setTimer(() => { hasFired = true }, 2 ** 40)
  await new Promise<void>((resolve) => { systemClock.setTimer(resolve, 5) })
  assert.equal(hasFired, false)
  timer.cancel()
  timer.cancel()
})

test('the fake clock fires in order of time, lets work run between, and can be set', async () => {
  const clock = createFakeClock({ nowMs: 1_000_000 })
  const order: string[] = []
  clock.setTimer(() => { order.push(`b ${clock.now()}`) }, 20)
  clock.setTimer(() => {
    order.push(`a ${clock.now()}`)
    void Promise.resolve().then(() => { clock.setTimer(() => { order.push(`c ${clock.now()}`) }, 5) })
  }, 10)
  const cancelled = clock.setTimer(() => { order.push('never') }, 15)
  cancelled.cancel()
  await clock.advance(30)
  assert.deepEqual(order, ['a 1000010', 'c 1000015', 'b 1000020'])
  assert.equal(clock.monotonicMs(), 30)
  clock.setNow(5)
  assert.deepEqual([clock.now(), clock.monotonicMs()], [5, 30])
})

test('work that fails after its waiter has given up is nobody\'s unhandled rejection', async () => {
  const controller = new AbortController()
  controller.abort(new Error('stop'))
  const work = Promise.withResolvers<undefined>()
  await assert.rejects(abortable(work.promise, controller.signal), /stop/)
  // an unhandled rejection would fail this file
  work.reject(new Error('too late'))
  await new Promise<void>((resolve) => { setImmediate(resolve) })
})
