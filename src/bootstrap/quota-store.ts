/** The bytes of the day in `usage.db`, so that a restart gives nobody a second quota. Source prefixes stand there as a MAC only. */
import { createHmac, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { LIMITS, createTaskOwner, errorMessage, openDatabase, sleep } from '../base/index.ts'
import type { Clock, Database, Logger, Startable } from '../base/index.ts'
import type { QuotaBook, QuotaMemory } from './quota-book.ts'

/** What the store uses. */
export interface QuotaStoreComponents { clock: Clock, log: Logger, book: Pick<QuotaBook, 'save' | 'setMemory'> }

/** The store; `start` opens it, `stop` saves and closes it. */
export type QuotaStore = Startable

/** Name of the file in the data directory. */
export const USAGE_FILE = 'usage.db'

/**
 * Creates the store. It saves once a minute and at its stop; days before today are deleted.
 *
 * `start` throws CarrierError ERR_DATABASE_CORRUPT, ERR_DATABASE_NEWER or ERR_DATABASE as `openDatabase` does.
 */
export function createQuotaStore ({ clock, log, book }: QuotaStoreComponents, init: { dataDirectory: string }): QuotaStore {
  let database: Database | undefined
  let tasks = createTaskOwner(log)
  let isFailing = false

  /** A full disk must not stop a relay: the bytes are counted on in memory. */
  function save (): void {
    try {
      // also when nobody sent anything since
      database?.run('DELETE FROM usage WHERE day <> ?', Math.floor(clock.now() / DAY_MS))
      book.save()
      isFailing = false
    } catch (err) {
      if (!isFailing) log.error('the bytes of the day cannot be stored; they are counted on in memory, and a restart forgets them', { reason: errorMessage(err) })
      isFailing = true
    }
  }

  async function saveOften (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(clock, LIMITS.relayQuotaStoreMs, signal)
      save()
    }
  }

  return {
    start: async () => {
      database = openDatabase({ path: join(init.dataDirectory, USAGE_FILE), migrations: MIGRATIONS, name: 'usage of the day', synchronous: 'NORMAL' })
      book.setMemory(createMemory(database))
      save()
      tasks = createTaskOwner(log)
      tasks.run('usage of the day', saveOften)
    },
    stop: async () => {
      await tasks.stop()
      if (database === undefined) return
      save()
      book.setMemory(undefined)
      database.close()
      database = undefined
    }
  }
}

function createMemory (database: Database): QuotaMemory {
  const secret = secretOf(database)
  // an address is personal data: what is stored of it is enough to know it again, and gone with its day
  const nameOf = (day: number, key: string): string => createHmac('sha256', secret).update(`${day} ${key}`).digest('hex').slice(0, 32)
  return {
    load: (day, key) => Number(database.get('SELECT bytes FROM usage WHERE day = ? AND account = ?', day, nameOf(day, key))?.['bytes'] ?? 0),
    save: (day, entries) => {
      database.transaction(() => {
        for (const { key, sentBytes } of entries) {
          database.run('INSERT INTO usage (day, account, bytes) VALUES (?, ?, ?) ON CONFLICT (day, account) DO UPDATE SET bytes = excluded.bytes', day, nameOf(day, key), sentBytes)
        }
        const count = Number(database.get('SELECT count(*) AS n FROM usage')?.['n'] ?? 0)
        if (count > MAX_ROWS) database.run('DELETE FROM usage WHERE account IN (SELECT account FROM usage ORDER BY bytes LIMIT ?)', count - MAX_ROWS)
      })
    }
  }
}

function secretOf (database: Database): Uint8Array {
  database.run('INSERT OR IGNORE INTO secret (id, value) VALUES (1, ?)', new Uint8Array(randomBytes(32)))
  return database.get('SELECT value FROM secret WHERE id = 1')?.['value'] as Uint8Array
}

const DAY_MS = 86_400_000
const MAX_ROWS = 4 * LIMITS.relayQuotaAccountCount

const MIGRATIONS = [`
  CREATE TABLE usage (day INTEGER NOT NULL, account TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (day, account)) STRICT;
  CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT;
`]
