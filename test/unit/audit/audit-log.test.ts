import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { AUDIT_FILE_NAME, createAuditLog } from '../../../src/audit/index.ts'
import type { AuditEntry, AuditLog } from '../../../src/audit/index.ts'
import { createLogger, createMetrics, LIMITS } from '../../../src/base/index.ts'
import type { Metrics } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const ANNA = 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp' as Did
const OPEN: AuditEntry = { event: 'conn.open', sessionId: new Uint8Array(16).fill(4), direction: 'in', device: ANNA, owner: ANNA, service: 'db', decision: 'allow', path: 'direct' }
const DENY = { event: 'conn.deny', direction: 'in', device: ANNA, decision: 'deny', why: 'ERR_NOT_AVAILABLE' } as const
const MINUTE_MS = 60_000

interface Setup { audit: AuditLog, clock: FakeClock, metrics: Metrics, lines: string[], directory: string, path: string }

async function makeLog (directory = makeTempDirectory('audit')): Promise<Setup> {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const lines: string[] = []
  const log = createLogger('carrier:audit', { level: 'debug', sink: { write: (line) => { lines.push(line) } } })
  const audit = createAuditLog({ clock, log, metrics }, { directory })
  await audit.start()
  return { audit, clock, metrics, lines, directory, path: join(directory, AUDIT_FILE_NAME) }
}

/** Keeps every other connection from writing until `release`. */
function blockWrites (path: string): { release: () => void } {
  const other = new DatabaseSync(path)
  other.exec('BEGIN IMMEDIATE')
  return { release: () => { other.close() } }
}

test('I6: an entry is in the file when record resolves, with all its facts', async () => {
  const { audit, clock, path } = await makeLog()
  await audit.record(OPEN)
  const reader = new DatabaseSync(path, { readOnly: true })
  assert.equal(reader.prepare('SELECT count(*) AS n FROM entry').get()?.['n'], 1)
  reader.close()
  assert.deepEqual(audit.list(), [{ seq: 1, at: clock.now(), ...OPEN }])
  assert.equal(statSync(path).mode & 0o777, 0o600)
  await audit.stop()
})

test('I6: when the log cannot be written, record fails and the caller must refuse; afterwards it works again without a gap', async () => {
  const { audit, path, lines, metrics } = await makeLog()
  await audit.record(OPEN)
  const block = blockWrites(path)
  for (let attempt = 0; attempt < 3; attempt++) await assert.rejects(audit.record(OPEN), { name: 'CarrierError', code: 'ERR_AUDIT', message: /check the disk/ })
  block.release()
  await audit.record(OPEN)
  assert.deepEqual(audit.list().map((entry) => entry.seq), [2, 1])
  assert.equal(lines.filter((line) => line.includes('cannot be written; accesses are refused')).length, 1, 'one line for one outage')
  assert.ok(lines.some((line) => line.includes('can be written again')))
  assert.match(await metrics.text(), /carrier_audit_failed_entries_total 3/)
  await audit.stop()
})

test('I6: before start and after stop every record is refused', async () => {
  const { audit } = await makeLog()
  await audit.stop()
  await audit.stop()
  await assert.rejects(audit.record(OPEN), { code: 'ERR_AUDIT' })
  assert.throws(() => audit.list(), { code: 'ERR_AUDIT' })
  audit.recordRefusal(DENY)
  audit.countStranger('12D3KooW')
})

test('500 entries that arrive together share one commit', async () => {
  const { audit, metrics } = await makeLog()
  await Promise.all(Array.from({ length: 500 }, async (_, index) => { await audit.record({ ...OPEN, count: index }) }))
  assert.match(await metrics.text(), /carrier_audit_commit_seconds_count 1\n/)
  assert.deepEqual(audit.list({ limit: 500 }).map((entry) => entry.count), Array.from({ length: 500 }, (_, index) => 499 - index))
  await audit.stop()
})

test('I6: stop makes what was recorded before it durable', async () => {
  const { audit, directory } = await makeLog()
  const recorded = audit.record(OPEN)
  audit.countStranger('12D3KooWstranger')
  await audit.stop()
  await recorded
  const again = await makeLog(directory)
  assert.deepEqual(again.audit.list().map((entry) => entry.event), ['strangers', 'conn.open'])
  await again.audit.record(OPEN)
  assert.equal(again.audit.list({ limit: 1 })[0]?.seq, 3, 'numbers go on after a restart')
  await again.audit.stop()
})

test('I6: refusals of a friend are stored singly up to the limit, the rest of the minute in one entry', async () => {
  const { audit, clock } = await makeLog()
  const limit = LIMITS.auditRefusalsPerMinute
  for (let index = 0; index < limit + 40; index++) audit.recordRefusal(DENY)
  await clock.advance(MINUTE_MS)
  const entries = audit.list({ limit: 1000 })
  assert.equal(entries.length, limit + 1)
  assert.deepEqual({ ...entries[0], at: 0 }, { seq: limit + 1, at: 0, event: 'conn.deny', direction: 'in', device: ANNA, decision: 'deny', why: 'ERR_LIMIT', count: 40 })
  audit.recordRefusal(DENY)
  await clock.advance(MINUTE_MS)
  assert.equal(audit.list({ limit: 1000 }).length, limit + 2, 'the next minute has room again')
  await audit.stop()
})

