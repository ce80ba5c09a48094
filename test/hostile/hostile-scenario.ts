/**
 * A relay of ours under attack, beside control runs: honest peers work at the relay while the same load goes to it, and while it goes to
 * an unrelated sink. Relay, sinks, attackers and honest peers are processes of their own; what the attackers eat of the machine is in both runs.
 * Attackers and sinks run with the lowest priority (nice 19), in both runs alike: a few processors that they share with the relay are no network.
 * The sink of attackers without a key takes and throws away; those with a key need somebody who speaks with them: a second relay of ours.
 */
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../../src/base/index.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { memoryArguments, readMemory } from '../support/memory.ts'
import { cpuSeconds } from '../support/proc.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { median, percentile } from '../support/statistics.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, pause, waitFor } from '../support/wait.ts'
import { RAW_PARTS } from './attacks.ts'
import type { Attack } from './attacks.ts'
import { addFresh, describeFresh } from './fresh-report.ts'
import { ATTACKER_ADDRESSES, emptyReport } from './ground.ts'
import type { AttackReport, Target } from './ground.ts'
import { sumMetrics } from './relay-metrics.ts'
import type { RelayRefusals } from './relay-metrics.ts'
import { startWorker } from './worker.ts'
import type { Worker } from './worker.ts'

/** How much is done. */
export interface HostileInit {
  attacks: readonly Attack[]
  /** Pairs of control run and attack run, of each attack. */
  rounds: number
  /** Of one run, while it is measured. */
  windowMs: number
  /** Reservation requests from fresh keys, for as long as a window lasts. */
  keysPerSecond: number
  report: (line: string) => void
}

/** What the honest peers saw in one run. */
export interface HonestFigures { timesMs: Array<number | null>, spliceMegabytesPerSecond: number, circuitMegabytesPerSecond: number, relayLoad: number }

/** What came of one attack, all rounds. */
export interface AttackResult {
  attack: Attack
  control: HonestFigures[]
  attacked: HonestFigures[]
  /** The relay's heap and buffers after a collection, beyond what they were before the first attack; the attack still on. */
  grownMib: number
  seen: AttackReport
  counted: RelayRefusals
  /** The relay lives and logged no error. */
  isSound: boolean
}

/** Everything. `lostWays` are honest transfers that ended. */
export interface HostileResult { results: AttackResult[], lostWays: string[], complaints: string[] }

const MIB = 1024 * 1024
/** Processes that send fresh keys: one alone cannot do as many handshakes as a relay. */
const FRESH_PROCESSES = 2
/** Before an attack is measured. */
const SETTLE_MS = 1_000
/** A dial may take as long as it is given. */
const DIALS_DEADLINE_MS = 3 * PATIENCE_MS
const COMPLAINT = /"level":"(error|fatal)"|nhandled|ncaught|FATAL|heap out of memory/

interface TestRelay { program: Program, target: Target, health: string, memoryFile: string }

/** Runs all attacks. The caller judges. */
export async function runHostile (init: HostileInit): Promise<HostileResult> {
  const programs: Program[] = []
  const worker = (file: string, args: readonly string[], options?: { isNice?: boolean }): Worker => {
    const started = startWorker(file, args, options)
    programs.push(started.program)
    return started
  }
  try {
    const relay = await startRelay(false, programs)
    const spareRelay = await startRelay(true, programs)
    const sink = worker('sink-main.ts', [], { isNice: true })
    const sinkTarget: Target = { ...spareRelay.target, ...await sink.order<{ port: number, splicePort: number }>({}) }
    const attackers: Attackers = {
      raw: worker('attackers-main.ts', ['raw'], { isNice: true }),
      keyed: worker('attackers-main.ts', ['keyed'], { isNice: true }),
      fresh: Array.from({ length: FRESH_PROCESSES }, (_, index) => worker('attackers-main.ts', [`fresh ${index}`], { isNice: true }))
    }
    const dials = worker('dials-main.ts', [relay.target.relay])
    const [office, laptop] = [worker('transfer-main.ts', [relay.target.relay]), worker('transfer-main.ts', [relay.target.relay])]
    const { did: officeDid } = await office.order<{ did: string }>({ look: true })
    const { did: laptopDid } = await laptop.order<{ did: string }>({ befriend: officeDid })
    await office.order({ befriend: laptopDid })
    await laptop.order({ connect: true })
    const honest = { dials, office, laptop, relay }
    // everything is compiled and every pool is filled before anything counts
    await measure(honest, Math.min(init.windowMs, 4_000))
    const before = await relayMemory(relay)
    const connectedAtMs = performance.now()
    const results: AttackResult[] = []
    const lost = new Set<string>()

    for (const attack of init.attacks) {
      // the relay that somebody floods is one that has been in use
      if (attack.parts.includes('reservations')) await pause(Math.max(0, connectedAtMs + LIMITS.relayKnownSourceMs - performance.now()))
      const result: AttackResult = { attack, control: [], attacked: [], grownMib: 0, seen: emptyReport(), counted: emptyCounts(), isSound: true }
      for (let round = 0; round < init.rounds; round++) {
        // in turn, so that a machine that gets slower or faster favours neither
        for (const isControl of round % 2 === 0 ? [true, false] : [false, true]) {
          const countedBefore = await sumMetrics(relay.health)
          await attackWith(attackers, attack, isControl ? { raw: sinkTarget, keyed: spareRelay.target } : { raw: relay.target, keyed: relay.target }, init)
          await pause(SETTLE_MS)
          const figures = await measure(honest, init.windowMs)
          ;(isControl ? result.control : result.attacked).push(figures)
          if (!isControl) result.grownMib = Math.max(result.grownMib, (await relayMemory(relay) - before) / MIB)
          const seen = await endAttack(attackers, attack)
          await waitFor('the relay to be quiet again', async () => (await sumMetrics(relay.health)).pending === 0, { deadlineMs: PATIENCE_MS, intervalMs: 100 })
          if (isControl) continue
          addReport(result.seen, seen)
          addCounts(result.counted, countedBefore.refusals, (await sumMetrics(relay.health)).refusals)
        }
      }
      for (const way of (await office.order<{ lost: string[] }>({ look: true })).lost) lost.add(way)
      for (const way of (await laptop.order<{ lost: string[] }>({ look: true })).lost) lost.add(way)
      result.isSound = !relay.program.hasExited() && complaintsOf(relay.program).length === 0
      results.push(result)
      init.report(rowOf(result))
      if (result.seen.fresh.attempts > 0) init.report(`${attack.name}: ${describeFresh(result.seen.fresh)}`)
    }
    return { results, lostWays: [...lost], complaints: complaintsOf(relay.program) }
  } finally {
    // a profile is written at a clean end only
    await Promise.all(programs.map(async (program) => { await program.stop({ signal: program.name === 'the relay' ? 'SIGTERM' : 'SIGKILL' }) }))
  }
}

