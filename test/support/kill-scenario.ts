/** Invariant I7 with kill -9: either daemon dies at any instant of a friend request and starts again with the old or the new state. */
import assert from 'node:assert/strict'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createRelay } from './bootstrap.ts'
import { createDaemon } from './daemon.ts'
import type { Daemon } from './daemon.ts'
import type { TestNetwork } from './network.ts'
import { printFigure } from './statistics.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, pause, waitFor } from './wait.ts'

/** How often, and with which chance: a seed repeats a run's instants. */
export interface KillScenarioInit { rounds: number, seed?: number }

/** A daemon is killed between the start of `friend add` and this share of its usual duration: past its return and the delivery. */
const KILL_WINDOW_SHARE = 1.3
const FIRST_WINDOW_MS = 400

/** Each round: `friend add`, kill -9 of the asker or the asked at a random instant, start again, look at both states. */
export async function killDuringFriendAdd (network: TestNetwork, init: KillScenarioInit): Promise<void> {
  const random = createRandom(init.seed ?? 1)
  const directory = makeTempDirectory('kill')
  const relay = await createRelay({ place: network.relays[0] ?? network.office, dataDirectory: join(directory, 'relay') })
  await relay.start()
  const daemons: Daemon[] = []
  const seen = { old: 0, new: 0 }
  let usualMs = FIRST_WINDOW_MS
  try {
    const asked = createDaemon({ name: 'office', dataDirectory: join(directory, 'office'), place: network.office, relays: [relay.address()] })
    const asker = createDaemon({ name: 'laptop', dataDirectory: join(directory, 'laptop'), place: network.laptop, relays: [relay.address()] })
    daemons.push(asked, asker)
    await Promise.all(daemons.map(async (daemon) => { await daemon.start() }))
    const { address, did: askedDid } = await asked.json<{ address: string, did: string }>('id')
    const { did: askerDid } = await asker.json<{ did: string }>('id')
    for (let round = 1; round <= init.rounds; round++) {
      const victim = round % 2 === 1 ? asker : asked
      const adding = asker.cli('friend', 'add', address, '--hello', `round ${round}`, '--json')
      await pause(random() * KILL_WINDOW_SHARE * usualMs)
      await victim.kill()
      const added = await adding
      if (added.exitCode === 0) usualMs = added.elapsedMs
      checkDatabases(victim, directory)
      await victim.start()

      const rows = (await asker.status()).friends.filter((row) => row.did === askedDid)
      assert.ok(rows.length <= 1, `round ${round}: the friend stands in the list ${rows.length} times`)
      if (added.exitCode === 0) assert.equal(rows.length, 1, `round ${round}: friend add had returned, and the request is forgotten`)
      seen[rows.length === 0 ? 'old' : 'new']++
      // a request that survived is delivered, also if either end died in between
      if (rows.length === 1) {
        await waitFor(`round ${round}: the request to arrive`, async () => (await asked.status()).requestCount === 1, { deadlineMs: PATIENCE_MS })
        await asked.json('friend', 'reject', askerDid)
        await waitFor(`round ${round}: the rejection to arrive`, async () => (await asker.status()).friends.length === 0, { deadlineMs: PATIENCE_MS })
      }
    }
    printFigure(`${network.name}: kill -9 during friend add, rounds with the old state`, seen.old, 'rounds')
    printFigure(`${network.name}: kill -9 during friend add, rounds with the new state`, seen.new, 'rounds')
  } finally {
    await Promise.all(daemons.map(async (daemon) => { await daemon.stop() }))
    await relay.stop()
  }
}

/** Opens copies of the killed daemon's databases: SQLite itself must find them whole. */
function checkDatabases (victim: Daemon, directory: string): void {
  const copy = join(directory, 'copy')
  rmSync(copy, { recursive: true, force: true })
  cpSync(victim.dataDirectory, copy, { recursive: true, filter: (source) => !source.endsWith('.sock') })
  const names = readdirSync(copy).filter((name) => name.endsWith('.db') && name !== 'lock.db')
  assert.ok(names.length > 0, 'the data directory holds no database')
  for (const name of names) {
    const database = new DatabaseSync(join(copy, name))
    try {
      assert.deepEqual({ ...database.prepare('PRAGMA integrity_check').get() }, { integrity_check: 'ok' }, name)
    } finally {
      database.close()
    }
  }
}

/** A small repeatable source of chance (mulberry32). */
function createRandom (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
