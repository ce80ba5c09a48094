import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, createLogger, createMetrics, silentLogger } from '../../../src/base/index.ts'
import type { Logger, LogLevel } from '../../../src/base/index.ts'

function makeLogger (level: LogLevel): { log: Logger, entries: () => Array<Record<string, unknown>>, text: () => string } {
  const lines: string[] = []
  return {
    log: createLogger('carrier:test', { level, sink: { write: (line) => { lines.push(line) } } }),
    entries: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>),
    text: () => lines.join('')
  }
}

test('a line is JSON with level, time, scope, message and facts', () => {
  const { log, entries } = makeLogger('info')
  log.info('session closed', { reason: 'idle' })
  log.child('carrier:test:part').warn('careful')
  log.debug('not at this level')
  const [first, second, ...others] = entries()
  assert.deepEqual({ ...first, time: 0 }, { level: 'info', time: 0, scope: 'carrier:test', msg: 'session closed', reason: 'idle' })
  assert.match(String(first?.['time']), /^\d{4}-\d\d-\d\dT/)
  assert.deepEqual([second?.['scope'], second?.['level']], ['carrier:test:part', 'warn'])
  assert.deepEqual(others, [])
})

test('secrets are never written, also inside an object', () => {
  const { log, text } = makeLogger('debug')
  const secret = 'TOPSECRET'
  for (const name of ['privateKey', 'secret', 'passphrase', 'token', 'nospam', 'address', 'seed']) {
    log.error('top', { [name]: secret })
    log.debug('inside', { thing: { [name]: secret } })
  }
  assert.equal(text().includes(secret), false)
  assert.equal(text().split('[redacted]').length - 1, 14)
})

test('an error is written with its code and its cause, without a stack', () => {
  const { log, entries, text } = makeLogger('info')
  log.error('failed', { err: new CarrierError('ERR_TIMEOUT', 'no answer', { cause: new Error('below') }) })
  log.error('failed', { err: 'a text' })
  const [first, second] = entries()
  assert.deepEqual(first?.['err'], { name: 'CarrierError', message: 'no answer', code: 'ERR_TIMEOUT', cause: 'below' })
  assert.equal(second?.['err'], 'a text')
  assert.equal(text().includes('log.test.ts'), false)
})

test('silence is silent', () => {
  const { log, text } = makeLogger('silent')
  log.error('x')
  silentLogger.child('y').error('x')
  assert.equal(text(), '')
})

test('metrics count, and asking twice for a name gives the same metric', async () => {
  const metrics = createMetrics()
  metrics.counter('carrier_test_things_total', 'Things.', ['kind']).add(2, { kind: 'a' })
  metrics.counter('carrier_test_things_total', 'Things.', ['kind']).add(1, { kind: 'a' })
  let level = 5
  metrics.gauge('carrier_test_level', 'Level.', [], () => level)
  metrics.gauge('carrier_test_open', 'Open.').set(4)
  metrics.gauge('carrier_test_open', 'Open.').add(-1)
  metrics.histogram('carrier_test_wait_seconds', 'Wait.', [1, 2]).observe(1.5)
  level = 7
  const text = await metrics.text()
  for (const line of ['carrier_test_things_total{kind="a"} 3', 'carrier_test_level 7', 'carrier_test_open 3', 'carrier_test_wait_seconds_bucket{le="2"} 1']) assert.ok(text.includes(line), line)
  assert.deepEqual(metrics.names().sort(), ['carrier_test_level', 'carrier_test_open', 'carrier_test_things_total', 'carrier_test_wait_seconds'])
  assert.equal((await createMetrics().text()).includes('carrier_test'), false, 'registries are separate')
})