async function startRelay (isNice: boolean, programs: Program[]): Promise<TestRelay> {
  const directory = makeTempDirectory('hostile')
  const memoryFile = join(directory, 'memory.json')
  const file = join(directory, 'relay.toml')
  // everything that bounds strangers is as it comes
  writeFileSync(file, `data_dir = "${join(directory, 'data')}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nsplice = "127.0.0.1:0"\ndrain_seconds = 0\n`)
  appendFileSync(file, 'health = "127.0.0.1:0"\n')
  const command = [process.execPath, ...memoryArguments(memoryFile), ...profileArguments(isNice), '--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--config', file]
  const [first = '', ...rest] = isNice ? ['nice', '-n', '19', ...command] : command
  const program = startProgram(first, rest, { env: carrierFreeEnvironment(), name: isNice ? 'the relay of control runs' : 'the relay' })
  programs.push(program)
  const report = JSON.parse(await program.line(0)) as { peerId: string, addresses: string[], health: string, splice: number }
  const address = report.addresses[0] ?? ''
  return { program, health: report.health, memoryFile, target: { host: '127.0.0.1', port: Number(multiaddr(address).getComponents()[1]?.value), splicePort: report.splice, relay: address } }
}

/** HOSTILE_PROFILE names a folder for a profile of the relay's processor time. */
function profileArguments (isNice: boolean): string[] {
  const folder = process.env['HOSTILE_PROFILE']
  return isNice || folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${folder}`]
}

/** Those without a key, those with one, and those with a fresh one each time. */
interface Attackers { raw: Worker, keyed: Worker, fresh: Worker[] }

async function attackWith ({ raw, keyed, fresh }: Attackers, { parts }: Attack, targets: { raw: Target, keyed: Target }, { keysPerSecond, windowMs }: HostileInit): Promise<void> {
  if (parts.includes('reservations')) {
    const perSecond = keysPerSecond / fresh.length
    await Promise.all(fresh.map(async (one) => one.order({ prepare: Math.ceil(perSecond * windowMs / 1000) })))
    await Promise.all(fresh.map(async (one, index) => one.order({ start: { target: targets.keyed, parts: ['reservations'], perSecond, first: index * ATTACKER_ADDRESSES.length / fresh.length } })))
  }
  await raw.order({ start: { target: targets.raw, parts: parts.filter((part) => RAW_PARTS.includes(part)), perSecond: 0, first: 0 } })
  await keyed.order({ start: { target: targets.keyed, parts: parts.filter((part) => !RAW_PARTS.includes(part) && part !== 'reservations'), perSecond: 0, first: 0 } })
}

async function endAttack ({ raw, keyed, fresh }: Attackers, { parts }: Attack): Promise<AttackReport> {
  const total = emptyReport()
  const isFresh = parts.includes('reservations')
  // a machine that had no time for the attackers lets them finish, unmeasured
  if (isFresh) await Promise.all(fresh.map(async (one) => one.order({ sent: true })))
  for (const one of [raw, keyed, ...isFresh ? fresh : []]) addReport(total, await one.order<AttackReport>({ stop: true }))
  return total
}

interface Honest { dials: Worker, office: Worker, laptop: Worker, relay: TestRelay }
interface Looked { received: { splice: number, circuit: number }, activeMs: { splice: number, circuit: number } }

async function measure ({ dials, office, laptop, relay }: Honest, windowMs: number): Promise<HonestFigures> {
  const [receivedBefore, sentBefore] = [await office.order<Looked>({ look: true }), await laptop.order<Looked>({ look: true })]
  const [startedAtMs, cpuBefore] = [performance.now(), cpuSeconds(relay.program.pid)]
  // one after the other: on few processors honest peers that send as fast as they can would hold up honest dials
  const { timesMs } = await dials.order<{ timesMs: Array<number | null> }>({ ms: windowMs / 2 }, DIALS_DEADLINE_MS)
  const sent = await laptop.order<Looked>({ pump: windowMs / 2 })
  const relayLoad = (cpuSeconds(relay.program.pid) - cpuBefore) / (performance.now() - startedAtMs) * 1000
  const { received } = await office.order<Looked>({ look: true })
  const rate = (way: 'splice' | 'circuit'): number => (received[way] - receivedBefore.received[way]) / (sent.activeMs[way] - sentBefore.activeMs[way]) / 1000
  return { timesMs, spliceMegabytesPerSecond: rate('splice'), circuitMegabytesPerSecond: rate('circuit'), relayLoad }
}

async function relayMemory (relay: TestRelay): Promise<number> {
  return readMemory(relay.program.pid, relay.memoryFile)
}

function complaintsOf (program: Program): string[] {
  return program.stderr().split('\n').filter((line) => COMPLAINT.test(line))
}

function addReport (to: AttackReport, one: AttackReport): void {
  to.made += one.made
  to.failed += one.failed
  for (const key of ['sockets', 'spliceSockets', 'muxers', 'reservations'] as const) to.refused[key] += one.refused[key]
  addFresh(to.fresh, one.fresh)
}

function emptyCounts (): RelayRefusals {
  return { sockets: 0, spliceSockets: 0, muxers: 0, reservations: 0 }
}

function addCounts (to: RelayRefusals, before: RelayRefusals, after: RelayRefusals): void {
  for (const key of ['sockets', 'spliceSockets', 'muxers', 'reservations'] as const) to[key] += after[key] - before[key]
}

/** Dials of all rounds: the share that came within so many milliseconds, and the 99th percentile of those that came. */
export function dialsOf (rounds: readonly HonestFigures[]): { count: number, share: (withinMs: number) => number, p99Ms: number } {
  const all = rounds.flatMap(({ timesMs }) => timesMs)
  const came = all.filter((time) => time !== null)
  return { count: all.length, share: (withinMs) => came.filter((time) => time <= withinMs).length / all.length, p99Ms: percentile(came, 0.99) }
}

/** The rate under attack as a share of that of the control run, median of the rounds. */
export function shareOf ({ control, attacked }: AttackResult, way: 'spliceMegabytesPerSecond' | 'circuitMegabytesPerSecond'): number {
  return median(attacked.map((figures, round) => figures[way] / (control[round]?.[way] ?? Number.NaN)))
}

/** The head of the table. */
export const TABLE_HEAD = `| attack | dials ≤ 500 ms (control) | p99 (control) | splice keeps (control) | circuit keeps (control) | heap and buffers after GC | sockets and keys | refusals counted (seen) | relay's processor (control) |
|---|---|---|---|---|---|---|---|---|`

/** One row of the table. */
export function rowOf (result: AttackResult): string {
  const { attack, control, attacked, grownMib, seen, counted } = result
  const [under, beside] = [dialsOf(attacked), dialsOf(control)]
  const percent = (share: number): string => `${(100 * share).toFixed(share < 1 ? 1 : 0)} %`
  const sum = (some: RelayRefusals): number => some.sockets + some.spliceSockets + some.muxers + some.reservations
  const rate = (way: 'spliceMegabytesPerSecond' | 'circuitMegabytesPerSecond'): string => `${percent(shareOf(result, way))} (${median(control.map((figures) => figures[way])).toFixed(0)} MB/s)`
  const load = (rounds: readonly HonestFigures[]): string => percent(median(rounds.map(({ relayLoad }) => relayLoad)))
  return `| ${attack.name} | ${percent(under.share(500))} of ${under.count} (${percent(beside.share(500))}) | ${under.p99Ms.toFixed(0)} ms (${beside.p99Ms.toFixed(0)} ms) | ${rate('spliceMegabytesPerSecond')} | ${rate('circuitMegabytesPerSecond')} | ${grownMib >= 0 ? '+' : ''}${grownMib.toFixed(1)} MiB | ${seen.made} | ${sum(counted)} (${sum(seen.refused)}) | ${load(attacked)} (${load(control)}) |`
}
