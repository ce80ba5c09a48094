/** SQLite as every store of ours uses it: WAL, versions, migrations in one transaction, refusal of what is broken or newer. */
import { existsSync } from 'node:fs'
import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { CarrierError, errorMessage } from './errors.ts'

/** A row as SQLite gives it, with NULL as undefined. */
export type Row = Record<string, string | number | bigint | Uint8Array | undefined>

/** What may be bound to a parameter; undefined is stored as NULL. */
export type SqlValue = string | number | bigint | Uint8Array | undefined

/** An open database. Synchronous: one small statement takes microseconds to a millisecond. */
export interface Database {
  /** Runs a statement that returns nothing; gives the number of changed rows. */
  run: (sql: string, ...values: SqlValue[]) => number
  /** All rows of a query. */
  all: (sql: string, ...values: SqlValue[]) => Row[]
  /** First row of a query. */
  get: (sql: string, ...values: SqlValue[]) => Row | undefined
  /** Runs `work` in one transaction (BEGIN IMMEDIATE); a throw rolls back. Nested calls join the outer one. */
  transaction: <T>(work: () => T) => T
  /** Idempotent. */
  close: () => void
}

/** How a database is opened. */
export interface OpenDatabaseInit {
  path: string
  /** One SQL script per schema version, oldest first; the schema version is their number. */
  migrations: readonly string[]
  /** FULL makes every commit durable before it returns (default). */
  synchronous?: 'FULL' | 'NORMAL'
  /** What the file is, for messages: "friend list". */
  name: string
}

/**
 * Opens or creates a database and brings it to the newest schema.
 *
 * @throws CarrierError ERR_DATABASE_CORRUPT when the file is damaged (it is left as it is),
 *   ERR_DATABASE_NEWER when a newer release wrote it, ERR_DATABASE when it cannot be opened for another reason
 */
export function openDatabase (init: OpenDatabaseInit): Database {
  const isNew = init.path === ':memory:' || !existsSync(init.path)
  let handle: DatabaseSync
  try {
    handle = new DatabaseSync(init.path)
  } catch (err) {
    throw openFailure(init, err)
  }
  try {
    if (!isNew) checkIntegrity(handle, init)
    handle.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${init.synchronous ?? 'FULL'}; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;`)
    if (isNew && init.path !== ':memory:') chmodSync(init.path, 0o600)
    migrate(handle, init)
  } catch (err) {
    handle.close()
    throw openFailure(init, err)
  }
  return wrap(handle)
}

function checkIntegrity (handle: DatabaseSync, init: OpenDatabaseInit): void {
  const row = handle.prepare('PRAGMA quick_check(1)').get()
  const answer = row === undefined ? 'no answer' : String(Object.values(row)[0])
  if (answer !== 'ok') throw corrupt(init, answer.replaceAll(/\s+/g, ' '))
}

/** Only what SQLite calls damage is damage: a full disk or a missing permission must not send anybody to a backup. */
function openFailure (init: OpenDatabaseInit, err: unknown): CarrierError {
  if (err instanceof CarrierError) return err
  const number = sqliteErrorNumber(err)
  if (number === SQLITE_CORRUPT || number === SQLITE_NOTADB) return corrupt(init, errorMessage(err), err)
  return new CarrierError('ERR_DATABASE',
    `the ${init.name} ${init.path} cannot be opened (${errorMessage(err)}); it was left as it is: check that the file and its directory belong to you, that the disk has room and that no other program holds it`, { cause: err })
}

function corrupt (init: OpenDatabaseInit, reason: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_DATABASE_CORRUPT',
    `the ${init.name} ${init.path} is damaged (${reason}); it was left as it is: restore it from a backup, or move it away to start empty`, cause === undefined ? {} : { cause })
}

const SQLITE_BUSY = 5
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26

/** The primary result code of an error of node:sqlite. */
function sqliteErrorNumber (err: unknown): number | undefined {
  return err instanceof Error && 'errcode' in err && typeof err.errcode === 'number' ? err.errcode & 0xff : undefined
}

/** True when another connection holds the file. */
export function isDatabaseBusy (err: unknown): boolean {
  return sqliteErrorNumber(err) === SQLITE_BUSY
}

/** Undoes the open transaction. SQLite has done so already after a full disk or an I/O error: a second time would hide the cause. */
function rollBack (handle: DatabaseSync): void {
  if (handle.isTransaction) handle.exec('ROLLBACK')
}

function migrate (handle: DatabaseSync, init: OpenDatabaseInit): void {
  const found = Number(Object.values(handle.prepare('PRAGMA user_version').get() ?? {})[0] ?? 0)
  const wanted = init.migrations.length
  if (found > wanted) {
    throw new CarrierError('ERR_DATABASE_NEWER',
      `the ${init.name} ${init.path} has schema ${found}, this release knows up to ${wanted}; it was left as it is: use the newer release of Carrier`)
  }
  if (found === wanted) return
  handle.exec('BEGIN IMMEDIATE')
  try {
    for (const script of init.migrations.slice(found)) handle.exec(script)
    handle.exec(`PRAGMA user_version = ${wanted}`)
    handle.exec('COMMIT')
  } catch (err) {
    rollBack(handle)
    throw err
  }
}

function wrap (handle: DatabaseSync): Database {
  const statements = new Map<string, ReturnType<DatabaseSync['prepare']>>()
  let isOpen = true
  let depth = 0

  function prepare (sql: string): ReturnType<DatabaseSync['prepare']> {
    if (!isOpen) throw new CarrierError('ERR_CLOSED', 'the database is closed')
    const known = statements.get(sql)
    if (known !== undefined) return known
    const statement = handle.prepare(sql)
    statements.set(sql, statement)
    return statement
  }

  return {
    run: (sql, ...values) => Number(prepare(sql).run(...values.map(toSql)).changes),
    all: (sql, ...values) => prepare(sql).all(...values.map(toSql)).map(fromSql),
    get: (sql, ...values) => {
      const row = prepare(sql).get(...values.map(toSql))
      return row === undefined ? undefined : fromSql(row)
    },
    transaction: (work) => {
      if (!isOpen) throw new CarrierError('ERR_CLOSED', 'the database is closed')
      if (depth > 0) return work()
      prepare('BEGIN IMMEDIATE').run()
      depth++
      try {
        const result = work()
        prepare('COMMIT').run()
        return result
      } catch (err) {
        rollBack(handle)
        throw err
      } finally {
        depth--
      }
    },
    close: () => {
      if (!isOpen) return
      isOpen = false
      statements.clear()
      handle.close()
    }
  }
}

function toSql (value: SqlValue): SQLInputValue {
  return value === undefined ? null : value
}

function fromSql (row: Record<string, SQLOutputValue>): Row {
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, value === null ? undefined : value]))
}
