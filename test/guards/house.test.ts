/** Manners of the house that no other tool checks. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { LIMIT_TABLE } from '../../src/base/limits.ts'
import { ERRORS } from '../../src/base/errors.ts'
import { registeredMetrics } from '../support/registered-metrics.ts'

const root = join(import.meta.dirname, '..', '..')

test('the tests run on a Node that the package supports', () => {
  assert.ok(Number(process.versions.node.split('.')[0]) >= 24)
})

test('CI runs exactly the test command of the README', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const ci = readFileSync(join(root, '.ci', 'run'), 'utf8')
  assert.match(readme, /^npm ci && npm run demo$/m)
  assert.match(readme, /^npm ci && npm test$/m)
  assert.match(ci, /^npm ci && npm test$/m)
})

test('I8: every limit of the code stands in ARCHITECTURE.md with its value, and no other', () => {
  const document = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
  const rows = new Map([...document.matchAll(/^\| `([a-z]\w+)` \| ([\d,]+) \| ([^|]+) \| ([^|]+) \|$/gm)].map((row) => [row[1], row]))
  for (const [name, limit] of Object.entries(LIMIT_TABLE)) {
    const row = rows.get(name)
    assert.ok(row !== undefined, `limit ${name} has no row in ARCHITECTURE.md`)
    assert.equal(row[2]?.replaceAll(',', ''), String(limit.value), `value of ${name}`)
    assert.equal(row[3]?.trim(), limit.unit, `unit of ${name}`)
    assert.equal(row[4]?.trim(), limit.overflow, `overflow of ${name}`)
    rows.delete(name)
  }
  assert.deepEqual([...rows.keys()], [], 'limits that the code does not have')
})

test('every error code stands in ARCHITECTURE.md with its exit code, HTTP status and wire number', () => {
  const document = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
  const rows = new Map([...document.matchAll(/^\| `(ERR_\w+)` \| (\d) \| (\d+) \| (\d+|–) \|/gm)].map((row) => [row[1], row]))
  for (const [code, facts] of Object.entries(ERRORS)) {
    const row = rows.get(code)
    assert.ok(row !== undefined, `${code} has no row in ARCHITECTURE.md`)
    assert.deepEqual([row[2], row[3], row[4]], [String(facts.exit), String(facts.http), facts.wire === 0 ? '–' : String(facts.wire)], code)
  }
  assert.equal(rows.size, Object.keys(ERRORS).length)
})

test('every metric of a device and of a relay stands in ARCHITECTURE.md, and no other', async () => {
  const document = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8')
  const documented = [...document.matchAll(/^\| `(carrier_\w+)` \| (.+) \|$/gm)].map((row) => ({ name: row[1], help: row[2] }))
  assert.deepEqual(documented, await registeredMetrics())
})
