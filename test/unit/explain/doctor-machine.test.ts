import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { acquireStateLock, LIMITS, openDatabase, systemClock } from '../../../src/base/index.ts'
import { openKeystore } from '../../../src/identity/index.ts'
import type { DoctorCheck } from '../../../src/carrier-types.ts'
import { checkAuditWritable, checkDataDirectory, checkMachine, isDirectoryLocked, routeFrom } from '../../../src/explain/doctor-machine.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

/** A data directory as a daemon leaves it. */
async function makeDataDirectory (): Promise<string> {
  const directory = makeTempDirectory('doctor')
  await openKeystore({ directory })
  for (const name of ['state', 'audit']) openDatabase({ path: join(directory, `${name}.db`), name, migrations: ['CREATE TABLE fact (text TEXT) STRICT;'] }).close()
  return directory
}

async function examine (directory: string): Promise<Map<string, DoctorCheck>> {
  return new Map((await checkDataDirectory(directory, systemClock)).map((check) => [check.name, check]))
}

test('this machine can be looked at', async () => {
  const checks = await checkMachine()
  assert.deepEqual(checks.map(({ name }) => name), ['runtime', 'memory', 'open files', 'routes'])
  assert.match(checks[0]?.text ?? '', /^Node \d+/)
  if (process.platform === 'linux') assert.match(checks[2]?.text ?? '', /^\d+ of \d+ in use/)
})

test('a sound data directory is well, and nothing stays behind in it', async () => {
  const directory = await makeDataDirectory()
  const before = readdirSync(directory)
  const checks = await examine(directory)
  assert.deepEqual([...checks.keys()], ['data directory', 'disk', 'identity', 'state', 'audit'])
  // how fast and how full this disk is, is nobody's business here
  for (const [name, { result, text }] of checks) assert.ok(result === 'ok' || (name === 'disk' && result === 'warn'), `${name}: ${text}`)
  assert.match(checks.get('disk')?.text ?? '', /free, a durable write took [\d.]+ ms$/)
  assert.match(checks.get('identity')?.text ?? '', /^did:key:z6Mk\w+, not sealed/)
  assert.match(checks.get('state')?.text ?? '', /sound$/)
  const kept = (names: readonly string[]): string[] => names.filter((name) => !/-(wal|shm)$/.test(name)).sort()
  assert.deepEqual(kept(readdirSync(directory)), kept(before))
})

test('a machine without a route is told so', async () => {
  // no broadcast without asking for it: the kernel refuses, as it does where there is no route
  assert.equal(await routeFrom('udp4', '255.255.255.255'), undefined)
  assert.equal(await routeFrom('udp4', '127.0.0.1'), '127.0.0.1')
})

test('a large database is not read through by the daemon that serves from it', async () => {
  const directory = await makeDataDirectory()
  const database = new DatabaseSync(join(directory, 'state.db'))
  database.exec('PRAGMA journal_mode = DELETE; CREATE TABLE blob (bytes BLOB) STRICT')
  database.prepare('INSERT INTO blob VALUES (zeroblob(?))').run(LIMITS.doctorRunningDatabaseBytes)
  database.close()
  const running = new Map((await checkDataDirectory(directory, systemClock, true)).map((check) => [check.name, check]))
  assert.match(running.get('state')?.text ?? '', /not read through: .* while the daemon is stopped$/)
  assert.match(running.get('audit')?.text ?? '', /sound$/)
  assert.match((await examine(directory)).get('state')?.text ?? '', /sound$/)
})

test('no secret of the identity is told', async () => {
  const directory = await makeDataDirectory()
  const { secrets } = JSON.parse(readFileSync(join(directory, 'identity.key'), 'utf8')) as { secrets: string }
  assert.ok(secrets.length > 40)
  assert.ok(!JSON.stringify([...await examine(directory)]).includes(secrets.slice(0, 12)))
})

