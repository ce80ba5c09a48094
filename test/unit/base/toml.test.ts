import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { stringify } from 'smol-toml'
import { parseToml } from '../../../src/base/toml.ts'

const SAMPLE = `# a comment = with ["traps"]
relays = [
  "/ip4/1.2.3.4/tcp/1", # first ]
  '/ip4/5.6.7.8/tcp/2',
]
listen = "none"
text = """
[not.a.table]
key = "no"
"""
inline = { a = 1, b = [ { c = 2 } ], 'q.r' = 3 }

[services.postgres]
target = "127.0.0.1:5432"
allow = ["alice"]

[services."with.dot"]
target = 1

[[relay]]
name = "a"
[[relay]]
name = "b"
[relay.more]
x.y = 1
`

test('every key has the line on which it stands', () => {
  const { lineOf } = parseToml(SAMPLE, 'x.toml')
  const expected: Array<[(string | number)[], number]> = [
    [['relays'], 2], [['relays', 0], 3], [['relays', 1], 4], [['listen'], 6], [['text'], 7], [['inline'], 11],
    [['inline', 'b', 0, 'c'], 11], [['inline', 'q.r'], 11], [['services'], 13], [['services', 'postgres'], 13],
    [['services', 'postgres', 'target'], 14], [['services', 'postgres', 'allow', 0], 15],
    [['services', 'with.dot'], 17], [['services', 'with.dot', 'target'], 18],
    [['relay', 0, 'name'], 21], [['relay', 1, 'name'], 23], [['relay', 1, 'more'], 24], [['relay', 1, 'more', 'x', 'y'], 25]
  ]
  assert.deepEqual(expected.map(([path]) => [path, lineOf(path)]), expected)
})

test('a path without a line of its own has that of its nearest ancestor', () => {
  const { lineOf } = parseToml(SAMPLE, 'x.toml')
  assert.equal(lineOf(['services', 'postgres', 'absent']), 13)
  assert.equal(lineOf(['absent']), 1)
  assert.equal(lineOf([]), 1)
})

test('a syntax error names file and line', () => {
  assert.throws(() => parseToml('a = 1\nb = = 2\n', 'conf.toml'), (err: Error & { code?: string }) => {
    assert.equal(err.code, 'ERR_CONFIG')
    assert.match(err.message, /^conf\.toml:2: /)
    assert.ok(!err.message.includes('\n'))
    return true
  })
  assert.throws(() => parseToml('a = 1\na = 2\n', 'conf.toml'), /^CarrierError: conf\.toml:2: /)
})

test('a byte order mark and CRLF line ends do no harm', () => {
  const { value, lineOf } = parseToml('\uFEFFa = 1\r\n\r\n[t]\r\nb = 2\r\n', 'x.toml')
  assert.deepEqual(JSON.parse(JSON.stringify(value)), { a: 1, t: { b: 2 } })
  assert.equal(lineOf(['t', 'b']), 4)
})

test('the scan ends and knows every top-level key of whatever the parser accepts', () => {
  const key = fc.string({ minLength: 1, maxLength: 8 }).filter((text) => text !== '__proto__')
  const leaf = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.array(fc.string(), { maxLength: 3 }))
  const table = fc.dictionary(key, fc.oneof(leaf, fc.dictionary(key, leaf, { maxKeys: 3 })), { maxKeys: 5 })
  fc.assert(fc.property(table, (value) => {
    const text = stringify(value)
    const { value: parsed, lineOf } = parseToml(text, 'x.toml')
    const rows = text.split('\n')
    for (const name of Object.keys(parsed)) {
      const row = rows[lineOf([name]) - 1] ?? ''
      const bare = /^[\w-]+$/.test(name)
      if (bare) assert.ok(row.includes(name), `${JSON.stringify(name)} is not on ${JSON.stringify(row)}`)
    }
  }))
})
