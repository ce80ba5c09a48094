import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { createMetrics, LIMITS } from '../../../src/base/index.ts'
import { createEventStreams } from '../../../src/control/server/event-streams.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

/** An answer whose reader reads when the test says so. A write after the end throws, as it would end the daemon. */
class FakeResponse extends EventEmitter {
  written: string[] = []
  writableLength = 0
  isEnded = false
  isDestroyed = false

  writeHead (): void {}

  write (text: string): void {
    if (this.isEnded) throw new Error('write after end')
    this.written.push(text)
    this.writableLength += text.length
  }

  end (text: string): void {
    this.write(text)
    this.isEnded = true
  }

  destroy (): void {
    this.isDestroyed = true
    this.emit('close')
  }

  /** The reader takes everything. */
  drain (): void { this.writableLength = 0 }
}

function setUp (): { response: FakeResponse, clock: ReturnType<typeof createFakeClock>, emit: (name: string, payload: unknown) => void, streams: ReturnType<typeof createEventStreams>, listenerCount: () => number } {
  const listeners = new Set<(name: string, payload: unknown) => void>()
  const clock = createFakeClock()
  const response = new FakeResponse()
  const streams = createEventStreams({
    clock,
    lagged: createMetrics().counter('carrier_test_total', 'test'),
    onEvent: (listener) => {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  })
  streams.open(response as unknown as ServerResponse)
  return { response, clock, streams, emit: (name, payload) => { for (const listener of [...listeners]) listener(name, payload) }, listenerCount: () => listeners.size }
}

test('a quiet stream stays visibly alive', async () => {
  const { response, clock } = setUp()
  await clock.advance(60_000)
  assert.deepEqual(response.written, [': carrier\n\n', ...Array.from({ length: 4 }, () => ': alive\n\n')])
})

test('I8: a stream that lags is told once, gets nothing more, and is cut when even that is not read', async () => {
  const { response, clock, streams, emit, listenerCount } = setUp()
  while (response.writableLength <= LIMITS.controlEventBufferBytes) emit('service:changed', { name: 'x'.repeat(10_000) })
  emit('service:changed', { name: 'one too many' })
  assert.equal(response.written.at(-1), 'event: control:lagged\ndata: {}\n\n')
  assert.equal(listenerCount(), 0)
  emit('service:changed', { name: 'nobody listens' })
  await clock.advance(14_000)
  assert.ok(response.isEnded && !response.isDestroyed)
  await clock.advance(60_000)
  assert.ok(response.isDestroyed)
  assert.equal(streams.count(), 0)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a reader that keeps up is never let go', async () => {
  const { response, emit } = setUp()
  for (let count = 0; count < 500; count++) {
    emit('service:changed', { name: 'x'.repeat(10_000) })
    response.drain()
  }
  assert.ok(!response.isEnded)
})

test('whoever leaves takes nothing along: no timer, no listener, no place', () => {
  const { response, clock, streams, listenerCount } = setUp()
  response.emit('close')
  assert.deepEqual([clock.pendingTimerCount(), streams.count(), listenerCount()], [0, 0, 0])
})
