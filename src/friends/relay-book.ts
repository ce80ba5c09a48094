/** What is known of the relays of others, and the secret under which ours can be looked up: tables of state.db and their copy in memory. */
import { randomBytes } from 'node:crypto'
import { LIMITS } from '../base/index.ts'
import type { Database, Row } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { LOOK_UP_SECRET_BYTES } from '../node/index.ts'
import type { LookUpSecret, RelayRecord, RelayRecordBook } from '../node/index.ts'

/** The book. */
export interface RelayBook extends RelayRecordBook {
  /**
   * What friends are given so that they can look us up. Losing it does no harm: another one is made, and told to them. So it is
   * when somebody leaves the friend list who may have been told it, by a trigger of the table: the old one leads nowhere any more.
   */
  ownSecret: () => Uint8Array
  /** A number above all that were given out before, also over restarts and when the clock goes back. */
  nextSeq: (nowMs: number) => number
  /** The secret that a device told us. */
  keepSecret: (device: Did, secret: Uint8Array) => void
  /** Forgets what is known of those who are neither friends nor asked, nor ask us. */
  prune: () => void
}

interface Entry { record: RelayRecord | undefined, secret: Uint8Array | undefined }

/** Opens the book over its tables; they stay the caller's. */
export function createRelayBook (database: Database): RelayBook {
  const entries = new Map<Did, Entry>()

  function load (): void {
    entries.clear()
    for (const row of database.all('SELECT * FROM device_relays')) entries.set(row['device_did'] as Did, toEntry(row))
  }

  function self (): { secret: Uint8Array, seq: number } {
    const row = database.get('SELECT look_up_secret, seq FROM relay_self WHERE id = 1')
    const [known, seq] = [row?.['look_up_secret'] as Uint8Array | undefined, Number(row?.['seq'] ?? 0)]
    if (known !== undefined) return { secret: known, seq }
    const secret = new Uint8Array(randomBytes(LOOK_UP_SECRET_BYTES))
    database.run('INSERT INTO relay_self (id, look_up_secret, seq) VALUES (1, ?, 0) ON CONFLICT (id) DO UPDATE SET look_up_secret = excluded.look_up_secret', secret)
    return { secret, seq }
  }

  function nospamOf (device: Did): Uint8Array | undefined {
    return database.get("SELECT nospam FROM friend_outbox WHERE owner_did = ? AND kind = 'request'", device)?.['nospam'] as Uint8Array | undefined
  }

  load()
  return {
    recall: (device) => entries.get(device)?.record,
    secretsOf: (device): LookUpSecret[] => {
      const secret = entries.get(device)?.secret
      const nospam = nospamOf(device)
      return [...(secret === undefined ? [] : [{ kind: 'friend', secret } as const]), ...(nospam === undefined ? [] : [{ kind: 'address', nospam } as const])]
    },
    keep: (record) => {
      const { device, seq, expiresAtMs, relays } = record
      const known = entries.get(device)
      // the same record may have been shortened by a clock that was wrong when it was verified first
      if (known?.record !== undefined && (known.record.seq > seq || (known.record.seq === seq && known.record.expiresAtMs >= expiresAtMs))) return
      database.run(`INSERT INTO device_relays (device_did, seq, expires_at, relays) VALUES (?, ?, ?, ?)
        ON CONFLICT (device_did) DO UPDATE SET seq = excluded.seq, expires_at = excluded.expires_at, relays = excluded.relays`,
      device, seq, expiresAtMs, relays.join(' '))
      entries.set(device, { record, secret: known?.secret })
    },
    keepSecret: (device, secret) => {
      const known = entries.get(device)
      if (known?.secret !== undefined && Buffer.compare(known.secret, secret) === 0) return
      database.run('INSERT INTO device_relays (device_did, look_up_secret) VALUES (?, ?) ON CONFLICT (device_did) DO UPDATE SET look_up_secret = excluded.look_up_secret', device, secret)
      entries.set(device, { record: known?.record, secret: new Uint8Array(secret) })
    },
    ownSecret: () => self().secret,
    nextSeq: (nowMs) => {
      const seq = Math.max(Math.floor(nowMs), self().seq + 1)
      database.run('UPDATE relay_self SET seq = ? WHERE id = 1', seq)
      return seq
    },
    prune: () => {
      database.run(`DELETE FROM device_relays WHERE device_did NOT IN (SELECT device_did FROM device) AND device_did NOT IN (SELECT owner_did FROM friend)
        AND device_did NOT IN (SELECT did FROM friend_request)`)
      database.run('DELETE FROM device_relays WHERE rowid IN (SELECT rowid FROM device_relays ORDER BY expires_at DESC LIMIT -1 OFFSET ?)', LIMITS.friendCount + LIMITS.pendingRequestCount)
      load()
    }
  }
}

function toEntry (row: Row): Entry {
  const seq = row['seq']
  return {
    record: seq === undefined ? undefined : { device: row['device_did'] as Did, seq: Number(seq), expiresAtMs: Number(row['expires_at']), relays: String(row['relays'] ?? '').split(' ').filter((text) => text !== '') },
    secret: row['look_up_secret'] as Uint8Array | undefined
  }
}
