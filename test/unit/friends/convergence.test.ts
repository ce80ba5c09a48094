/** Two friend lists under random commands, outages, lost answers, restarts and crashes always end up with one opinion. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { errorCode, LIMITS } from '../../../src/base/index.ts'
import { createDirectory } from '../../../src/friends/directory.ts'
import { createFriendStore } from '../../../src/friends/store.ts'
import { createWorld } from '../../support/friends-world.ts'
import type { Person, World } from '../../support/friends-world.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const OPERATIONS = ['add', 'add', 'addWrong', 'accept', 'accept', 'reject', 'ignore', 'remove', 'offline', 'online', 'restart', 'crash', 'loseAnswer'] as const
type Operation = { who: 'alice' | 'bob', what: typeof OPERATIONS[number], waitMs: number }

/** Refusals of commands that do not fit the state. Anything else is a bug. */
const EXPECTED = ['ERR_ALREADY_EXISTS', 'ERR_UNKNOWN_REQUEST', 'ERR_UNKNOWN_FRIEND']

async function perform (world: World, person: Person, other: Person, what: Operation['what'], running: Array<Promise<unknown>>): Promise<void> {
  const { friends } = person
  switch (what) {
    case 'add': friends.add(other.address, { hello: 'hi' }); return
    case 'addWrong': friends.add(other.wrongAddress); return
    case 'accept': friends.accept(other.did); return
    case 'reject': friends.reject(other.did); return
    case 'ignore': friends.ignore(other.did); return
    case 'remove':
      running.push(friends.remove(other.did).catch((err: unknown) => { assert.ok(EXPECTED.includes(errorCode(err)), String(err)) }))
      return
    case 'offline': person.goOffline(); return
    case 'online': person.goOnline(); return
    case 'restart': await person.restart(); return
    case 'crash': await person.crash(); return
    case 'loseAnswer': world.loseAnswers(1)
  }
}

function opinion (person: Person, other: Person): string {
  return person.friends.get(other.did)?.state ?? person.friends.requests().find((request) => request.did === other.did)?.state ?? 'none'
}

const CONSISTENT = ['none none', 'friend friend', 'requested none', 'none requested', 'requested pending', 'pending requested', 'requested ignored', 'ignored requested']

/** Sequences that once ended in two opinions. */
const FOUND: Operation[][] = [
  // a request that crossed the withdrawal of another one stayed pending for ever
  [['alice', 'add', 0], ['bob', 'add', 0], ['alice', 'remove', 60]]
].map((steps) => steps.map(([who, what, waitMs]) => ({ who, what, waitMs }) as Operation))

test('I7: random commands, outages, restarts and crashes on both sides end in one opinion with nothing left to say', async () => {
  const operation: fc.Arbitrary<Operation> = fc.record({
    who: fc.constantFrom('alice' as const, 'bob' as const), what: fc.constantFrom(...OPERATIONS), waitMs: fc.constantFrom(0, 0, 1, 60, 700, 20_000)
  })
  const seen = new Set<string>()
  await fc.assert(fc.asyncProperty(fc.array(operation, { minLength: 3, maxLength: 30 }), async (operations) => {
    const world = createWorld(makeTempDirectory('convergence'))
    const alice = await world.createPerson(1)
    const bob = await world.createPerson(2)
    const running: Array<Promise<unknown>> = []
    try {
      for (const { who, what, waitMs } of operations) {
        const [person, other] = who === 'alice' ? [alice, bob] : [bob, alice]
        try {
          await perform(world, person, other, what, running)
        } catch (err) {
          assert.ok(EXPECTED.includes(errorCode(err)), String(err))
        }
        if (waitMs > 0) await world.settle(waitMs)
      }
      world.loseAnswers(0)
      alice.goOnline()
      bob.goOnline()
      await world.settle(4 * LIMITS.outboxRetryMaxMs)
      await Promise.all(running)
      const opinions = `${opinion(alice, bob)} ${opinion(bob, alice)}`
      seen.add(opinions)
      assert.ok(CONSISTENT.includes(opinions), opinions)
      for (const person of [alice, bob]) {
        assert.equal(person.database.get('SELECT count(*) AS count FROM friend_outbox')?.['count'], 0)
        assert.equal(person.database.get('SELECT count(*) AS count FROM friend_audit')?.['count'], 0)
        const loaded = createDirectory(createFriendStore(person.database))
        assert.deepEqual(person.friends.list(), loaded.list(), 'memory equals the tables')
      }
    } finally {
      await world.stop()
    }
  }), { numRuns: 150, examples: FOUND.map((operations) => [operations]) })
  for (const opinions of ['none none', 'friend friend', 'requested pending']) assert.ok(seen.has(opinions), `the random walk never reached "${opinions}"`)
})
