import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, formatMs, safeLines, safeText, shortDid, table, toJson } from '../../../bin/output.ts'

const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u

test('no text of others can steer a terminal', () => {
  assert.equal(safeText('\u001b[2J\u001b]0;x\u0007red\u202Egnp'), '\\u{1b}[2J\\u{1b}]0;x\\u{7}red\\u{202e}gnp')
  assert.equal(safeText('two\nlines\tand \u009b31m'), 'two\\nlines\\tand \\u{9b}31m')
  assert.equal(safeText('grüße 你好 👋'), 'grüße 你好 👋')
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !UNSAFE.test(safeText(text))))
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !UNSAFE.test(safeLines(text).replaceAll('\n', ''))))
})

test('JSON is safe for a terminal too, and means the same', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => {
    const json = toJson({ text })
    assert.ok(!UNSAFE.test(json))
    assert.deepEqual(JSON.parse(json), { text: text.toWellFormed() === text ? text : (JSON.parse(JSON.stringify(text)) as string) })
  }))
})

test('a table has one line per row whatever its cells hold', () => {
  assert.equal(table(['A', 'LONG'], [['x', 'y'], ['line\nbreak', '']]), 'A            LONG\nx            y\nline\\nbreak')
  assert.equal(table(['A'], []), '')
})

test('spans of time and DIDs are short', () => {
  assert.deepEqual([850, 12_000, 180_000, 18_000_000, 172_800_000].map(formatDuration), ['850 ms', '12 s', '3 min', '5 h', '2 days'])
  assert.deepEqual([1.234, 41.6].map(formatMs), ['1.2 ms', '42 ms'])
  assert.equal(shortDid('did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH'), 'did:key:z6MkpTHR…sdvktH')
})