test('what is wrong with a data directory is found, and left as it is', async (t) => {
  await t.test('it is missing, or a file', async () => {
    const directory = join(makeTempDirectory('doctor'), 'data')
    assert.equal((await examine(directory)).get('data directory')?.result, 'warn')
    writeFileSync(directory, '')
    assert.equal((await examine(directory)).get('data directory')?.result, 'fail')
    assert.equal((await examine(join(directory, 'below'))).get('data directory')?.result, 'fail')
  })

  await t.test('it belongs to something else', async () => {
    const directory = makeTempDirectory('doctor')
    writeFileSync(join(directory, 'thesis.txt'), 'mine')
    const checks = await examine(directory)
    assert.equal(checks.size, 1, 'nothing is tried in it')
    assert.match(checks.get('data directory')?.text ?? '', /holds other files/)
  })

  await t.test('others may enter it, and read the key', async () => {
    const directory = await makeDataDirectory()
    chmodSync(directory, 0o755)
    assert.equal((await examine(directory)).get('data directory')?.result, 'warn')
    chmodSync(join(directory, 'identity.key'), 0o644)
    const check = (await examine(directory)).get('data directory')
    assert.equal(check?.result, 'fail')
    assert.match(check?.text ?? '', /open identity\.key$/)
  })

  await t.test('its key file is damaged, or there is none', async () => {
    const directory = await makeDataDirectory()
    writeFileSync(join(directory, 'identity.key'), '{"half')
    assert.equal((await examine(directory)).get('identity')?.result, 'fail')
    assert.equal(readFileSync(join(directory, 'identity.key'), 'utf8'), '{"half')
    rmSync(join(directory, 'identity.key'))
    writeFileSync(join(directory, 'lock.db'), '')
    assert.equal((await examine(directory)).get('identity')?.result, 'warn')
  })

  await t.test('a database is damaged, or none yet', async () => {
    const directory = await makeDataDirectory()
    writeFileSync(join(directory, 'state.db'), Buffer.alloc(8192, 'not a database'))
    rmSync(join(directory, 'audit.db'))
    const checks = await examine(directory)
    assert.equal(checks.get('state')?.result, 'fail')
    assert.match(checks.get('state')?.advice ?? '', /backup/)
    assert.deepEqual([checks.get('audit')?.result, checks.get('audit')?.text], ['ok', 'there is none yet'])
  })

  await t.test('a page of a database is damaged', async () => {
    const directory = await makeDataDirectory()
    const path = join(directory, 'state.db')
    const database = new DatabaseSync(path)
    database.exec("PRAGMA journal_mode = DELETE; CREATE TABLE long (text TEXT UNIQUE) STRICT; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO long SELECT 'row ' || i || hex(randomblob(40)) FROM n")
    database.close()
    const bytes = readFileSync(path)
    bytes.fill(0xff, 3 * 4096, 5 * 4096)
    writeFileSync(path, bytes)
    assert.equal((await examine(directory)).get('state')?.result, 'fail')
  })
})

test('the lock tells whether a process holds the directory, and is left alone', async () => {
  const directory = await makeDataDirectory()
  assert.equal(isDirectoryLocked(directory), false)
  assert.equal(isDirectoryLocked(join(directory, 'absent')), false)
  const lock = acquireStateLock(directory)
  try {
    assert.equal(isDirectoryLocked(directory), true)
    assert.throws(() => acquireStateLock(directory), { code: 'ERR_ALREADY_RUNNING' })
  } finally {
    lock.release()
  }
  assert.equal(isDirectoryLocked(directory), false)
})

test('an audit log that another program holds, or that is no database, takes no entries', async () => {
  const directory = await makeDataDirectory()
  assert.equal(checkAuditWritable(directory).result, 'ok')
  const other = new DatabaseSync(join(directory, 'audit.db'))
  other.exec('BEGIN IMMEDIATE')
  const held = checkAuditWritable(directory)
  other.exec('ROLLBACK')
  other.close()
  assert.equal(held.result, 'fail')
  assert.match(held.text, /locked/)
  rmSync(join(directory, 'audit.db'))
  mkdirSync(join(directory, 'audit.db'))
  assert.equal(checkAuditWritable(directory).result, 'fail')
})
