/** Hours in short: gentle faults under a load, and what every process holds each minute. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { planNemesis } from '../natlab/nemesis-plan.ts'
import type { FaultKind } from '../natlab/nemesis-plan.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { pause } from '../support/wait.ts'
import { isFlat, trendOf } from './flatness.ts'
import type { GrowthBound, Trend } from './flatness.ts'
import type { Verdict } from './history.ts'
import { historyNow } from './load.ts'
import { probeArguments, takeSample } from './probe.ts'
import type { Sample } from './probe.ts'
import { openSoakWorld, verdictLines } from './soak-world.ts'
import type { SoakWorld } from './soak-world.ts'

/** How long, and which draws. */
export interface SoakInit { minutes: number, seed: number, say: (line: string) => void }

/** Growth of one figure of one process over the judged part of the run: `memory` is heapUsed + external, `data` is that without compiled code. */
export interface SoakTrend { role: string, figure: 'memory' | 'data' | 'open files' | 'handles', trend: Trend, isFlat: boolean }

/** What came of it. */
export interface SoakReport {
  seed: number
  minutes: number
  samples: Record<string, Sample[]>
  trends: SoakTrend[]
  verdict: Verdict
  reachableMs: number
}

const MINUTE_MS = 60_000
/** What a session waits for a link, what a forward waits for a session, and what a slow machine needs beyond both. */
const HANG_MS = 120_000
const CALM_DEADLINE_MS = 120_000
const REACHABLE_DEADLINE_MS = 60_000
const BYTES_PER_SECOND = 256 * 1024
/** The faults of a minute end so long before its sample. */
const SETTLE_MS = 8_000
const FAULTS_MS = 40_000
/** A relay that was killed has nothing that could have leaked: after this share of the run its cable is cut instead. */
const KILL_SHARE = 1 / 3
/** The first third is warming up: code is compiled, tables fill. */
const JUDGED_SHARE = 2 / 3
/** Runs shorter than this are too short to tell growth from warming up. */
const STRICT_MINUTES = 25

const NETWORK_FAULTS: readonly FaultKind[] = ['drop', 'loss', 'flap', 'cut-punched', 'public-address', 'lan-address', 'hide-relay']

/** What may grow over the judged part. Code that becomes hot is still compiled after many minutes: memory as a whole has more room than data. */
const BOUNDS: Readonly<Record<'strict' | 'wide', Readonly<Record<SoakTrend['figure'], GrowthBound>>>> = {
  strict: { memory: { amount: 4 * 1024 * 1024, share: 0.05 }, data: { amount: 2 * 1024 * 1024, share: 0.05 }, 'open files': { amount: 4, share: 0 }, handles: { amount: 6, share: 0 } },
  wide: { memory: { amount: 32 * 1024 * 1024, share: 0 }, data: { amount: 32 * 1024 * 1024, share: 0 }, 'open files': { amount: 40, share: 0 }, handles: { amount: 60, share: 0 } }
}

/** Runs it; throws when a channel lied, something grew, or the friends do not reach each other at the end. */
export async function runSoak (init: SoakInit): Promise<SoakReport> {
  const { minutes, seed, say } = init
  const directory = makeTempDirectory('soak')
  const probeFile = (role: string): string => join(directory, `${role}.json`)
  const world = await openSoakWorld({ seed, laptop: 'eim', hangMs: HANG_MS, bytesPerSecond: BYTES_PER_SECOND, nodeArguments: (role) => probeArguments(probeFile(role)) })
  const samples: Record<string, Sample[]> = {}
  const beganMs = performance.now()
  try {
    let reachableMs = 0
    for (let minute = 1; minute <= minutes; minute++) {
      const mayKill = minute <= minutes * KILL_SHARE
      const plan = planNemesis({ seed: seed + minute, lengthMs: FAULTS_MS, relayCount: world.pair.relays.length, lanes: [mayKill ? [...NETWORK_FAULTS, 'kill-relay'] : NETWORK_FAULTS], pauseMs: [5_000, 15_000], durationMs: [500, 4_000] })
      await world.runPlan(plan, (line) => { say(`minute ${minute}, ${line}`) })
      reachableMs = await world.reachable(REACHABLE_DEADLINE_MS)
      await pause(SETTLE_MS)
      await world.load.calm({ keepIdle: true, deadlineMs: CALM_DEADLINE_MS })
      const taken = await sampleAll(world, probeFile, beganMs)
      for (const [role, sample] of Object.entries(taken)) (samples[role] ??= []).push(sample)
      say(`minute ${minute}: reachable after ${Math.round(reachableMs)} ms; ${Object.entries(taken).map(([role, sample]) => `${role} ${(sample.memoryBytes / 1e6).toFixed(2)} MB ${sample.openFiles} files ${sample.handles} handles`).join('; ')}`)
      world.load.resume()
      await pause(Math.max(0, beganMs + minute * MINUTE_MS - performance.now()))
    }
    reachableMs = await world.reachable(REACHABLE_DEADLINE_MS)
    await world.load.calm({ keepIdle: false, deadlineMs: CALM_DEADLINE_MS }).catch((err: unknown) => { say(err instanceof Error ? err.message : String(err)) })
    const untilMs = performance.now() + CALM_DEADLINE_MS / 4
    while (world.load.history.openCount() > 0 && performance.now() < untilMs) await pause(50)
    const verdict = world.load.history.verdict(historyNow())
    const trends = judgeSamples(samples, minutes)
    const report: SoakReport = { seed, minutes, samples, trends, verdict, reachableMs }
    for (const line of [...verdictLines(verdict, world.load), `sessions: ${world.watches.laptop.resumes.length} and ${world.watches.office.resumes.length} resumes, closed with ${[...world.watches.laptop.closed, ...world.watches.office.closed].join(' ') || 'nothing'}`, ...tableLines(samples, trends)]) say(line)
    assert.deepEqual(verdict.violations, [], `seed ${seed}`)
    assert.ok(verdict.wholeCount >= 20 * minutes, `seed ${seed}: only ${verdict.wholeCount} channels were whole`)
    assert.deepEqual(trends.filter((row) => !row.isFlat).map(({ role, figure, trend }) => `${figure} of ${role} grew by ${Math.round(trend.growth)}`), [], `seed ${seed}`)
    return report
  } finally {
    await world.close()
  }
}

