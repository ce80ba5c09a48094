/** The measurements of one subject in one round. */
import { cpuSeconds, residentMegabytes } from '../support/proc.ts'
import type { LoadGenerator, LoadReport } from '../support/tcp-load.ts'
import { within } from '../support/wait.ts'
import { isRunning } from './subject.ts'
import type { Processes, RunningSubject } from './subject.ts'

/** Figures of one round; per role where the name says so. */
export interface Round {
  up1MegabytesPerSecond: number
  up8MegabytesPerSecond: number
  down1MegabytesPerSecond: number
  down8MegabytesPerSecond: number
  roundTripP50Ms: number
  roundTripP99Ms: number
  connectionsPerSecond: number
  connections8PerSecond: number
  /** From `connect` to the first byte of the answer, one connection at a time. */
  firstByteP50Ms: number
  upCpuSecondsPerGigabyte: Record<string, number>
  downCpuSecondsPerGigabyte: Record<string, number>
  /** Both directions, one connection: all processor time by all bytes. */
  cpuSecondsPerGigabyte: Record<string, number>
  residentMegabytes: Record<string, number>
}

/** A figure of {@link Round} that is one number. */
export type NumberKey = { [Key in keyof Round]: Round[Key] extends number ? Key : never }[keyof Round]
/** A figure of {@link Round} that each role has. */
export type RecordKey = Exclude<keyof Round, NumberKey>

/** How long each part of a round lasts. */
export interface RoundInit { bulkMs: number, roundTripMs: number, connectMs: number }

const MESSAGE_BYTES = 64
const PARALLEL = 8
/** What a part may take beyond its length before the subject counts as stuck. */
const GRACE_MS = 20_000

/** Measures one subject once. @throws when a part fails or does not end in time; the load generator may then still be busy with it. */
export async function measureRound (load: LoadGenerator, subject: RunningSubject, init: RoundInit): Promise<Round> {
  const { target, processes } = subject
  const part = async <T>(what: string, lengthMs: number, run: Promise<T>): Promise<T> => {
    try {
      return await within('its end', lengthMs + GRACE_MS, run)
    } catch (err) {
      throw new Error(`${what}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
    }
  }
  const up1 = await withCpu(processes, async () => part('up, 1 connection', init.bulkMs, load.upMarked(target, 1, init.bulkMs)))
  const down1 = await withCpu(processes, async () => part('down, 1 connection', init.bulkMs, load.down(target, 1, init.bulkMs)))
  const up8 = await part('up, 8 connections', init.bulkMs, load.upMarked(target, PARALLEL, init.bulkMs))
  const down8 = await part('down, 8 connections', init.bulkMs, load.down(target, PARALLEL, init.bulkMs))
  const roundTrip = await part('the round trips', init.roundTripMs, load.roundTrip(target, MESSAGE_BYTES, init.roundTripMs))
  const connections = await part('new connections', init.connectMs, load.connectRate(target, 1, init.connectMs))
  const connections8 = await part('new connections on 8 lanes', init.connectMs, load.connectRate(target, PARALLEL, init.connectMs))
  const gigabytes = (up1.report.bytes + down1.report.bytes) / 1e9
  return {
    up1MegabytesPerSecond: megabytesPerSecond(up1.report),
    up8MegabytesPerSecond: megabytesPerSecond(up8),
    down1MegabytesPerSecond: megabytesPerSecond(down1.report),
    down8MegabytesPerSecond: megabytesPerSecond(down8),
    roundTripP50Ms: roundTrip.p50Ms,
    roundTripP99Ms: roundTrip.p99Ms,
    connectionsPerSecond: connections.count * 1000 / connections.elapsedMs,
    connections8PerSecond: connections8.count * 1000 / connections8.elapsedMs,
    firstByteP50Ms: connections.p50Ms,
    upCpuSecondsPerGigabyte: scale(up1.cpu, 1e9 / up1.report.bytes),
    downCpuSecondsPerGigabyte: scale(down1.cpu, 1e9 / down1.report.bytes),
    cpuSecondsPerGigabyte: Object.fromEntries(Object.keys(processes).map((role) => [role, ((up1.cpu[role] ?? Number.NaN) + (down1.cpu[role] ?? Number.NaN)) / gigabytes])),
    residentMegabytes: sumByRole(processes, (pid) => residentMegabytes(pid).now)
  }
}

/** MB (10^6 bytes) per second. */
export function megabytesPerSecond ({ bytes, elapsedMs }: LoadReport): number {
  return bytes / 1000 / elapsedMs
}

/** Adds up a fact about each process of a role; a process that has ended counts nothing. */
export function sumByRole (processes: Processes, fact: (pid: number) => number): Record<string, number> {
  return Object.fromEntries(Object.entries(processes).map(([role, pids]) => [role, pids.filter(isRunning).reduce((sum, pid) => sum + fact(pid), 0)]))
}

async function withCpu (processes: Processes, run: () => Promise<LoadReport>): Promise<{ report: LoadReport, cpu: Record<string, number> }> {
  const before = sumByRole(processes, cpuSeconds)
  const report = await run()
  const after = sumByRole(processes, cpuSeconds)
  return { report, cpu: Object.fromEntries(Object.entries(after).map(([role, seconds]) => [role, seconds - (before[role] ?? 0)])) }
}

function scale (values: Record<string, number>, factor: number): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value * factor]))
}
