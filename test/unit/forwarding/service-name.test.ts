import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseServiceName, parseServiceReference } from '../../../src/forwarding/index.ts'

describe('names of services', () => {
  it('a DNS label is a name, stored in lower case', () => {
    assert.equal(parseServiceName('Postgres-15'), 'postgres-15')
    assert.equal(parseServiceName('x'.repeat(63)), 'x'.repeat(63))
  })

  it('reserved words and everything else are refused', () => {
    for (const name of ['list', 'Close', 'a/b', 'a.b', 'did-key', 'cr1x', '#x', '-a', 'a-', '', ' ', 'ä', 'x'.repeat(64)]) {
      assert.throws(() => parseServiceName(name), { code: 'ERR_INVALID_ARGUMENT' }, name)
    }
  })

  it('WHO/SERVICE is split at the last slash', () => {
    assert.deepEqual(parseServiceReference('office/postgres'), { who: 'office', service: 'postgres' })
    assert.deepEqual(parseServiceReference('did:web:example.org/a/b'), { who: 'did:web:example.org/a', service: 'b' })
    for (const text of ['office', '/postgres', 'office/', '', '/']) assert.throws(() => parseServiceReference(text), { code: 'ERR_INVALID_ARGUMENT' }, text)
    assert.throws(() => parseServiceReference('office'), { message: /write WHO\/SERVICE/ })
  })
})
