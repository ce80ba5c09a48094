import assert from 'node:assert/strict'
import { join } from 'node:path'
import test from 'node:test'
import { LIMITS, openDatabase } from '../../../src/base/index.ts'
import type { Database } from '../../../src/base/index.ts'
import { FRIENDS_MIGRATIONS } from '../../../src/friends/index.ts'
import { createRelayBook } from '../../../src/friends/relay-book.ts'
import { decodeFriendMessage, encodeFriendMessage } from '../../../src/friends/messages.ts'
import { publishedNumbers } from '../../../src/friends/relay-publisher.ts'
import { chooseRelays } from '../../../src/friends/relay-records.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { RelayRecord, RelayStatus } from '../../../src/node/index.ts'
import { didNumber } from '../../support/friends-world.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

function openState (path = ':memory:'): Database {
  return openDatabase({ path, name: 'state', migrations: FRIENDS_MIGRATIONS })
}

function addFriend (database: Database, did: Did, label: string): void {
  database.run("INSERT INTO friend (owner_did, label, state, request_ids, added_at) VALUES (?, ?, 'friend', ?, 1)", did, label, new Uint8Array(16))
  database.run('INSERT INTO device (device_did, owner_did) VALUES (?, ?)', did, did)
}

function recordOf (device: Did, seq: number, relays = ['/ip4/192.0.2.7/tcp/1/p2p/a']): RelayRecord {
  return { device, seq, expiresAtMs: 1_000, relays }
}

test('I7: records and secrets survive a restart; an older record never comes back', () => {
  const path = join(makeTempDirectory('book'), 'state.db')
  const [friend, database] = [didNumber(1), openState(path)]
  addFriend(database, friend, 'a')
  const book = createRelayBook(database)
  book.keep(recordOf(friend, 5), new Uint8Array(0))
  book.keep(recordOf(friend, 4, []), new Uint8Array(0))
  book.keep(recordOf(friend, 5, []), new Uint8Array(0))
  book.keepSecret(friend, new Uint8Array(32).fill(1))
  book.keepSecret(friend, new Uint8Array(32).fill(2))
  const secret = book.ownSecret()
  assert.ok(book.nextSeq(7) >= 7)
  database.close()
  const again = openState(path)
  const reopened = createRelayBook(again)
  assert.deepEqual(reopened.recall(friend), recordOf(friend, 5))
  assert.deepEqual(reopened.secretsOf(friend), [{ kind: 'friend', secret: new Uint8Array(32).fill(2) }])
  assert.deepEqual(reopened.ownSecret(), secret)
  again.close()
})

test('our record\'s number only grows, also when the clock goes back', () => {
  const book = createRelayBook(openState())
  const numbers = [1_000.7, 2_000, 500, 500, 2_001].map(book.nextSeq)
  assert.deepEqual(numbers, [1_000, 2_000, 2_001, 2_002, 2_003])
})

test('whoever leaves the list cannot follow us: the secret changes in the same transaction, the number does not', () => {
  const database = openState()
  const book = createRelayBook(database)
  addFriend(database, didNumber(1), 'a')
  addFriend(database, didNumber(2), 'b')
  book.keep(recordOf(didNumber(1), 1), new Uint8Array(0))
  const before = book.ownSecret()
  assert.deepEqual(book.ownSecret(), before)
  book.nextSeq(1_000)
  assert.throws(() => database.transaction(() => {
    database.run('DELETE FROM friend WHERE owner_did = ?', didNumber(1))
    throw new Error('crash')
  }), /crash/)
  assert.deepEqual(book.ownSecret(), before)
  database.run('DELETE FROM friend WHERE owner_did = ?', didNumber(1))
  const after = book.ownSecret()
  assert.notDeepEqual(after, before)
  assert.equal(book.nextSeq(1), 1_001)
  assert.deepEqual(book.ownSecret(), after)
  book.prune()
  assert.equal(book.recall(didNumber(1)), undefined)
})

test('who was asked and never told takes nothing away: only a request that may have left changes the secret', () => {
  const database = openState()
  const book = createRelayBook(database)
  let secret = book.ownSecret()
  function removeAsked (isSent: 0 | 1, requestIdCount: number): boolean {
    database.run("INSERT INTO friend (owner_did, label, state, request_ids, added_at) VALUES (?, 'a', 'requested', ?, 1)", didNumber(1), new Uint8Array(16 * requestIdCount))
    database.run("INSERT INTO friend_outbox (owner_did, kind, request_ids, nospam, hello, devices, is_sent, created_at) VALUES (?, 'request', ?, ?, '', ?, ?, 1)", didNumber(1), new Uint8Array(16), new Uint8Array(8), didNumber(1), isSent)
    database.run('DELETE FROM friend WHERE owner_did = ?', didNumber(1))
    database.run('DELETE FROM friend_outbox')
    const before = secret
    secret = book.ownSecret()
    return Buffer.compare(before, secret) !== 0
  }
  assert.equal(removeAsked(0, 1), false)
  assert.equal(removeAsked(1, 1), true)
  assert.equal(removeAsked(0, 2), true, 'an earlier request left')
})

