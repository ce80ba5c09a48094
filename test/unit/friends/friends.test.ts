/** The story of friends, told by two or three friend lists over a network in memory. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { errorCode, LIMITS } from '../../../src/base/index.ts'
import type { ErrorCode } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { createWorld, didNumber } from '../../support/friends-world.ts'
import type { Person, World } from '../../support/friends-world.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const worlds: World[] = []
after(async () => { for (const world of worlds) await world.stop() })

async function pair (): Promise<{ world: World, alice: Person, bob: Person }> {
  const world = createWorld(makeTempDirectory('friends'))
  worlds.push(world)
  return { world, alice: await world.createPerson(1), bob: await world.createPerson(2) }
}

async function befriend (world: World, alice: Person, bob: Person): Promise<void> {
  alice.friends.add(bob.address, { hello: 'hi' })
  await world.settle()
  bob.friends.accept(alice.did)
  await world.settle()
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(stateOf(bob, alice), 'friend')
}

function stateOf (person: Person, other: { did: Did }): string {
  const state = person.friends.get(other.did)?.state
  if (state !== undefined) return state
  return person.friends.requests().find((request) => request.did === other.did)?.state ?? person.friends.levelOf(other.did)
}

function outboxCount (person: Person): number {
  return Number(person.database.get('SELECT count(*) AS count FROM friend_outbox')?.['count'])
}

function names (person: Person): string[] {
  return person.events.map((event) => event.name)
}

function throwsCode (code: ErrorCode, message: RegExp, run: () => unknown): void {
  assert.throws(run, (err: unknown) => {
    assert.equal(errorCode(err), code)
    assert.match((err as Error).message, message)
    return true
  })
}

test('add gives the DID of the address at once, and both become friends when the other accepts', async () => {
  const { world, alice, bob } = await pair()
  assert.equal(alice.friends.add(bob.address, { hello: 'Alice from work', label: 'Bob' }), bob.did)
  assert.deepEqual(alice.friends.list().map(({ owner, label, state, devices }) => ({ owner, label, state, devices })),
    [{ owner: bob.did, label: 'bob', state: 'requested', devices: [bob.did] }])
  assert.equal(alice.friends.levelOf(bob.did), 'pending')
  await world.settle()
  const [request] = bob.friends.requests()
  assert.equal(request?.did, alice.did)
  assert.equal(request?.hello, 'Alice from work')
  assert.equal(request?.state, 'pending')
  assert.equal(bob.friends.levelOf(alice.did), 'stranger', 'who asked us stays a stranger until we agree')
  const friend = bob.friends.accept(alice.did, { label: 'alice' })
  assert.equal(friend.state, 'friend')
  assert.equal(friend.label, 'alice')
  assert.deepEqual(bob.friends.requests(), [])
  await world.settle()
  assert.equal(alice.friends.get(bob.did)?.state, 'friend')
  assert.equal(alice.friends.levelOf(bob.did), 'friend')
  assert.equal(bob.friends.levelOf(alice.did), 'friend')
  assert.deepEqual(names(alice), ['friend:added'])
  assert.deepEqual(bob.events, [
    { name: 'friend:requested', payload: { did: alice.did, hello: 'Alice from work' } },
    { name: 'friend:added', payload: { did: alice.did, label: 'alice' } }
  ])
  assert.equal(outboxCount(alice) + outboxCount(bob), 0)
  assert.deepEqual(alice.audit.map(({ event, direction }) => `${event} ${direction}`), ['friend.request out', 'friend.accept in'])
  assert.deepEqual(bob.audit.map(({ event, direction }) => `${event} ${direction}`), ['friend.request in', 'friend.accept out'])
})

test('a request waits until the other side is there, over restarts of either side', async () => {
  const { world, alice, bob } = await pair()
  bob.goOffline()
  alice.friends.add(bob.address, { hello: 'later' })
  await world.settle(60_000)
  assert.equal(bob.friends.requests().length, 0)
  await alice.restart()
  await bob.restart()
  await world.settle(60_000)
  bob.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs + 100)
  assert.equal(bob.friends.requests()[0]?.hello, 'later')
  alice.goOffline()
  bob.friends.accept(alice.did)
  await bob.crash()
  await world.settle(60_000)
  assert.equal(stateOf(alice, bob), 'requested')
  alice.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs + 100)
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(stateOf(bob, alice), 'friend')
})

test('the delay between attempts never grows over the limit, and an answer ends them', async () => {
  const { world, alice, bob } = await pair()
  bob.goOffline()
  alice.friends.add(bob.address)
  await world.settle(600_000)
  const text = await alice.metrics.text()
  const failed = Number(/carrier_friends_deliveries_total\{kind="request",result="failed"\} (\d+)/.exec(text)?.[1])
  assert.ok(failed >= 600_000 / LIMITS.outboxRetryMaxMs && failed < 60, `${failed} attempts in ten minutes`)
  bob.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs + 1)
  const before = world.messageCount
  await world.settle(600_000)
  assert.equal(world.messageCount, before)
})

test('delivery is tried at once when a relay is reserved, and when the peer appears', async () => {
  const { world, alice, bob } = await pair()
  bob.goOffline()
  alice.friends.add(bob.address)
  await world.settle(120_000)
  bob.goOnline()
  world.announceRelay(alice)
  await world.settle(1)
  assert.equal(bob.friends.requests().length, 1)
  await world.settle()
  assert.equal(outboxCount(alice), 0)

  alice.goOffline()
  bob.friends.accept(alice.did)
  await world.settle(120_000)
  alice.goOnline()
  // Alice connects for reasons of her own
  const { stream } = world.dialAs(alice.did, bob)
  await world.settle(1)
  assert.equal(stateOf(alice, bob), 'friend')
  stream.abort(new Error('done'))
})

test('own address, existing friend, bad hello and bad label are refused and change nothing', async () => {
  const { world, alice, bob } = await pair()
  throwsCode('ERR_OWN_ADDRESS', /your own address/, () => alice.friends.add(alice.address))
  throwsCode('ERR_INVALID_ADDRESS', /checksum/, () => alice.friends.add(`${bob.address.slice(0, -1)}${bob.address.endsWith('q') ? 'p' : 'q'}`))
  throwsCode('ERR_INVALID_ADDRESS', /DID/, () => alice.friends.add(bob.did))
  throwsCode('ERR_HELLO_TOO_LONG', /257 bytes, at most 256/, () => alice.friends.add(bob.address, { hello: 'a'.repeat(257) }))
  throwsCode('ERR_HELLO_TOO_LONG', /258 bytes/, () => alice.friends.add(bob.address, { hello: 'ü'.repeat(129) }))
  throwsCode('ERR_INVALID_ARGUMENT', /control characters/, () => alice.friends.add(bob.address, { hello: 'a\u001b[31mred' }))
  throwsCode('ERR_INVALID_ARGUMENT', /surrogate/, () => alice.friends.add(bob.address, { hello: '\ud800' }))
  throwsCode('ERR_INVALID_ARGUMENT', /friend label/, () => alice.friends.add(bob.address, { label: 'no spaces' }))
  assert.deepEqual(alice.friends.list(), [])
  assert.equal(outboxCount(alice), 0)
  await befriend(world, alice, bob)
  throwsCode('ERR_ALREADY_EXISTS', /is your friend already/, () => alice.friends.add(bob.address))
  throwsCode('ERR_UNKNOWN_REQUEST', /no request from/, () => alice.friends.accept(bob.did))
})

test('a wrong PIN or address secret at first does not bar a right one later', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.wrongAddress, { hello: 'first' })
  await world.settle()
  assert.equal(bob.friends.requests().length, 0)
  assert.equal(outboxCount(alice), 0, 'the answer does not tell that the secret was wrong')
  alice.friends.add(bob.address, { hello: 'second', label: 'bob' })
  await world.settle()
  assert.equal(bob.friends.requests()[0]?.hello, 'second')
  assert.equal(alice.friends.list()[0]?.label, 'bob')
  bob.friends.accept(alice.did)
  await world.settle()
  assert.equal(stateOf(alice, bob), 'friend')
})

test('asking again replaces hello and label, also while the other side has the first request already', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address, { hello: 'first' })
  await world.settle()
  alice.friends.add(bob.address, { hello: 'second', label: 'robert' })
  assert.deepEqual(alice.events, [{ name: 'friend:labelled', payload: { did: bob.did, label: 'robert' } }])
  await world.settle()
  assert.deepEqual(bob.friends.requests().map((request) => request.hello), ['second'])
  assert.equal(names(bob).length, 1, 'one request, one event')
})

test('requests that cross make friends at once', async () => {
  const { world, alice, bob } = await pair()
  alice.goOffline()
  bob.goOffline()
  alice.friends.add(bob.wrongAddress)
  bob.friends.add(alice.address)
  alice.goOnline()
  bob.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs * 2)
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(stateOf(bob, alice), 'friend')
  assert.deepEqual(names(alice), ['friend:added'])
  assert.deepEqual(names(bob), ['friend:added'])
  assert.equal(outboxCount(alice) + outboxCount(bob), 0)
})

test('adding somebody whose request waits accepts it', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address)
  await world.settle()
  bob.friends.ignore(alice.did)
  bob.friends.add(alice.wrongAddress, { label: 'al' })
  await world.settle()
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(bob.friends.resolve('al').owner, alice.did)
})

test('reject tells the requester, who may ask again', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address)
  await world.settle()
  assert.equal(bob.friends.reject(alice.did), alice.did)
  await world.settle()
  assert.deepEqual(alice.friends.list(), [])
  assert.deepEqual(alice.events, [{ name: 'friend:rejected', payload: { did: bob.did } }])
  assert.equal(stateOf(bob, alice), 'stranger')
  alice.friends.add(bob.address, { hello: 'please' })
  await world.settle()
  assert.equal(bob.friends.requests()[0]?.hello, 'please')
})

test('an ignored requester is not told and cannot ask again before the time is over', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address)
  await world.settle()
  bob.friends.ignore(alice.did)
  alice.friends.add(bob.address, { hello: 'again' })
  await world.settle()
  assert.equal(stateOf(bob, alice), 'ignored')
  assert.equal(stateOf(alice, bob), 'requested')
  assert.equal(names(bob).length, 1)
  await world.settle(LIMITS.ignoreTtlMs)
  assert.deepEqual(bob.friends.requests(), [])
  alice.friends.add(bob.address, { hello: 'after a week' })
  await world.settle()
  assert.equal(bob.friends.requests()[0]?.hello, 'after a week')
})

test('an unanswered request expires and then cannot be accepted', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address)
  await world.settle()
  await world.settle(LIMITS.requestTtlMs)
  throwsCode('ERR_UNKNOWN_REQUEST', /carrier friend requests/, () => bob.friends.accept(alice.did))
  assert.deepEqual(bob.friends.requests(), [])
})

test('remove ends the friendship on both sides, tells before it cuts, and the removed one is a stranger who may ask anew', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  const removing = alice.friends.remove(bob.did)
  assert.equal(alice.friends.levelOf(bob.did), 'stranger', 'at once, before anybody is told')
  await world.settle()
  assert.equal(await removing, bob.did)
  assert.deepEqual(bob.friends.list(), [])
  assert.deepEqual(bob.events.at(-1), { name: 'friend:removed', payload: { did: alice.did, by: 'them' } })
  assert.deepEqual(alice.events.at(-1), { name: 'friend:removed', payload: { did: bob.did, by: 'us' } })
  assert.deepEqual(alice.disconnected, [bob.did])
  await world.settle(LIMITS.removeNoticeWaitMs)
  assert.deepEqual(bob.disconnected, [alice.did])
  bob.friends.add(alice.address, { hello: 'sorry' })
  await world.settle()
  assert.equal(alice.friends.requests()[0]?.hello, 'sorry')
})

test('a removal reaches a friend who was away, also after restarts', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  bob.goOffline()
  await alice.friends.remove(bob.did)
  await alice.crash()
  await bob.restart()
  assert.equal(stateOf(bob, alice), 'friend')
  bob.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs)
  assert.equal(stateOf(bob, alice), 'stranger')
  assert.equal(outboxCount(alice), 0)
})

test('a removal that could not be delivered for thirty days is dropped', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  bob.goOffline()
  await alice.friends.remove(bob.did)
  assert.equal(outboxCount(alice), 1)
  await alice.friends.stop()
  await world.settle(LIMITS.outboxNoticeTtlMs)
  await alice.restart()
  assert.equal(outboxCount(alice), 0)
})

test('a removal that was replaced by a new request is told after all when that request is withdrawn', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  bob.goOffline()
  await alice.friends.remove(bob.did)
  alice.friends.add(bob.address)
  await alice.friends.remove(bob.did)
  bob.goOnline()
  await world.settle(LIMITS.outboxRetryMaxMs)
  assert.equal(stateOf(bob, alice), 'stranger')
})

test('a request that never left is withdrawn without a word; one that may have left is taken back', async () => {
  const { world, alice, bob } = await pair()
  alice.goOffline()
  alice.friends.add(bob.address)
  await world.settle(1000)
  await alice.friends.remove(bob.did)
  assert.equal(outboxCount(alice), 0)
  assert.deepEqual(alice.events.at(-1), { name: 'friend:removed', payload: { did: bob.did, by: 'us' } })
  alice.goOnline()
  alice.friends.add(bob.address)
  await world.settle()
  assert.equal(bob.friends.requests().length, 1)
  const removing = alice.friends.remove(bob.did)
  await world.settle(LIMITS.removeNoticeWaitMs)
  await removing
  assert.deepEqual(bob.friends.requests(), [])
})

test('accepting a request that was withdrawn meanwhile leaves no half friendship', async () => {
  const { world, alice, bob } = await pair()
  alice.friends.add(bob.address)
  await world.settle()
  bob.goOffline()
  await alice.friends.remove(bob.did)
  bob.friends.accept(alice.did)
  // Bob's acceptance comes first: nobody was told of the withdrawal yet
  await alice.friends.stop()
  bob.goOnline()
  await bob.restart()
  await alice.restart()
  await world.settle(LIMITS.outboxRetryMaxMs * 2)
  assert.equal(stateOf(alice, bob), 'stranger')
  assert.equal(stateOf(bob, alice), 'stranger')
  assert.equal(bob.events.at(-1)?.name, 'friend:removed')
})

test('block is silent, cuts at once, and the blocked one can neither ask nor be asked', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  await alice.friends.block(bob.did)
  assert.equal(alice.friends.levelOf(bob.did), 'blocked')
  assert.deepEqual(alice.friends.blocked(), [bob.did])
  assert.deepEqual(alice.disconnected, [bob.did])
  assert.deepEqual(names(alice).slice(-2), ['friend:removed', 'friend:blocked'])
  await world.settle(60_000)
  assert.equal(stateOf(bob, alice), 'friend', 'Bob is not told')
  throwsCode('ERR_ALREADY_EXISTS', /blocked; unblock it first/, () => alice.friends.add(bob.address))
  await alice.restart()
  assert.equal(alice.friends.levelOf(bob.did), 'blocked')
  assert.equal(alice.friends.unblock(`friend-${bob.did.slice(-6).toLowerCase()}`), bob.did)
  assert.equal(alice.friends.levelOf(bob.did), 'stranger')
  throwsCode('ERR_NOT_FOUND', /not blocked/, () => alice.friends.unblock(bob.did))
  alice.friends.add(bob.address)
  await world.settle()
  assert.equal(stateOf(alice, bob), 'friend', 'Bob never stopped to be willing')
})

test('a DID that never asked can be blocked beforehand, our own cannot', async () => {
  const { alice } = await pair()
  await alice.friends.block(didNumber(77))
  await alice.friends.block(didNumber(77))
  assert.deepEqual(alice.friends.blocked(), [didNumber(77)])
  await assert.rejects(alice.friends.block(alice.did), { code: 'ERR_OWN_ADDRESS' })
  await assert.rejects(alice.friends.block('nobody'), { code: 'ERR_UNKNOWN_FRIEND' })
})

test('a friend who lost the acceptance, or its state, asks again and is a friend again', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  // Alice lost her data directory, not her key
  alice.database.run('DELETE FROM friend')
  await alice.restart()
  alice.friends.add(bob.wrongAddress)
  await world.settle()
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(bob.friends.list().length, 1)
  assert.equal(names(bob).filter((name) => name === 'friend:added').length, 1)
})

test('removal ends a friendship also when one side was restored from an old backup and knows other request ids', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  alice.database.run('UPDATE friend SET request_ids = ?', new Uint8Array(16).fill(3))
  const removing = alice.friends.remove(bob.did)
  await world.settle(LIMITS.removeNoticeWaitMs)
  await removing
  assert.equal(stateOf(bob, alice), 'stranger')
  assert.equal(outboxCount(alice), 0)
})

test('lost answers change nothing: everything is said again and means the same', async () => {
  const { world, alice, bob } = await pair()
  world.loseAnswers(1)
  alice.friends.add(bob.address)
  await world.settle(5_000)
  assert.equal(bob.friends.requests().length, 1)
  world.loseAnswers(1)
  bob.friends.accept(alice.did)
  await world.settle(5_000)
  assert.equal(stateOf(alice, bob), 'friend')
  assert.equal(names(alice).length, 1)
  world.loseAnswers(1)
  const removing = bob.friends.remove(alice.did)
  await world.settle(10_000)
  await removing
  assert.equal(stateOf(alice, bob), 'stranger')
  assert.equal(outboxCount(alice) + outboxCount(bob), 0)
})

test('who holds a removed friendship open for ever does not hold up the removal', async () => {
  const { world, alice } = await pair()
  const mallory = didNumber(66)
  alice.database.run("INSERT INTO friend VALUES (?, 'mallory', 'friend', ?, 1, NULL)", mallory, new Uint8Array(16))
  alice.database.run('INSERT INTO device VALUES (?, ?)', mallory, mallory)
  await alice.restart()
  world.dialAs(mallory, alice)
  const removing = alice.friends.remove('mallory')
  await world.settle(LIMITS.removeNoticeWaitMs + 1)
  await removing
  assert.deepEqual(alice.disconnected, [mallory])
})

test('labels are unique DNS labels, kept in lower case; without one a friend is named by its DID', async () => {
  const { world, alice, bob } = await pair()
  const carol = await world.createPerson(3)
  alice.friends.add(bob.address)
  alice.friends.add(carol.address, { label: 'CAROL' })
  const short = `friend-${bob.did.slice(-6).toLowerCase()}`
  assert.equal(alice.friends.get(bob.did)?.label, short)
  assert.equal(alice.friends.label(short, 'Bob').label, 'bob')
  assert.deepEqual(alice.events.at(-1), { name: 'friend:labelled', payload: { did: bob.did, label: 'bob' } })
  assert.equal(alice.friends.resolve('BOB').owner, bob.did)
  assert.equal(alice.friends.resolve(short).owner, bob.did, 'the short name goes on working')
  assert.equal(alice.friends.resolve(bob.did).owner, bob.did)
  throwsCode('ERR_ALREADY_EXISTS', /"carol" names another friend/, () => alice.friends.label('bob', 'carol'))
  throwsCode('ERR_ALREADY_EXISTS', /"carol" names another friend/, () => alice.friends.add(bob.address, { label: 'carol' }))
  for (const bad of ['', '-a', 'a-', 'did-x', 'cr1abc', '#1', 'a b', 'list', 'CLOSE', 'a'.repeat(64), 'ä']) {
    throwsCode('ERR_INVALID_ARGUMENT', /friend label/, () => alice.friends.label('bob', bad))
  }
  assert.equal(alice.friends.label('bob', 'BOB').label, 'bob')
  await alice.restart()
  assert.deepEqual(alice.friends.list().map((friend) => friend.label), ['bob', 'carol'])
})

test('an unknown WHO is answered with what to do', async () => {
  const { alice, bob } = await pair()
  throwsCode('ERR_UNKNOWN_FRIEND', /no friend is called "bob".*friend list is empty.*carrier friend add/, () => alice.friends.resolve('bob'))
  alice.friends.add(bob.address)
  throwsCode('ERR_UNKNOWN_FRIEND', /there is 1 friend; .*carrier friend list/, () => alice.friends.resolve('nobody'))
  throwsCode('ERR_UNKNOWN_FRIEND', /looks like an address/, () => alice.friends.resolve(alice.address))
  throwsCode('ERR_UNKNOWN_FRIEND', /no friend is called "did:key/, () => alice.friends.resolve(didNumber(9)))
  throwsCode('ERR_INVALID_DID', /not a Carrier DID/, () => alice.friends.resolve(`${bob.did.slice(0, -1)}0`))
  throwsCode('ERR_UNKNOWN_FRIEND', /\?\[31m/, () => alice.friends.resolve('\u001b[31m'))
  await assert.rejects(alice.friends.remove('nobody'), { code: 'ERR_UNKNOWN_FRIEND' })
})

test('an old DID of a friend still means that friend', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  alice.database.run('INSERT INTO friend_alias VALUES (?, ?)', didNumber(50), bob.did)
  await alice.restart()
  assert.equal(alice.friends.resolve(didNumber(50)).owner, bob.did)
  assert.equal(alice.friends.ownerOf(didNumber(50)), bob.did)
  const removing = alice.friends.remove(bob.did)
  await world.settle(LIMITS.removeNoticeWaitMs)
  await removing
  assert.equal(alice.friends.ownerOf(didNumber(50)), didNumber(50))
})

test('requests are answered by short name or by the beginning of the DID, and an ambiguous name is refused', async () => {
  const { world, alice, bob } = await pair()
  const carol = await world.createPerson(3)
  alice.friends.add(bob.address)
  carol.friends.add(bob.address)
  await world.settle()
  const name = bob.friends.requests().find((request) => request.did === alice.did)?.name ?? ''
  assert.equal(name, `friend-${alice.did.slice(-6).toLowerCase()}`)
  throwsCode('ERR_UNKNOWN_REQUEST', /carrier friend requests/, () => bob.friends.accept('friend-zzzzzz'))
  assert.equal(bob.friends.accept(name).owner, alice.did)
  assert.equal(bob.friends.reject(carol.did.slice(0, 20)), carol.did)
})

test('a beginning that fits two DIDs is refused with both', async () => {
  const { alice } = await pair()
  const seen = new Map<string, Did>()
  let twins: [Did, Did] | undefined
  for (let number = 1000; twins === undefined; number++) {
    const did = didNumber(number)
    const twin = seen.get(did.slice(0, 16))
    if (twin !== undefined) twins = [twin, did]
    seen.set(did.slice(0, 16), did)
  }
  for (const did of twins) await alice.friends.block(did)
  throwsCode('ERR_NOT_FOUND', new RegExp(`means 2 DIDs; use the whole one: ${twins[0]}, ${twins[1]}`), () => alice.friends.unblock(twins[0].slice(0, 16)))
})

test('I8: a full friend list and a full block list say so, and undelivered notices are bounded', async () => {
  const { alice, bob } = await pair()
  const fill = (count: number, insert: string): void => {
    alice.database.run(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${count}) INSERT INTO ${insert}`)
  }
  fill(LIMITS.friendCount, "friend SELECT 'did:key:z6Mk' || i, 'f' || i, 'friend', zeroblob(16), 1, NULL FROM n")
  fill(LIMITS.blockedCount, "friend_blocked SELECT 'did:key:z6MkB' || i, 1 FROM n")
  fill(LIMITS.outboxNoticeCount + 5, "friend_outbox (owner_did, kind, request_ids, devices, created_at) SELECT 'did:key:z6MkO' || i, 'remove', zeroblob(16), 'did:key:z6MkO' || i, 9e15 FROM n")
  await alice.restart()
  assert.equal(outboxCount(alice), LIMITS.outboxNoticeCount)
  throwsCode('ERR_LIMIT', /friend list is full.*carrier friend remove/, () => alice.friends.add(bob.address))
  await assert.rejects(alice.friends.block(bob.did), { code: 'ERR_LIMIT' })
  assert.equal(alice.friends.levelOf(bob.did), 'stranger')
})

test('the last live session is remembered and written at most once a minute', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  assert.equal(alice.friends.get(bob.did)?.lastSeenAt, undefined)
  const stored = (): unknown => alice.database.get('SELECT last_seen_at FROM friend')?.['last_seen_at']
  const firstAt = world.clock.now()
  alice.friends.markSeen(bob.did)
  assert.equal(stored(), firstAt)
  await world.settle(1000)
  alice.friends.markSeen(bob.did)
  assert.equal(stored(), firstAt)
  assert.equal(alice.friends.get(bob.did)?.lastSeenAt, firstAt + 1000)
  alice.friends.label(bob.did, 'bob')
  assert.equal(alice.friends.get('bob' as Did), undefined)
  assert.equal(alice.friends.resolve('bob').lastSeenAt, firstAt + 1000)
  alice.friends.markSeen(didNumber(99))
  await alice.restart()
  assert.equal(alice.friends.get(bob.did)?.lastSeenAt, firstAt + 1000)
})

test('I6: a change and its audit entry are committed together; a broken audit log stops new relations but never their end', async () => {
  const { world, alice, bob } = await pair()
  await befriend(world, alice, bob)
  alice.audit.length = 0
  alice.isAuditBroken = true
  alice.friends.add((await world.createPerson(3)).address)
  await world.settle(20_000)
  assert.equal(alice.audit.length, 0)
  await alice.crash()
  alice.isAuditBroken = false
  await world.settle(20_000)
  assert.deepEqual(alice.audit.map((entry) => entry.event), ['friend.request'])

  alice.isAuditBroken = true
  alice.database.run(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${LIMITS.friendAuditBacklogCount})
    INSERT INTO friend_audit (event, direction, did) SELECT 'friend.request', 'in', 'x' FROM n`)
  const { address } = await world.createPerson(4)
  throwsCode('ERR_AUDIT', /audit log has not taken/, () => alice.friends.add(address))
  await alice.friends.block(bob.did)
  assert.equal(alice.friends.levelOf(bob.did), 'blocked')
})

test('stop cuts all work short, and stopping twice is fine', async () => {
  const { world, alice, bob } = await pair()
  bob.goOffline()
  alice.friends.add(bob.address)
  await world.settle(2_000)
  await alice.stop()
  await alice.friends.stop()
  const bobOnly = world.clock.pendingTimerCount()
  await bob.stop()
  assert.equal(bobOnly, 1, 'only Bob\'s hourly sweep was left')
  assert.equal(world.clock.pendingTimerCount(), 0)
})
