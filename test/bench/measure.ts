/** The measurements of one subject in one round. */
import { cpuSeconds, residentMegabytes } from '../support/proc.ts'
import type { LoadGenerator } from '../support/tcp-load.ts'
import type { RunningSubject } from './subjects.ts'

/** Figures of one round; per process where the name says so. */
export interface Round {
  up1MegabytesPerSecond: number
  up8MegabytesPerSecond: number
  down1MegabytesPerSecond: number
  down8MegabytesPerSecond: number
  roundTripP50Ms: number
  roundTripP99Ms: number
  connectionsPerSecond: number
  connections8PerSecond: number
  connectP50Ms: number
  upCpuSecondsPerGigabyte: Record<string, number>
  downCpuSecondsPerGigabyte: Record<string, number>
  residentMegabytes: Record<string, number>
}

/** How long each part of a round lasts. */
export interface RoundInit { bulkMs: number, roundTripMs: number, connectMs: number }

const MESSAGE_BYTES = 64
const PARALLEL = 8

/** Measures one subject once. */
export async function measureRound (load: LoadGenerator, subject: RunningSubject, init: RoundInit): Promise<Round> {
  const { target, processes } = subject
  const up1 = await withCpu(processes, async () => load.up(target, 1, init.bulkMs))
  const down1 = await withCpu(processes, async () => load.down(target, 1, init.bulkMs))
  const up8 = await load.up(target, PARALLEL, init.bulkMs)
  const down8 = await load.down(target, PARALLEL, init.bulkMs)
  const roundTrip = await load.roundTrip(target, MESSAGE_BYTES, init.roundTripMs)
  const connections = await load.connectRate(target, 1, init.connectMs)
  const connections8 = await load.connectRate(target, PARALLEL, init.connectMs)
  return {
    up1MegabytesPerSecond: megabytesPerSecond(up1.report),
    up8MegabytesPerSecond: megabytesPerSecond(up8),
    down1MegabytesPerSecond: megabytesPerSecond(down1.report),
    down8MegabytesPerSecond: megabytesPerSecond(down8),
    roundTripP50Ms: roundTrip.p50Ms,
    roundTripP99Ms: roundTrip.p99Ms,
    connectionsPerSecond: connections.count * 1000 / connections.elapsedMs,
    connections8PerSecond: connections8.count * 1000 / connections8.elapsedMs,
    connectP50Ms: connections.p50Ms,
    upCpuSecondsPerGigabyte: up1.cpuSecondsPerGigabyte,
    downCpuSecondsPerGigabyte: down1.cpuSecondsPerGigabyte,
    residentMegabytes: mapValues(processes, (pid) => residentMegabytes(pid).now)
  }
}

async function withCpu (processes: Record<string, number>, run: () => Promise<{ bytes: number, elapsedMs: number }>): Promise<{ report: { bytes: number, elapsedMs: number }, cpuSecondsPerGigabyte: Record<string, number> }> {
  const before = mapValues(processes, cpuSeconds)
  const report = await run()
  const cpuSecondsPerGigabyte = Object.fromEntries(Object.entries(processes).map(([role, pid]) => [role, (cpuSeconds(pid) - (before[role] ?? 0)) / (report.bytes / 1e9)]))
  return { report, cpuSecondsPerGigabyte }
}

function megabytesPerSecond ({ bytes, elapsedMs }: { bytes: number, elapsedMs: number }): number {
  return bytes / 1000 / elapsedMs
}

function mapValues (record: Record<string, number>, change: (value: number) => number): Record<string, number> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]))
}
