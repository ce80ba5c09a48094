/** Starting and stopping a whole Carrier: failures and calls at the wrong moment leave nothing open. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { systemClock } from '../../src/base/index.ts'
import type { Clock, Timer } from '../../src/base/index.ts'
import { createCarrier, errorCode } from '../../src/index.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'

test('a start that fails can be stopped, frees everything, and the next one works', async () => {
  const dataDirectory = makeTempDirectory('lifecycle')
  const first = await createCarrier({ dataDirectory })
  await first.start()
  await first.stop()
  const path = join(dataDirectory, 'audit.db')
  const good = readFileSync(path)
  writeFileSync(path, 'not a database at all')

  const broken = await createCarrier({ dataDirectory })
  await assert.rejects(broken.start(), (err) => errorCode(err) === 'ERR_DATABASE_CORRUPT')
  await assert.rejects(broken.start(), (err) => errorCode(err) === 'ERR_DATABASE_CORRUPT', 'the cause again, not a consequence')
  await broken.stop()
  await assert.rejects(broken.start(), (err) => errorCode(err) === 'ERR_CLOSED')
  assert.equal(readFileSync(path, 'utf8'), 'not a database at all')

  writeFileSync(path, good)
  const next = await createCarrier({ dataDirectory })
  await next.start()
  assert.equal(next.audit.list().filter((entry) => entry.event === 'node.start').length, 2)
  await next.stop()
})

test('a stop during the start waits for it and leaves nothing running; all who stop wait for the end', async () => {
  const dataDirectory = makeTempDirectory('lifecycle')
  const carrier = await createCarrier({ dataDirectory, listen: 'lan' })
  const started = carrier.start()
  await Promise.all([carrier.stop(), carrier.stop(), started])
  assert.deepEqual(carrier.node.listenAddresses(), [])
  assert.throws(() => carrier.audit.list(), (err) => errorCode(err) === 'ERR_AUDIT')
  const next = await createCarrier({ dataDirectory })
  await next.stop()
})

test('a second start is no second Carrier', async () => {
  const carrier = await createCarrier({ dataDirectory: makeTempDirectory('lifecycle') })
  await Promise.all([carrier.start(), carrier.start()])
  await carrier.start()
  assert.equal(carrier.audit.list().length, 1)
  await carrier.stop()
})

test('a clock may be an object of a class', async () => {
  class OwnClock implements Clock {
    now (): number { return systemClock.now() }
    monotonicMs (): number { return systemClock.monotonicMs() }
    setTimer (run: () => void, delayMs: number): Timer { return systemClock.setTimer(run, delayMs) }
  }
  const carrier = await createCarrier({ dataDirectory: makeTempDirectory('lifecycle'), clock: new OwnClock() })
  await carrier.start()
  await carrier.stop()
})