test('a record that a wrong clock shortened is believed again for as long as it says', () => {
  const database = openState()
  const book = createRelayBook(database)
  const did = didNumber(1)
  addFriend(database, did, 'a')
  book.keep({ ...recordOf(did, 5), expiresAtMs: 1_000 }, new Uint8Array(0))
  book.keep({ ...recordOf(did, 5), expiresAtMs: 5_000 }, new Uint8Array(0))
  assert.equal(book.recall(did)?.expiresAtMs, 5_000)
  book.keep({ ...recordOf(did, 5), expiresAtMs: 2_000 }, new Uint8Array(0))
  book.keep({ ...recordOf(did, 4), expiresAtMs: 9_000 }, new Uint8Array(0))
  assert.equal(book.recall(did)?.expiresAtMs, 5_000)
  assert.equal(createRelayBook(database).recall(did)?.expiresAtMs, 5_000)
})

test('what a stranger\'s request said is kept as long as the request', () => {
  const database = openState()
  const book = createRelayBook(database)
  const did = didNumber(3)
  database.run("INSERT INTO friend_request (did, request_id, hello, state, received_at, expires_at) VALUES (?, ?, '', 'pending', 1, 2)", did, new Uint8Array(16))
  book.keep(recordOf(did, 1), new Uint8Array(0))
  book.prune()
  assert.equal(book.recall(did)?.seq, 1)
  database.run('DELETE FROM friend_request')
  book.prune()
  assert.equal(book.recall(did), undefined)
})

test('somebody whom we ask is looked up under its address', () => {
  const database = openState()
  const book = createRelayBook(database)
  const nospam = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7)
  database.run("INSERT INTO friend_outbox (owner_did, kind, request_ids, nospam, hello, devices, created_at) VALUES (?, 'request', ?, ?, '', ?, 1)", didNumber(4), new Uint8Array(16), nospam, didNumber(4))
  assert.deepEqual(book.secretsOf(didNumber(4)), [{ kind: 'address', nospam }])
  assert.deepEqual(book.secretsOf(didNumber(5)), [])
})

test('the record names relays with a reservation, keeps those it named, prefers the quick, and says nothing by its order', () => {
  const status = (address: string, state: RelayStatus['state'], rttMs?: number): RelayStatus => ({ peerId: address, address, state, rttMs, reason: undefined, loadPermille: undefined, isChosen: false })
  const all = [status('e', 'reserved', 1), status('a', 'reserved', 50), status('b', 'unreachable', 1), status('c', 'reserved'), status('d', 'reserved', 20), status('f', 'reserved', 30)]
  assert.deepEqual(chooseRelays(all, []), ['a', 'd', 'e', 'f'])
  assert.deepEqual(chooseRelays(all, ['c', 'b']), ['c', 'd', 'e', 'f'])
  assert.deepEqual(chooseRelays([status('b', 'refused')], ['b']), [])
})

test('I8: a record is found under the first address and the newest, eight at most, none that was revoked', () => {
  const address = (number: number, revokedAt?: number): Parameters<typeof publishedNumbers>[0][number] => ({ label: String(number), number, address: '', createdAt: 1, revokedAt })
  assert.deepEqual(publishedNumbers([address(1), address(2, 5), address(3)]), [1, 3])
  assert.deepEqual(publishedNumbers([address(1, 5)]), [])
  assert.deepEqual(publishedNumbers(Array.from({ length: 20 }, (_, index) => address(index + 1))), [1, 14, 15, 16, 17, 18, 19, 20])
})

test('a request takes our relays along unless it would be too long for older peers', () => {
  const request = { notice: { kind: 'request', id: '00'.repeat(16) }, nospam: new Uint8Array(8), hello: 'x'.repeat(LIMITS.helloBytes) } as const
  const news = { lookUpSecret: new Uint8Array(32).fill(1), record: new Uint8Array(300).fill(2) }
  const [short, long] = [{ ...request, news }, { ...request, news: { ...news, record: new Uint8Array(LIMITS.relayRecordBytes) } }].map((message) => encodeFriendMessage(message).subarray(2))
  assert.deepEqual(decodeFriendMessage(short ?? new Uint8Array(0)), { ...request, news })
  assert.deepEqual(decodeFriendMessage(long ?? new Uint8Array(0)), request)
  assert.ok((long?.length ?? 0) <= LIMITS.friendMessageBytes)
})
