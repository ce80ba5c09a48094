import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { CarrierError, openDatabase } from '../../../src/base/index.ts'
import type { Database } from '../../../src/base/index.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const V1 = 'CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, data BLOB) STRICT;'
const V2 = 'ALTER TABLE item ADD COLUMN extra TEXT; UPDATE item SET extra = \'migrated\';'

function makePath (): string {
  return join(makeTempDirectory('database'), 'test.db')
}

function open (path: string, migrations: readonly string[] = [V1]): Database {
  return openDatabase({ path, migrations, name: 'test store' })
}

test('values read back as they were written, NULL as undefined, and the file is the owner\'s alone', () => {
  const path = makePath()
  const database = open(path)
  assert.equal(database.run('INSERT INTO item (id, name, data) VALUES (?, ?, ?)', 1, 'a', Uint8Array.of(1, 2)), 1)
  database.run('INSERT INTO item (id, name) VALUES (?, ?)', 2, undefined)
  assert.deepEqual(database.all('SELECT * FROM item ORDER BY id'), [{ id: 1, name: 'a', data: Uint8Array.of(1, 2) }, { id: 2, name: undefined, data: undefined }])
  assert.deepEqual(database.get('SELECT name FROM item WHERE id = ?', 1), { name: 'a' })
  assert.equal(database.get('SELECT name FROM item WHERE id = ?', 3), undefined)
  assert.equal(database.run('DELETE FROM item'), 2)
  for (const suffix of ['', '-wal', '-shm']) assert.equal(statSync(path + suffix).mode & 0o077, 0, suffix)
  database.close()
})

test('a commit is written through before it returns', () => {
  const database = open(makePath())
  assert.deepEqual(database.get('PRAGMA synchronous'), { synchronous: 2 })
  assert.deepEqual(database.get('PRAGMA journal_mode'), { journal_mode: 'wal' })
  database.close()
})

test('a transaction happens as a whole or not at all, and nested ones belong to the outer', () => {
  const database = open(makePath())
  const count = (): unknown => database.get('SELECT count(*) AS n FROM item')?.['n']
  assert.equal(database.transaction(() => database.run('INSERT INTO item (id) VALUES (1)')), 1)
  assert.throws(() => {
    database.transaction(() => {
      database.run('INSERT INTO item (id) VALUES (2)')
      database.transaction(() => { database.run('INSERT INTO item (id) VALUES (3)') })
      throw new CarrierError('ERR_LIMIT', 'enough')
    })
  }, { code: 'ERR_LIMIT' })
  assert.equal(count(), 1)
  database.transaction(() => { database.run('INSERT INTO item (id) VALUES (4)') })
  assert.equal(count(), 2, 'the next transaction works')
  database.close()
})

test('I7: a store of the previous release is brought up to date, once', () => {
  const path = makePath()
  const old = open(path, [V1])
  old.run('INSERT INTO item (id, name) VALUES (1, ?)', 'kept')
  old.close()
  for (let round = 0; round < 2; round++) {
    const database = open(path, [V1, V2])
    assert.deepEqual(database.get('SELECT name, extra FROM item'), { name: 'kept', extra: 'migrated' })
    assert.deepEqual(database.get('PRAGMA user_version'), { user_version: 2 })
    database.close()
  }
})

test('I7: a migration that fails leaves the store as it was', () => {
  const path = makePath()
  const old = open(path, [V1])
  old.run('INSERT INTO item (id, name) VALUES (1, ?)', 'kept')
  old.close()
  assert.throws(() => open(path, [V1, V2, 'CREATE TABLE item (id INTEGER) STRICT;']), CarrierError)
  const again = open(path, [V1])
  assert.deepEqual(again.get('SELECT * FROM item'), { id: 1, name: 'kept', data: undefined })
  again.close()
})

test('I7: a store of a newer release is refused in a clear sentence and left as it is', () => {
  const path = makePath()
  open(path, [V1, V2]).close()
  const before = readFileSync(path)
  assert.throws(() => open(path, [V1]), { code: 'ERR_DATABASE_NEWER', message: /test store .* has schema 2, this release knows up to 1; it was left as it is/ })
  assert.ok(before.equals(readFileSync(path)))
})

test('I7: a damaged store is refused in a clear sentence and left as it is', () => {
  const damages: Array<[what: string, damage: (path: string) => void]> = [
    ['text', (path) => { writeFileSync(path, 'hello, this is certainly not a database') }],
    ['random bytes', (path) => { writeFileSync(path, Buffer.alloc(8192, 0xa7)) }],
    ['cut off', (path) => { truncateSync(path, 6000) }],
    ['a page overwritten', (path) => {
      const bytes = readFileSync(path)
      bytes.fill(0x5a, 4096, 8192)
      writeFileSync(path, bytes)
    }]
  ]
  for (const [what, damage] of damages) {
    const path = makePath()
    const database = open(path)
    for (let id = 0; id < 500; id++) database.run('INSERT INTO item (id, name) VALUES (?, ?)', id, 'x'.repeat(100))
    database.close()
    damage(path)
    const before = readFileSync(path)
    assert.throws(() => open(path), { code: 'ERR_DATABASE_CORRUPT', message: /test store [^]* is damaged [^]*left as it is/ }, what)
    assert.ok(before.equals(readFileSync(path)), `${what}: the file was changed`)
  }
})

test('I7: an empty file, as a crash during creation leaves it, becomes a new store', () => {
  const path = makePath()
  writeFileSync(path, '')
  const database = open(path)
  assert.deepEqual(database.all('SELECT * FROM item'), [])
  database.close()
})

test('I7: what was committed is there after the process was gone without closing', () => {
  const path = makePath()
  const database = open(path)
  database.run('INSERT INTO item (id) VALUES (1)')
  assert.ok(existsSync(`${path}-wal`))
  // the write-ahead log is still full, as after kill -9; another connection recovers it
  const other = new DatabaseSync(path)
  assert.equal(other.prepare('SELECT count(*) AS n FROM item').get()?.['n'], 1)
  other.close()
  database.close()
})

test('a closed store says so, and closing twice is fine', () => {
  const database = open(makePath())
  database.close()
  database.close()
  assert.throws(() => database.run('DELETE FROM item'), { code: 'ERR_CLOSED' })
  assert.throws(() => database.get('SELECT 1'), { code: 'ERR_CLOSED' })
  assert.throws(() => database.transaction(() => 1), { code: 'ERR_CLOSED' })
})

test('a store that cannot be opened for a reason other than damage does not send its owner to a backup', () => {
  const path = makePath()
  mkdirSync(path)
  assert.throws(() => open(path), { code: 'ERR_DATABASE', message: /test store .* cannot be opened .*check that the file/ })
})

test('a transaction that SQLite itself has undone fails with the cause, and the store goes on', () => {
  const database = open(makePath())
  const pageCount = Number(Object.values(database.get('PRAGMA page_count') ?? {})[0])
  database.get(`PRAGMA max_page_count = ${pageCount + 2}`)
  assert.throws(() => database.transaction(() => {
    for (let id = 0; id < 1000; id++) database.run('INSERT INTO item (id, name) VALUES (?, ?)', id, 'x'.repeat(1000))
  }), /full/)
  assert.equal(database.get('SELECT count(*) AS n FROM item')?.['n'], 0)
  database.transaction(() => { database.run('INSERT INTO item (id) VALUES (1)') })
  database.close()
})
