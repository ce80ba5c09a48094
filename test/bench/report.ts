/** Medians over rounds, the table, and the facts of the machine on which they were measured. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { median } from '../support/statistics.ts'
import type { NumberKey, RecordKey, Round } from './measure.ts'
import { findTool } from './subject.ts'
import type { NetworkName } from './subject.ts'

/** What became of one subject: its rounds in order (undefined: this one failed), or the reason why there are none. */
export interface SubjectResult { name: string, on: NetworkName, rounds: Array<Round | undefined>, routes: string[], failures: string[], notRun?: string }

/** The machine and the day: figures mean nothing without them. What the machine does not tell is absent. */
export interface MachineFacts {
  date: string
  cpu: string
  cores: number
  memoryGigabytes: number
  kernel: string
  node: string
  commit: string | undefined
  hasUncommittedChanges: boolean
  congestionControl: string | undefined
  loadAverageAtStart: number | undefined
  baselines: Record<string, string>
}

type Column = [title: string, cell: (rounds: Round[]) => string]

const COLUMNS: readonly Column[] = [
  ['up 1 MB/s', (rounds) => whole(rounds, 'up1MegabytesPerSecond')],
  ['down 1 MB/s', (rounds) => whole(rounds, 'down1MegabytesPerSecond')],
  ['up 8 MB/s', (rounds) => whole(rounds, 'up8MegabytesPerSecond')],
  ['down 8 MB/s', (rounds) => whole(rounds, 'down8MegabytesPerSecond')],
  ['64 B round trip p50/p99 ms', (rounds) => `${fine(rounds, 'roundTripP50Ms')}/${fine(rounds, 'roundTripP99Ms')}`],
  ['connections/s 1/8', (rounds) => `${whole(rounds, 'connectionsPerSecond')}/${whole(rounds, 'connections8PerSecond')}`],
  ['first byte p50 ms', (rounds) => fine(rounds, 'firstByteP50Ms')],
  ['CPU-s/GB up', (rounds) => byRole(rounds, 'upCpuSecondsPerGigabyte', 2)],
  ['CPU-s/GB down', (rounds) => byRole(rounds, 'downCpuSecondsPerGigabyte', 2)],
  ['memory MB', (rounds) => byRole(rounds, 'residentMegabytes', 0)]
]

/** Prints a version on standard output or error, by name of the tool. */
const BASELINE_VERSIONS: Readonly<Record<string, string>> = { ssh: '-V', stunnel4: '-version', nginx: '-v' }

/** The table in Markdown, one row per subject, and below it what carried the bytes and what failed. */
export function formatTable (results: readonly SubjectResult[]): string {
  const head = ['', ...COLUMNS.map(([title]) => title)]
  const rows = results.map((result) => {
    const rounds = completeRounds(result)
    return rounds.length > 0
      ? [result.name, ...COLUMNS.map(([, cell]) => cell(rounds))]
      : [result.name, `not run: ${result.notRun ?? result.failures[0] ?? 'no rounds'}`, ...COLUMNS.slice(1).map(() => '')]
  })
  const cabled = results.filter(({ on }) => on === 'cable').map(({ name }) => name)
  const notes = results.flatMap((result) => [
    ...(result.routes.length === 0 ? [] : [`${result.name}: ${result.routes.join(' → ')}`]),
    ...(completeRounds(result).length === 0 ? [] : result.failures.map((failure) => `${result.name}: FAILED: ${failure}`))
  ])
  if (cabled.length > 0) notes.unshift(`from one network namespace to another over a veth pair, all others on loopback: ${cabled.join(', ')}`)
  return [[head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n'), ...(notes.length === 0 ? [] : [notes.join('\n')])].join('\n\n')
}

/** Medians per column, for machines. */
export function summarize (results: readonly SubjectResult[]): unknown {
  return results.map((result) => ({ ...result, rounds: result.rounds.map((round) => round ?? 'failed'), roundCount: completeRounds(result).length, median: medians(completeRounds(result)) }))
}

/** Reads the facts. */
export function machineFacts (now: Date): MachineFacts {
  return {
    date: now.toISOString().slice(0, 10),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGigabytes: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    commit: output('git', ['-C', import.meta.dirname, 'rev-parse', '--short', 'HEAD']),
    hasUncommittedChanges: (output('git', ['-C', import.meta.dirname, 'status', '--porcelain']) ?? '') !== '',
    congestionControl: firstWord('/proc/sys/net/ipv4/tcp_congestion_control'),
    loadAverageAtStart: Number(firstWord('/proc/loadavg') ?? Number.NaN),
    baselines: Object.fromEntries(Object.entries(BASELINE_VERSIONS).flatMap(([name, flag]) => {
      const path = findTool(name)
      const version = path === undefined ? undefined : output(path, [flag])?.split('\n').find((line) => /\d\.\d/.test(line))
      return version === undefined ? [] : [[name, version]]
    }))
  }
}

/** One line of facts above every report. */
export function formatFacts (facts: MachineFacts): string {
  const commit = `commit ${facts.commit ?? 'unknown'}${facts.hasUncommittedChanges ? ' and uncommitted changes' : ''}`
  return `${facts.date} · ${facts.cores} × ${facts.cpu}, ${facts.memoryGigabytes} GB · Linux ${facts.kernel} · Node ${facts.node} · ${facts.congestionControl ?? 'unknown'} · load ${facts.loadAverageAtStart ?? '?'} · ${commit}`
}

function completeRounds (result: SubjectResult): Round[] {
  return result.rounds.filter((round) => round !== undefined)
}

function medians (rounds: readonly Round[]): Record<string, number | Record<string, number>> {
  const [first] = rounds
  const result: Record<string, number | Record<string, number>> = {}
  for (const [key, sample] of Object.entries(first ?? {}) as Array<[keyof Round, number | Record<string, number>]>) {
    const values = rounds.map((round) => round[key])
    if (typeof sample === 'number') result[key] = median(values as number[])
    else result[key] = Object.fromEntries(Object.keys(sample).map((role) => [role, median((values as Array<Record<string, number>>).map((value) => value[role] ?? Number.NaN))]))
  }
  return result
}

function whole (rounds: readonly Round[], key: NumberKey): string {
  const value = median(rounds.map((round) => round[key]))
  return value >= 10 ? value.toFixed(0) : value.toFixed(1)
}

function fine (rounds: readonly Round[], key: NumberKey): string {
  return median(rounds.map((round) => round[key])).toFixed(3)
}

function byRole (rounds: readonly Round[], key: RecordKey, digits: number): string {
  const roles = Object.keys(rounds[0]?.[key] ?? {})
  if (roles.length === 0) return '-'
  return roles.map((role) => `${role} ${median(rounds.map((round) => round[key][role] ?? Number.NaN)).toFixed(digits)}`).join(', ')
}

function output (command: string, args: string[]): string | undefined {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  // a fact that this machine does not tell
  return status === 0 ? `${stdout}${stderr}`.trim() : undefined
}

function firstWord (path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').split(/\s/)[0]
  } catch {
    // not Linux, or hidden
    return undefined
  }
}