test('I6, I8: a flood of strangers is one entry a minute and writes nothing else', async () => {
  const { audit, clock, metrics } = await makeLog()
  for (let minute = 0; minute < 2; minute++) {
    for (let index = 0; index < 100_000; index++) audit.countStranger(`12D3KooW${index}`)
    await clock.advance(MINUTE_MS)
  }
  await clock.advance(10 * MINUTE_MS)
  assert.deepEqual(audit.list().map(({ event, count, sample }) => [event, count, sample?.length]), [['strangers', 100_000, 5], ['strangers', 100_000, 5]])
  assert.match(await metrics.text(), /carrier_audit_stranger_refusals_total 200000/)
  await audit.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('I6: counts that could not be written wait for the next minute', async () => {
  const { audit, clock, path } = await makeLog()
  audit.countStranger('12D3KooWfirst')
  const block = blockWrites(path)
  await clock.advance(MINUTE_MS)
  audit.countStranger('12D3KooWsecond')
  block.release()
  await clock.advance(MINUTE_MS)
  assert.deepEqual(audit.list().map(({ count, sample }) => [count, sample]), [[2, ['12D3KooWfirst', '12D3KooWsecond']]])
  await audit.stop()
})

test('I8: an entry over the size limit is refused, the others of its turn are not', async () => {
  const { audit } = await makeLog()
  const results = await Promise.allSettled([audit.record(OPEN), audit.record({ ...OPEN, why: 'x'.repeat(LIMITS.auditBodyBytes) }), audit.record({ ...OPEN, count: NaN }), audit.record(OPEN)])
  assert.deepEqual(results.map((result) => result.status), ['fulfilled', 'rejected', 'rejected', 'fulfilled'])
  for (const result of results) if (result.status === 'rejected') assert.equal((result.reason as { code: string }).code, 'ERR_AUDIT')
  assert.equal(audit.list().length, 2)
  await audit.stop()
})

test('I8: more entries in one turn than the limit are refused, those within it are kept', async () => {
  const { audit } = await makeLog()
  const all = Array.from({ length: LIMITS.auditPendingCount + 5 }, async () => { await audit.record(OPEN) })
  const results = await Promise.allSettled(all)
  assert.equal(results.filter((result) => result.status === 'rejected').length, 5)
  assert.equal(audit.list({ limit: 1 })[0]?.seq, LIMITS.auditPendingCount)
  await audit.stop()
})

test('list gives the newest first, in pages', async () => {
  const { audit } = await makeLog()
  for (let index = 1; index <= 5; index++) await audit.record({ ...OPEN, count: index })
  assert.deepEqual(audit.list({ limit: 2 }).map((entry) => entry.seq), [5, 4])
  assert.deepEqual(audit.list({ limit: 2, beforeSeq: 4 }).map((entry) => entry.seq), [3, 2])
  assert.deepEqual(audit.list({ beforeSeq: 1 }), [])
  assert.deepEqual(audit.list({ limit: -1 }), [])
  assert.equal(audit.list({ limit: 1e9 }).length, 5)
  await audit.stop()
})

test('entries cannot be changed, removed or put out of order; a body can be erased and its entry stays', async () => {
  const { audit, path } = await makeLog()
  await audit.record(OPEN)
  await audit.record(OPEN)
  const other = new DatabaseSync(path)
  for (const sql of ['UPDATE entry SET leaf = x\'00\'', 'DELETE FROM entry WHERE seq = 2', 'INSERT INTO entry VALUES (4, x\'00\')', 'INSERT INTO entry VALUES (0, x\'00\')', 'UPDATE body SET data = x\'00\'', 'INSERT OR REPLACE INTO entry VALUES (2, x\'00\')']) {
    assert.throws(() => { other.exec(sql) }, /append-only/, sql)
  }
  other.exec('DELETE FROM body WHERE seq = 1')
  other.close()
  const erased = audit.list()[1]
  assert.deepEqual({ ...erased, at: 0 }, { seq: 1, at: 0, event: 'conn.open' })
  await audit.record(OPEN)
  await audit.stop()
})

test('I7: a damaged log stops the start with a clear message and is left as it is', async () => {
  const directory = makeTempDirectory('audit')
  const path = join(directory, AUDIT_FILE_NAME)
  writeFileSync(path, 'this is no database, and nobody may overwrite it')
  await assert.rejects(makeLog(directory), { code: 'ERR_DATABASE_CORRUPT', message: /audit log .*left as it is/ })
  assert.equal(statSync(path).size, 48)
})

test('I7: a log of a newer release is refused', async () => {
  const { audit, directory, path } = await makeLog()
  await audit.stop()
  const other = new DatabaseSync(path)
  other.exec('PRAGMA user_version = 99')
  other.close()
  await assert.rejects(makeLog(directory), { code: 'ERR_DATABASE_NEWER' })
})

test('I6, I7: after kill -9 at any instant the log opens and every promised entry is in it', async () => {
  for (let round = 0; round < 3; round++) {
    const directory = makeTempDirectory('audit-kill')
    const main = join(import.meta.dirname, '..', '..', 'support', 'audit-writer-main.ts')
    const child = spawn(process.execPath, ['--conditions=carrier-source', main, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      if (output.split('\n').length > 20 + round * 13) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const promised = Number(output.trimEnd().split('\n').at(-1))
    assert.ok(promised > 50)
    const { audit } = await makeLog(directory)
    const last = audit.list({ limit: 1 })[0]
    assert.ok((last?.seq ?? 0) >= promised, `promised ${promised}, found ${last?.seq}`)
    assert.equal(last?.count, last?.seq)
    await audit.record(OPEN)
    await audit.stop()
  }
})
