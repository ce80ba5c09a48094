/** The file of the audit log: rows are added and never changed; bodies may be erased, leaves may not. */
import { openDatabase } from '../base/index.ts'
import type { Row } from '../base/index.ts'
import { decodeBody, decodeLeaf } from './entry-codec.ts'
import type { StoredAuditEntry } from './types.ts'

/** Schema of audit.db, one script per version. The triggers stop accidents, not a person with the file in hand. */
const MIGRATIONS = [`
  CREATE TABLE entry (seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL) STRICT;
  CREATE TABLE body (seq INTEGER PRIMARY KEY REFERENCES entry (seq), salt BLOB NOT NULL, data BLOB NOT NULL) STRICT;
  CREATE TRIGGER entry_is_never_updated BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
  CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
  CREATE TRIGGER entry_is_appended BEFORE INSERT ON entry
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entry)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
  CREATE TRIGGER body_is_never_updated BEFORE UPDATE ON body BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
`]

/** One entry as bytes. */
export interface EntryRow { seq: number, leaf: Uint8Array, salt: Uint8Array, body: Uint8Array }

/** The open file. */
export interface AuditStore {
  /** Number of the newest entry; 0 when there is none. */
  lastSeq: () => number
  /** Makes all rows durable in one transaction, or none. */
  append: (rows: readonly EntryRow[]) => void
  /** Newest first; `beforeSeq` is exclusive. */
  list: (limit: number, beforeSeq: number | undefined) => StoredAuditEntry[]
  close: () => void
}

/** Opens or creates the file. @throws CarrierError ERR_DATABASE_CORRUPT, ERR_DATABASE_NEWER */
export function openAuditStore (path: string): AuditStore {
  const database = openDatabase({ path, migrations: MIGRATIONS, synchronous: 'FULL', name: 'audit log' })
  return {
    lastSeq: () => Number(database.get('SELECT max(seq) AS last FROM entry')?.['last'] ?? 0),
    append: (rows) => {
      database.transaction(() => {
        for (const row of rows) {
          database.run('INSERT INTO entry (seq, leaf) VALUES (?, ?)', row.seq, row.leaf)
          database.run('INSERT INTO body (seq, salt, data) VALUES (?, ?, ?)', row.seq, row.salt, row.body)
        }
      })
    },
    list: (limit, beforeSeq) => database
      .all('SELECT entry.leaf AS leaf, body.data AS data FROM entry LEFT JOIN body USING (seq) WHERE entry.seq < ? ORDER BY entry.seq DESC LIMIT ?', beforeSeq ?? Number.MAX_SAFE_INTEGER, limit)
      .map(toStored),
    close: () => { database.close() }
  }
}

function toStored (row: Row): StoredAuditEntry {
  const { leaf, data } = row as { leaf: Uint8Array, data: Uint8Array | undefined }
  const { seq, at, event } = decodeLeaf(leaf)
  // a missing body was erased: what the leaf says stays
  return { seq, at, event, ...(data === undefined ? {} : decodeBody(data)) }
}
