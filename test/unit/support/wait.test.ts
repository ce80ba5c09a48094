/** Waits that tests rely on. */
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import test from 'node:test'
import { freePort } from '../../support/free-port.ts'
import { untilDayLasts, untilStill } from '../../support/wait.ts'

test('a count stands still when it is the same for so many looks; zero is no beginning, and a rest that was too short none either', async () => {
  const seen = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 5]
  let lookCount = 0
  const value = await untilStill('it', () => {
    lookCount++
    return seen.shift() ?? 5
  }, 60)
  assert.equal(value, 5)
  assert.equal(lookCount, 12 + 3)
})

test('a free port is another one each time, and can be listened on; so can the one above, which a relay takes for splices', async () => {
  const ports = await Promise.all(Array.from({ length: 200 }, freePort))
  assert.equal(new Set(ports.flatMap((port) => [port, port + 1])).size, 2 * ports.length)
  for (const port of [ports[0] ?? 0, (ports[0] ?? 0) + 1]) {
    const server = createServer()
    await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(port, '127.0.0.1', resolve) })
    server.close()
  }
})

test('in the middle of a day nothing is waited for', async (t) => {
  t.mock.timers.enable({ apis: ['Date', 'setTimeout'], now: Date.UTC(2027, 0, 2, 12) })
  await untilDayLasts(60_000)
  t.mock.timers.setTime(Date.UTC(2027, 0, 2, 23, 59, 30))
  let isOver = false
  const waiting = untilDayLasts(60_000).then(() => { isOver = true })
  t.mock.timers.tick(30_500)
  await new Promise((resolve) => { setImmediate(resolve) })
  assert.equal(isOver, false)
  t.mock.timers.tick(600)
  await waiting
  assert.equal(isOver, true)
})