async function sampleAll (world: SoakWorld, probeFile: (role: string) => string, beganMs: number): Promise<Record<string, Sample>> {
  const programs = { office: world.pair.office.program(), laptop: world.pair.laptop.program(), ...Object.fromEntries(world.pair.relays.map((relay, index) => [`relay${index + 1}`, relay.program()])) }
  const taken: Record<string, Sample> = {}
  for (const [role, { pid }] of Object.entries(programs)) taken[role] = await takeSample(pid, probeFile(role), beganMs)
  return taken
}

function judgeSamples (samples: Readonly<Record<string, readonly Sample[]>>, minutes: number): SoakTrend[] {
  const spanMs = minutes * JUDGED_SHARE * MINUTE_MS
  const bounds = BOUNDS[minutes >= STRICT_MINUTES ? 'strict' : 'wide']
  return Object.entries(samples).flatMap(([role, all]) => {
    const judged = all.slice(-Math.ceil(minutes * JUDGED_SHARE))
    const trend = (figure: SoakTrend['figure'], read: (sample: Sample) => number): SoakTrend => {
      const found = trendOf(judged.map((sample) => ({ atMs: sample.atMs, value: read(sample) })), spanMs)
      return { role, figure, trend: found, isFlat: isFlat(found, bounds[figure]) }
    }
    return [trend('memory', ({ memoryBytes }) => memoryBytes), trend('data', ({ memoryBytes, codeBytes }) => memoryBytes - codeBytes), trend('open files', ({ openFiles }) => openFiles), trend('handles', ({ handles }) => handles)]
  })
}

function tableLines (samples: Readonly<Record<string, readonly Sample[]>>, trends: readonly SoakTrend[]): string[] {
  const growth = (role: string, figure: SoakTrend['figure'], unit: number): string => {
    const row = trends.find((trend) => trend.role === role && trend.figure === figure)
    return row === undefined ? '–' : `${(row.trend.growth / unit).toFixed(2)}${row.isFlat ? '' : ' !'}`
  }
  const judgedMinutes = Math.max(...Object.values(samples).map((all) => all.length)) * JUDGED_SHARE
  return [
    `| process | first MB | last MB | resident MB | growth MB over the last ${Math.ceil(judgedMinutes)} min | without code | open files | growth | handles | growth |`,
    '|---|---|---|---|---|---|---|---|---|---|',
    ...Object.entries(samples).map(([role, all]) => {
      const [first, last] = [all[0], all.at(-1)]
      const megabytes = (bytes: number | undefined): string => ((bytes ?? Number.NaN) / 1e6).toFixed(2)
      return `| ${role} | ${megabytes(first?.memoryBytes)} | ${megabytes(last?.memoryBytes)} | ${megabytes(last?.residentBytes)} | ${growth(role, 'memory', 1e6)} | ${growth(role, 'data', 1e6)} | ${last?.openFiles ?? '–'} | ${growth(role, 'open files', 1)} | ${last?.handles ?? '–'} | ${growth(role, 'handles', 1)} |`
    })
  ]
}
