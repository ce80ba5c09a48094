import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import test from 'node:test'
import type { MessageStream } from '@libp2p/interface'
import { errorCode, silentLogger } from '../../../src/base/index.ts'
import type { Clock } from '../../../src/base/index.ts'
import { createSilenceWatch } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

function fakeConnection (): { connection: MessageStream, hear: () => void, close: () => void, failures: unknown[] } {
  const events = new EventEmitter()
  const failures: unknown[] = []
  const connection = {
    addEventListener: (name: string, listener: () => void) => { events.on(name, listener) },
    abort: (err: Error) => { failures.push(err) }
  }
  return { connection: connection as unknown as MessageStream, hear: () => { events.emit('message') }, close: () => { events.emit('close') }, failures }
}

test('I8: a connection on which nothing is heard is ended once, one that speaks is left alone', async () => {
  const clock = createFakeClock()
  const watch = createSilenceWatch({ clock, log: silentLogger }, { silenceMs: 5_000, lookMs: 1_000 })
  const [silent, lively, closed] = [fakeConnection(), fakeConnection(), fakeConnection()]
  for (const { connection } of [silent, lively, closed]) watch.add(connection)
  closed.close()
  for (let second = 0; second < 10; second++) {
    await clock.advance(1_000)
    lively.hear()
  }
  assert.deepEqual(silent.failures.map(errorCode), ['ERR_LINK_LOST'])
  assert.deepEqual(lively.failures, [])
  assert.deepEqual(closed.failures, [])
  watch.stop()
  await clock.advance(60_000)
  assert.deepEqual(lively.failures, [])
  assert.equal(clock.pendingTimerCount(), 0)
})

test('while this process stands still nothing counts as silence', () => {
  let nowMs = 0
  let run = (): void => {}
  const clock: Clock = {
    now: () => nowMs,
    monotonicMs: () => nowMs,
    setTimer: (next) => {
      run = next
      return { cancel: () => {} }
    }
  }
  const watch = createSilenceWatch({ clock, log: silentLogger }, { silenceMs: 5_000, lookMs: 1_000 })
  const connection = fakeConnection()
  watch.add(connection.connection)
  for (const delayMs of [1_000, 1_000, 60_000, 1_000]) {
    nowMs += delayMs
    run()
  }
  assert.deepEqual(connection.failures, [])
  for (let second = 0; second < 3; second++) {
    nowMs += 1_000
    run()
  }
  assert.deepEqual(connection.failures.map(errorCode), ['ERR_LINK_LOST'])
  watch.stop()
})
