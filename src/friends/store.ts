/** The rows of the friend list. Reads and writes single rows; transactions and rules are the caller's. */
import type { Database, Row } from '../base/index.ts'
import { LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { packRequestIds, unpackRequestIds } from './messages.ts'
import type { Notice, Relation, RequestId } from './relation.ts'
import type { Friend, FriendRequest } from './types.ts'

/** A row of `friend` with its devices. */
export interface FriendRow extends Friend { ids: RequestId[] }

/** A row of `friend_request`. */
export interface RequestRow extends Omit<FriendRequest, 'name'> { id: RequestId }

/** A row of `friend_outbox`: what one owner is to be told. */
export interface OutboxEntry {
  /** Tells this entry from any later one for the same owner. */
  seq: number
  owner: Did
  devices: Did[]
  notice: Notice
  /** Of a request only. */
  nospam: Uint8Array | undefined
  hello: string | undefined
  /** True once its bytes may have left this machine. */
  isSent: boolean
}

/** What others see of a friend's row. */
export function friendOf (row: FriendRow): Friend {
  const { owner, devices, label, state, addedAt, lastSeenAt } = row
  return { owner, devices: [...devices], label, state, addedAt, lastSeenAt }
}

/** What a new outbox row needs besides its notice. */
export type NewOutboxEntry = Omit<OutboxEntry, 'seq' | 'isSent'>

/** Rows, one method per statement. */
export interface FriendStore {
  /** The relation to an owner, as its rows say. */
  relation: (owner: Did) => Relation
  friend: (owner: Did) => FriendRow | undefined
  friends: () => FriendRow[]
  isLabelTaken: (label: string, owner: Did) => boolean
  putFriend: (row: FriendRow) => void
  removeFriend: (owner: Did) => void
  setLabel: (owner: Did, label: string) => void
  setLastSeen: (owner: Did, atMs: number) => void
  aliases: () => Array<{ old: Did, owner: Did }>
  request: (did: Did) => RequestRow | undefined
  requests: () => RequestRow[]
  putRequest: (row: RequestRow) => void
  removeRequest: (did: Did) => void
  /** Oldest rows of a state beyond the limit: those that must go. */
  surplusRequests: (state: RequestRow['state']) => Did[]
  outbox: (owner: Did) => OutboxEntry | undefined
  outboxOwners: () => Did[]
  putOutbox: (entry: NewOutboxEntry, nowMs: number) => void
  removeOutbox: (owner: Did) => void
  markSent: (seq: number) => void
  /** Drops notices that are too old or too many; gives their number. */
  pruneNotices: (nowMs: number) => number
  isBlocked: (did: Did) => boolean
  blocked: () => Did[]
  putBlocked: (did: Did, nowMs: number) => void
  removeBlocked: (did: Did) => void
}

/** Statements on the tables of migrations.ts. */
export function createFriendStore (database: Database): FriendStore {
  const store: FriendStore = {
    relation: (owner) => {
      if (store.isBlocked(owner)) return { kind: 'blocked' }
      const outbox = store.outbox(owner)
      const friend = store.friend(owner)
      if (friend?.state === 'friend') return { kind: 'friend', ids: friend.ids }
      if (friend !== undefined) return { kind: 'asked', ids: friend.ids, hasLeft: outbox?.notice.kind !== 'request' || outbox.isSent }
      const request = store.request(owner)
      if (request !== undefined) return { kind: 'asking', id: request.id, isIgnored: request.state === 'ignored' }
      if (outbox !== undefined) return { kind: 'removed', ids: idsOf(outbox.notice) }
      return { kind: 'stranger' }
    },

    friend: (owner) => {
      const row = database.get('SELECT * FROM friend WHERE owner_did = ?', owner)
      return row === undefined ? undefined : toFriend(row, database.all('SELECT device_did FROM device WHERE owner_did = ? ORDER BY rowid', owner))
    },
    friends: () => {
      const devices = Map.groupBy(database.all('SELECT device_did, owner_did FROM device ORDER BY rowid'), (row) => String(row['owner_did']))
      return database.all('SELECT * FROM friend ORDER BY label').map((row) => toFriend(row, devices.get(String(row['owner_did'])) ?? []))
    },
    isLabelTaken: (label, owner) => database.get('SELECT 1 AS hit FROM friend WHERE label = ? AND owner_did <> ?', label, owner) !== undefined,
    putFriend: (row) => {
      database.run(`INSERT INTO friend (owner_did, label, state, request_ids, added_at, last_seen_at) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (owner_did) DO UPDATE SET label = excluded.label, state = excluded.state, request_ids = excluded.request_ids`,
      row.owner, row.label, row.state, packRequestIds(row.ids), row.addedAt, row.lastSeenAt)
      for (const device of row.devices) {
        database.run('INSERT INTO device (device_did, owner_did) VALUES (?, ?) ON CONFLICT (device_did) DO NOTHING', device, row.owner)
      }
    },
    removeFriend: (owner) => { database.run('DELETE FROM friend WHERE owner_did = ?', owner) },
    setLabel: (owner, label) => { database.run('UPDATE friend SET label = ? WHERE owner_did = ?', label, owner) },
    setLastSeen: (owner, atMs) => { database.run('UPDATE friend SET last_seen_at = ? WHERE owner_did = ?', atMs, owner) },
    aliases: () => database.all('SELECT old_did, owner_did FROM friend_alias').map((row) => ({ old: row['old_did'] as Did, owner: row['owner_did'] as Did })),

    request: (did) => {
      const row = database.get('SELECT * FROM friend_request WHERE did = ?', did)
      return row === undefined ? undefined : toRequest(row)
    },
    requests: () => database.all('SELECT * FROM friend_request ORDER BY received_at, rowid').map(toRequest),
    putRequest: (row) => {
      database.run(`INSERT INTO friend_request (did, request_id, hello, state, received_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (did) DO UPDATE SET request_id = excluded.request_id, hello = excluded.hello, state = excluded.state, expires_at = excluded.expires_at`,
      row.did, packRequestIds([row.id]), row.hello, row.state, row.receivedAt, row.expiresAt)
    },
    removeRequest: (did) => { database.run('DELETE FROM friend_request WHERE did = ?', did) },
    surplusRequests: (state) => database.all('SELECT did FROM friend_request WHERE state = ? ORDER BY received_at DESC, rowid DESC LIMIT -1 OFFSET ?',
      state, LIMITS.pendingRequestCount).map((row) => row['did'] as Did),

    outbox: (owner) => {
      const row = database.get('SELECT * FROM friend_outbox WHERE owner_did = ?', owner)
      return row === undefined ? undefined : toOutbox(row)
    },
    outboxOwners: () => database.all('SELECT owner_did FROM friend_outbox ORDER BY seq').map((row) => row['owner_did'] as Did),
    putOutbox: (entry, nowMs) => {
      store.removeOutbox(entry.owner)
      database.run('INSERT INTO friend_outbox (owner_did, kind, request_ids, nospam, hello, devices, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)',
        entry.owner, entry.notice.kind, packRequestIds(idsOf(entry.notice)), entry.nospam, entry.hello, entry.devices.join(' '), nowMs)
    },
    removeOutbox: (owner) => { database.run('DELETE FROM friend_outbox WHERE owner_did = ?', owner) },
    markSent: (seq) => { database.run('UPDATE friend_outbox SET is_sent = 1 WHERE seq = ?', seq) },
    pruneNotices: (nowMs) =>
      database.run("DELETE FROM friend_outbox WHERE kind IN ('reject', 'remove') AND created_at <= ?", nowMs - LIMITS.outboxNoticeTtlMs) +
      database.run(`DELETE FROM friend_outbox WHERE seq IN (
        SELECT seq FROM friend_outbox WHERE kind IN ('reject', 'remove') ORDER BY seq DESC LIMIT -1 OFFSET ?)`, LIMITS.outboxNoticeCount),

    isBlocked: (did) => database.get('SELECT 1 AS hit FROM friend_blocked WHERE did = ?', did) !== undefined,
    blocked: () => database.all('SELECT did FROM friend_blocked ORDER BY blocked_at, rowid').map((row) => row['did'] as Did),
    putBlocked: (did, nowMs) => { database.run('INSERT INTO friend_blocked (did, blocked_at) VALUES (?, ?) ON CONFLICT (did) DO NOTHING', did, nowMs) },
    removeBlocked: (did) => { database.run('DELETE FROM friend_blocked WHERE did = ?', did) }
  }
  return store
}

/** The request ids that a notice names. */
function idsOf (notice: Notice): readonly RequestId[] {
  return notice.kind === 'remove' ? notice.ids : [notice.id]
}

function toFriend (row: Row, devices: Row[]): FriendRow {
  return {
    owner: row['owner_did'] as Did,
    devices: devices.map((device) => device['device_did'] as Did),
    label: String(row['label']),
    state: row['state'] as Friend['state'],
    ids: unpackRequestIds(row['request_ids'] as Uint8Array),
    addedAt: Number(row['added_at']),
    lastSeenAt: row['last_seen_at'] === undefined ? undefined : Number(row['last_seen_at'])
  }
}

function toRequest (row: Row): RequestRow {
  return {
    did: row['did'] as Did,
    id: unpackRequestIds(row['request_id'] as Uint8Array)[0] ?? '',
    hello: String(row['hello']),
    receivedAt: Number(row['received_at']),
    expiresAt: Number(row['expires_at']),
    state: row['state'] as RequestRow['state']
  }
}

function toOutbox (row: Row): OutboxEntry {
  const ids = unpackRequestIds(row['request_ids'] as Uint8Array)
  const kind = row['kind'] as Notice['kind']
  return {
    seq: Number(row['seq']),
    owner: row['owner_did'] as Did,
    devices: String(row['devices']).split(' ') as Did[],
    notice: kind === 'remove' ? { kind, ids } : { kind, id: ids[0] ?? '' },
    nospam: row['nospam'] as Uint8Array | undefined,
    hello: row['hello'] as string | undefined,
    isSent: row['is_sent'] === 1
  }
}
