/** What a relay stores, logs and counts is what the operator's guide lists, and none of it names those who came. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { ROOT } from '../support/daemon.ts'
import { guideTables, logMessages, readTable } from '../support/guide-tables.ts'
import { useRelay } from '../support/relay-footprint.ts'
import type { Footprint } from '../support/relay-footprint.ts'

const guide = readFileSync(join(ROOT, 'deploy', 'GUIDE.md'), 'utf8')
const toml = readFileSync(join(ROOT, 'deploy', 'carrier-bootstrap.toml'), 'utf8')
/** What every line of the log has. */
const COMMON = ['level', 'time', 'scope', 'msg']
const HINT = 'run: node --conditions=carrier-source test/support/write-guide-main.ts'

let found: Footprint

before(async () => { found = await useRelay() }, { timeout: 240_000 })

/** Who of the visitors can be found in `bytes`, and by what. */
function tracesIn (bytes: Buffer): string[] {
  return found.visitors.flatMap(({ names, bytes: raw }) => [...names.filter((name) => bytes.includes(name)), ...raw.filter((key) => bytes.includes(key)).map((key) => `the bytes of key ${Buffer.from(key).toString('hex')}`)])
}

describe('what a relay leaves behind, after reservations, circuits, splices, refusals, reloads, a kill and an end', () => {
  test('its data directory has the files that the guide lists, and no others', () => {
    const listed = readTable(guide, 'stored').slice(2).flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''))
    assert.deepEqual(found.files, listed.sort())
  })

  test('its log has messages and fields of the guide\'s list, and the guide lists what the code can say', () => {
    assert.deepEqual(readTable(guide, 'logged'), guideTables(found.metrics).logged, HINT)
    const messages = logMessages()
    assert.ok(found.log.length >= 8, `${found.log.length} lines`)
    for (const line of found.log) {
      const known = messages.find(({ message }) => asPattern(message).test(String(line['msg'])))
      assert.ok(known !== undefined, JSON.stringify(line))
      assert.equal(line['level'], known.level)
      assert.deepEqual(Object.keys(line).filter((key) => !COMMON.includes(key) && !known.fields.includes(key)), [], JSON.stringify(line))
    }
    for (const expected of ['a new identity was made', 'listening', 'configuration read again', 'the new configuration is refused; the old one stays', 'stopped']) assert.ok(found.log.some(({ msg }) => msg === expected), expected)
  })

  test('its metrics are those of the guide, and none has a label that could name somebody', () => {
    assert.deepEqual(readTable(guide, 'counted'), guideTables(found.metrics).counted, HINT)
    const values = [...found.metrics.matchAll(/="([^"]*)"/g)].map((match) => match[1] ?? '')
    assert.ok(values.length >= 5)
    for (const value of values) assert.match(value, /^[A-Za-z_-]{1,40}$/, 'a word')
  })

  test('neither disk nor log nor metrics nor status names a visitor or where they came from', () => {
    assert.equal(found.visitors.length, 8)
    for (const [where, bytes] of Object.entries({ disk: found.contents, log: found.output, metrics: Buffer.from(found.metrics), status: Buffer.from(found.status) })) {
      assert.ok(bytes.length > 100, where)
      assert.deepEqual(tracesIn(bytes), [], where)
      assert.ok(!bytes.includes(found.visitorAddress), `${where}: ${found.visitorAddress}`)
    }
    const [{ names: [name = ''], bytes: [key] } = { names: [], bytes: [] }] = found.visitors
    assert.equal(tracesIn(Buffer.concat([Buffer.from(name), key ?? Buffer.alloc(0)])).length >= 2, true, 'the search finds what is there')
  })
})

describe('the guide and the settings', () => {
  test('every setting that the code knows is explained in carrier-bootstrap.toml', () => {
    const code = readFileSync(join(ROOT, 'src', 'bootstrap', 'config-file.ts'), 'utf8')
    const schemas = code.slice(code.indexOf('const QuotaSchema'), code.indexOf('function toSettings'))
    const keys = [...schemas.matchAll(/\b([a-z]+(?:_[a-z]+)*): (?:z\.|count\(|byteCount|list\b|parsed\(|QuotaSchema|AdmissionSchema)/g)].map((match) => match[1] ?? '')
    assert.ok(keys.length > 35, keys.join(' '))
    for (const key of new Set(keys)) assert.match(toml, new RegExp(`^# ?(\\[${key}\\]|\\[quotas\\.${key}\\]|${key} = )|^${key} = `, 'm'), key)
  })

  test('the guide names ports, commands and files that exist', () => {
    for (const port of ['4001', '4002', '4003', '9180']) assert.ok(guide.includes(`| ${port} TCP |`), port)
    const help = readFileSync(join(ROOT, 'bin', 'carrier-bootstrap.ts'), 'utf8')
    for (const [, command = ''] of guide.matchAll(/^\| `carrier-bootstrap (\w+)/gm)) assert.match(help, new RegExp(`case '${command}'`), command)
    for (const [, file = ''] of guide.matchAll(/`?(?:^|[ `])((?:deploy|test)\/[\w./-]+\w)/gm)) assert.ok(existsSync(join(ROOT, file)), file)
    assert.ok(readTable(guide, 'sizing').length >= 8, 'figures were measured')
  })
})

function asPattern (message: string): RegExp {
  return new RegExp(`^${message.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.+')}$`)
}
