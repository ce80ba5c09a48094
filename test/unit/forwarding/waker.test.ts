import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createWaker } from '../../../src/forwarding/waker.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

describe('waker', () => {
  const never = new AbortController().signal

  it('waits for its delay, and leaves no timer', async () => {
    const clock = createFakeClock()
    const waker = createWaker(clock)
    let isDone = false
    const waiting = waker.wait(100, never).then(() => { isDone = true })
    await clock.advance(99)
    assert.equal(isDone, false)
    await clock.advance(1)
    await waiting
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('is cut short by a wake-up, also by one that came before', async () => {
    const clock = createFakeClock()
    const waker = createWaker(clock)
    const waiting = waker.wait(undefined, never)
    waker.wake()
    await waiting
    waker.wake()
    waker.wake()
    await waker.wait(undefined, never)
    waker.wake()
    waker.clear()
    let isDone = false
    const third = waker.wait(50, never).then(() => { isDone = true })
    await clock.advance(49)
    assert.equal(isDone, false, 'a cleared wake-up counts no more, and two count once')
    await clock.advance(1)
    await third
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('ends with its signal', async () => {
    const clock = createFakeClock()
    const stop = new AbortController()
    const waiting = createWaker(clock).wait(1000, stop.signal)
    stop.abort()
    await waiting
    assert.equal(clock.pendingTimerCount(), 0)
    await createWaker(clock).wait(undefined, stop.signal)
  })
})
