/** The friend list of a process that is killed while it writes. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { openDatabase } from '../../../src/base/index.ts'
import { createDirectory } from '../../../src/friends/directory.ts'
import { FRIENDS_MIGRATIONS } from '../../../src/friends/migrations.ts'
import { createFriendStore } from '../../../src/friends/store.ts'
import { didNumber } from '../../support/friends-world.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

/** After how many writing statements the process kills itself; undefined: it is killed from outside at a random instant. One add has eight statements. */
const ROUNDS = [undefined, 9, 10, 11, 12, 13, 14, 15, 16, undefined]

test('I7: kill -9 in the middle of friend add leaves the old or the new state, and every command that returned is there', async () => {
  const path = join(makeTempDirectory('friends-crash'), 'state.db')
  const main = join(import.meta.dirname, '../../support/friends-crash-main.ts')
  /** What the process said it had done. */
  const present = new Set<number>()
  const gone = new Set<number>()
  let next = 1

  for (const [round, killAfter] of ROUNDS.entries()) {
    const child = spawn(process.execPath, ['--conditions=carrier-source', main, path, String(next), ...killAfter === undefined ? [] : [String(killAfter)]], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = once(child, 'exit')
    const killAfterLines = 5 + Math.floor(Math.random() * 40)
    let lines = 0
    for await (const line of createInterface({ input: child.stdout })) {
      const [word, number] = line.split(' ')
      ;(word === 'added' ? present : gone).add(Number(number))
      if (++lines === killAfterLines && killAfter === undefined) child.kill('SIGKILL')
    }
    const [, signal] = await exited as [number | null, string | null]
    assert.equal(signal, 'SIGKILL')
    assert.ok(lines >= 1, 'the process had done something before it was killed')

    const database = openDatabase({ path, name: 'state', migrations: FRIENDS_MIGRATIONS })
    const store = createFriendStore(database)
    const highest = Math.max(...present)
    // the last one may be removed without having said so
    if (highest % 3 === 0 && store.relation(didNumber(highest)).kind === 'stranger') gone.add(highest)
    for (const number of present) {
      const kind = store.relation(didNumber(number)).kind
      assert.equal(kind, gone.has(number) ? 'stranger' : 'asked', `number ${number} after round ${round}`)
    }
    // at most the one that was under way is there without having said so
    const beyond = highest + 1
    assert.ok(['asked', 'stranger'].includes(store.relation(didNumber(beyond)).kind))
    assert.equal(store.friend(didNumber(beyond + 1)), undefined)
    for (const friend of store.friends()) {
      const outbox = store.outbox(friend.owner)
      assert.equal(outbox?.notice.kind, 'request', 'a friend that was asked has its request in the outbox')
      assert.equal(outbox?.hello, `number ${friend.label.slice(1)}`)
      assert.deepEqual(friend.devices, [friend.owner])
    }
    assert.equal(store.outboxOwners().length, store.friends().length)
    const audited = Number(database.get("SELECT count(*) AS count FROM friend_audit WHERE event = 'friend.request'")?.['count'])
    assert.ok(audited >= present.size && audited <= present.size + round + 1, `${audited} audit entries for ${present.size} requests`)
    assert.deepEqual(createDirectory(store).list().map((friend) => friend.owner).length, store.friends().length)
    database.close()
    next = beyond + 1
  }
})
