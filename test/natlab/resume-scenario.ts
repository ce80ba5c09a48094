/** Invariant I5 in the lab: transfers and database sessions outlive the relay in use, 80 ms of round trip away. */
import assert from 'node:assert/strict'
import { after, afterEach, before, it } from 'node:test'
import { assertOneSession, bothRelaysDown, openResumeWorld, relayKilledAgainAndAgain, relayKilledDuringTransfer } from '../support/resume-scenarios.ts'
import type { ResumeWorld } from '../support/resume-scenarios.ts'
import { printFigure } from '../support/statistics.ts'
import { PATIENCE_MS, waitFor, within } from '../support/wait.ts'
import type { LinkShape } from './delay.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { bigQuery, copyOut, psql, startPostgres, startPsqlSession } from './postgres.ts'
import type { PostgresDoor } from './postgres.ts'

const MIB = 1024 * 1024
/** Each line, in each direction: four of them make a round trip of 80 ms. */
const LINE: LinkShape = { delayMs: 20 }
/** A copy is the database's work as well: over a slow line it lasts until its relay is killed. */
const SLOW_LINE: LinkShape = { ...LINE, bytesPerSecond: 6_000_000, queueBytes: 500_000 }

/** How much. */
export interface ResumeScenarioInit { transferBytes: number, kills: number, downMs: number }

/** Registers the transfers as one suite. */
export function describeResume (init: ResumeScenarioInit): void {
  describeWorld('forwarded connections and the relay in use, 80 ms of round trip', LINE, (world) => {
    it(`I5: relay killed at 40 % of ${init.transferBytes / MIB} MiB: every byte arrives`, async () => {
      await relayKilledDuringTransfer(world(), { downBytes: init.transferBytes, upBytes: init.transferBytes / 8 })
    })
    it(`I5: ${init.kills} kills in a row: every byte arrives`, async () => {
      await relayKilledAgainAndAgain(world(), { kills: init.kills, bytesPerSecond: 4 * MIB })
    })
    it(`I5: both relays down for ${init.downMs / 1000} s: the connection stands still and goes on`, async () => {
      await bothRelaysDown(world(), { downMs: init.downMs, bytesPerSecond: 4 * MIB })
    })
  })
}

/** Registers SQL as one suite. */
export function describeDatabaseResume (init: { copyMegabytes: number }): void {
  describeWorld('a database and the relay in use, 80 ms of round trip', SLOW_LINE, (world) => {
    it(`I5: an open transaction and a running copy of ${init.copyMegabytes} MB survive`, async () => {
      await databaseSurvives(world(), init.copyMegabytes)
    })
  }, { postgres: true })
}

function describeWorld (name: string, line: LinkShape, body: (world: () => ResumeWorld) => void, options: { postgres?: boolean } = {}): void {
  describeInLab(name, () => {
    let lab: Lab
    let world: ResumeWorld

    before(async () => {
      // a router through which nobody punches: the relays have to carry everything
      lab = await openLab({ laptop: 'sym', relayCount: 2, line })
      world = await openResumeWorld(lab)
    })
    afterEach(async () => {
      assertOneSession(world)
      await world.relaysBack()
    })
    after(async () => {
      await world?.close()
      await lab?.close()
    })
    body(() => world)
  }, options)
}

async function databaseSurvives (world: ResumeWorld, copyMegabytes: number): Promise<void> {
  const { network, pair, usedRelay, watch } = world
  const server = await startPostgres(network.office)
  try {
    await pair.office.json('serve', 'postgres', String(server.door.port), '--allow', 'laptop')
    const { listen } = await pair.laptop.json<{ listen: string }>('forward', '0', 'office/postgres')
    const [host = '', port = ''] = listen.split(':')
    const door: PostgresDoor = { place: network.laptop, host, port: Number(port) }
    await psql(server.door, ['-c', 'create table kept (line int primary key)'])
    const session = startPsqlSession(door)
    try {
      const lines = (): string[] => session.stdout().split('\n').slice(0, -1)
      const say = async (sql: string, isDone: (said: string[]) => boolean): Promise<void> => {
        session.stdin.write(`${sql}\n`)
        await waitFor(`the answer to ${sql}; so far ${session.output().toString()}`, () => isDone(lines()), { deadlineMs: 60_000, intervalMs: 20 })
      }
      await say("begin; insert into kept values (1); select 'begun ' || pg_backend_pid();", (said) => said.some((line) => line.startsWith('begun ')))

      const query = bigQuery(copyMegabytes)
      const expected = await copyOut(server.door, query)
      let killing: Promise<void> | undefined
      let progressBytes = 0
      let longestGapMs = 0
      let lastMs = 0
      const copying = copyOut(door, query, 300_000, (bytes) => {
        const nowMs = performance.now()
        if (lastMs > 0) longestGapMs = Math.max(longestGapMs, nowMs - lastMs)
        lastMs = nowMs
        progressBytes = bytes
        if (bytes < 0.4 * expected.bytes || killing !== undefined) return
        killing = (async () => {
          await pair.relays[await usedRelay()]?.kill()
          assert.ok(progressBytes < expected.bytes, 'the copy was over before the relay died')
        })()
        killing.catch(() => { /* seen below, after the copy */ })
      })
      const copied = await copying
      assert.ok(killing !== undefined)
      await killing
      assert.deepEqual([copied.bytes, copied.sha256], [expected.bytes, expected.sha256])
      await watch.resumed(1, 30_000)
      printFigure(`natlab: copy of ${copyMegabytes} MB with its relay killed: longest time without a byte`, longestGapMs, 'ms', '2000 ms')
      assert.ok(longestGapMs <= 3 * 2000, `${longestGapMs} ms without a byte`)

      // the transaction is the same one: same backend, and what it wrote before is still in it and in nobody else's sight
      assert.equal((await psql(server.door, ['-c', 'select count(*) from kept'])).stdout.trim(), '0')
      await say("insert into kept values (2); select 'counted ' || count(*) from kept; commit; select 'ended ' || pg_backend_pid();", (said) => said.some((line) => line.startsWith('ended ')))
      const [begun, counted, ended] = ['begun ', 'counted ', 'ended '].map((prefix) => lines().find((line) => line.startsWith(prefix))?.slice(prefix.length))
      assert.deepEqual([counted, ended], ['2', begun], session.stderr())
      assert.equal((await psql(server.door, ['-c', 'select count(*) from kept'])).stdout.trim(), '2')
      session.stdin.end()
      assert.deepEqual(await within('the end of psql', PATIENCE_MS, session.exited), { code: 0, signal: null })
    } finally {
      await session.stop({ signal: 'SIGKILL' })
    }
  } finally {
    await server.stop()
  }
}
