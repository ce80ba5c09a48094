/** Everything that can go wrong with networks and relays, drawn at random, under a load: no channel may lie about its end. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Verdict } from '../soak/history.ts'
import { historyNow } from '../soak/load.ts'
import { openSoakWorld, verdictLines } from '../soak/soak-world.ts'
import type { SoakWorld } from '../soak/soak-world.ts'
import { printFigure } from '../support/statistics.ts'
import { waitFor } from '../support/wait.ts'
import { describeInLab } from './lab-obstacle.ts'
import { ALL_FAULTS, planNemesis } from './nemesis-plan.ts'

/** How long, and which draws. */
export interface NemesisScenarioInit { seeds: readonly number[], lengthMs: number }

/** What a session waits for a link, what a forward waits for a session, and what a slow machine needs beyond both. */
const HANG_MS = 120_000
const QUIET_DEADLINE_MS = 150_000
const REACHABLE_DEADLINE_MS = 60_000
const REACHABLE_TARGET_MS = 5_000
const BYTES_PER_SECOND = 512 * 1024
/** A run in which next to nothing was whole shows nothing. */
const LEAST_WHOLE = 20
/** At any time both places have a stream and an idle channel open. */
const LEAST_OPEN = 4

/** Registers one test for each seed. */
export function describeNemesis (init: NemesisScenarioInit): void {
  describeInLab('random faults under a load, 80 ms of round trip', () => {
    for (const seed of init.seeds) {
      it(`I4 I5: ${init.lengthMs / 1000} s of faults, seed ${seed}: every channel is whole or fails with an error`, async () => { await runNemesis(seed, init.lengthMs) })
    }
  })
}

/** Registers the fault that no session outlives: every open channel has to fail, at both ends. */
export function describeLongOutage (init: { outageMs: number }): void {
  describeInLab('no way for longer than a session waits', () => {
    it(`I4: both lines drop everything for ${init.outageMs / 1000} s under a load: every channel fails with an error, and the friends find each other again`, async () => { await runLongOutage(init.outageMs) })
  })
}

async function runLongOutage (outageMs: number): Promise<void> {
  const world = await openSoakWorld({ seed: 1, laptop: 'eim', hangMs: HANG_MS + outageMs, bytesPerSecond: BYTES_PER_SECOND })
  try {
    await waitFor('some channels', () => world.load.history.wholeCount() >= LEAST_WHOLE, { deadlineMs: REACHABLE_DEADLINE_MS })
    const openCount = world.load.history.openCount()
    await Promise.all((['office', 'laptop'] as const).map(async (home) => world.nemesis.run({ kind: 'drop', home }, outageMs)))
    const reachableMs = await world.reachable(REACHABLE_DEADLINE_MS)
    const verdict = await judgeLoad(world, 'outage')
    printFigure(`natlab: ${outageMs / 1000} s without any way: friends answer each other after it`, reachableMs, 'ms', `${REACHABLE_TARGET_MS} ms`)
    assert.deepEqual(verdict.violations, [])
    assert.ok(verdict.failedCount >= LEAST_OPEN, `${verdict.failedCount} channels failed, ${openCount} were open: the outage was too short to show anything`)
  } finally {
    await world.close()
  }
}

async function runNemesis (seed: number, lengthMs: number): Promise<void> {
  // every other seed has a router through which nobody punches: then the relays carry everything
  const laptop = seed % 2 === 0 ? 'eim' : 'sym'
  console.log(`nemesis: seed ${seed} (repeat: npm test -- nemesis --seed ${seed}), laptop behind ${laptop}`)
  const world = await openSoakWorld({ seed, laptop, hangMs: HANG_MS, bytesPerSecond: BYTES_PER_SECOND })
  try {
    const plan = planNemesis({ seed, lengthMs, relayCount: world.pair.relays.length, lanes: ALL_FAULTS, pauseMs: [500, 4_000], durationMs: [500, 6_000] })
    await world.runPlan(plan, (line) => { console.log(`nemesis: ${line}`) })
    const reachableMs = await world.reachable(REACHABLE_DEADLINE_MS)
    const verdict = await judgeLoad(world, `seed ${seed}`)
    printFigure(`natlab: random faults (seed ${seed}): friends answer each other after the last one`, reachableMs, 'ms', `${REACHABLE_TARGET_MS} ms`)
    assert.deepEqual(verdict.violations, [], `seed ${seed}`)
    assert.ok(verdict.wholeCount >= LEAST_WHOLE, `seed ${seed}: only ${verdict.wholeCount} channels were whole`)
  } finally {
    await world.close()
  }
}

/** Ends the load, prints what came of it, and gives the verdict. */
async function judgeLoad (world: SoakWorld, name: string): Promise<Verdict> {
  const { load, watches } = world
  // a load that does not come to rest is seen in the verdict: its channels hang
  await load.calm({ keepIdle: false, deadlineMs: QUIET_DEADLINE_MS }).catch((err: unknown) => { console.log(`nemesis: ${err instanceof Error ? err.message : String(err)}`) })
  // the ends of the services come a moment after those of the callers
  await waitFor('the services', () => load.history.openCount() === 0, { deadlineMs: QUIET_DEADLINE_MS / 5 }).catch((err: unknown) => { console.log(`nemesis: ${err instanceof Error ? err.message : String(err)}`) })
  const verdict = load.history.verdict(historyNow())
  for (const line of verdictLines(verdict, load)) console.log(`nemesis: ${name}: ${line}`)
  console.log(`nemesis: ${name}: sessions: ${watches.laptop.resumes.length} and ${watches.office.resumes.length} resumes, closed with ${[...watches.laptop.closed, ...watches.office.closed].join(' ') || 'nothing'}`)
  return verdict
}
