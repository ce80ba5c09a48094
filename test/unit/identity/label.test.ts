import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLabel } from '../../../src/identity/index.ts'

test('a DNS label is kept in lower case', () => {
  for (const [text, label] of [['office', 'office'], ['Office', 'office'], ['a', 'a'], ['1', '1'], ['db-2', 'db-2'], ['a'.repeat(63), 'a'.repeat(63)]] as const) {
    assert.equal(parseLabel(text, 'friend label'), label)
  }
})

test('a name that is no DNS label, or that looks like a DID or an address, is refused with the reason', () => {
  const cases: Array<[text: string, reason: RegExp]> = [
    ['', /1 to 63/], ['a'.repeat(64), /1 to 63/], ['-a', /neither first nor last/], ['a-', /neither first nor last/], ['a_b', /only a-z/], ['a b', /only a-z/],
    ['a.b', /only a-z/], ['a/b', /only a-z/], ['bücher', /only a-z/], ['\u212aate', /only a-z/], ['a\n', /only a-z/],
    ['did-x', /reserved/], ['cr1abc', /reserved/], ['CR1abc', /reserved/], ['#a', /reserved/]
  ]
  for (const [text, reason] of cases) assert.throws(() => parseLabel(text, 'friend label'), { code: 'ERR_INVALID_ARGUMENT', message: reason }, JSON.stringify(text))
})

test('the message quotes only the beginning of an overlong name', () => {
  assert.throws(() => parseLabel('x'.repeat(1_000_000), 'friend label'), (err: Error) => err.message.length < 300)
})
