/** Medians over rounds, the table, and the facts of the machine on which they were measured. */
import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import { median } from '../support/statistics.ts'
import type { Round } from './measure.ts'

/** What became of one subject: rounds, or the reason why there are none. */
export interface SubjectResult { name: string, rounds: Round[], notRun?: string }

/** The machine and the day: figures mean nothing without them. */
export interface MachineFacts { date: string, cpu: string, cores: number, memoryGigabytes: number, kernel: string, node: string, commit: string | undefined, congestionControl: string | undefined }

type Column = [title: string, cell: (rounds: Round[]) => string]

const COLUMNS: readonly Column[] = [
  ['up 1 MB/s', (rounds) => whole(rounds, 'up1MegabytesPerSecond')],
  ['down 1 MB/s', (rounds) => whole(rounds, 'down1MegabytesPerSecond')],
  ['up 8 MB/s', (rounds) => whole(rounds, 'up8MegabytesPerSecond')],
  ['down 8 MB/s', (rounds) => whole(rounds, 'down8MegabytesPerSecond')],
  ['64 B round trip p50/p99 ms', (rounds) => `${fine(rounds, 'roundTripP50Ms')}/${fine(rounds, 'roundTripP99Ms')}`],
  ['connections/s 1/8', (rounds) => `${whole(rounds, 'connectionsPerSecond')}/${whole(rounds, 'connections8PerSecond')}`],
  ['connect to first byte p50 ms', (rounds) => fine(rounds, 'connectP50Ms')],
  ['CPU-s/GB up', (rounds) => byProcess(rounds, 'upCpuSecondsPerGigabyte', 2)],
  ['CPU-s/GB down', (rounds) => byProcess(rounds, 'downCpuSecondsPerGigabyte', 2)],
  ['memory MB', (rounds) => byProcess(rounds, 'residentMegabytes', 0)]
]

/** The table in Markdown, one row per subject. */
export function formatTable (results: readonly SubjectResult[]): string {
  const head = ['', ...COLUMNS.map(([title]) => title)]
  const rows = results.map((result) => result.notRun === undefined ? [result.name, ...COLUMNS.map(([, cell]) => cell(result.rounds))] : [result.name, `not run: ${result.notRun}`, ...COLUMNS.slice(1).map(() => '')])
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** Medians per column, for machines. */
export function summarize (results: readonly SubjectResult[]): unknown {
  return results.map((result) => ({ name: result.name, ...(result.notRun === undefined ? {} : { notRun: result.notRun }), roundCount: result.rounds.length, median: medians(result.rounds), rounds: result.rounds }))
}

/** Reads the facts; what the machine does not tell is absent. */
export function machineFacts (now: Date): MachineFacts {
  return {
    date: now.toISOString().slice(0, 10),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGigabytes: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    commit: output('git', ['-C', import.meta.dirname, 'rev-parse', '--short', 'HEAD']),
    congestionControl: output('cat', ['/proc/sys/net/ipv4/tcp_congestion_control'])
  }
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

type NumberKey = { [Key in keyof Round]: Round[Key] extends number ? Key : never }[keyof Round]
type RecordKey = Exclude<keyof Round, NumberKey>

function whole (rounds: readonly Round[], key: NumberKey): string {
  const value = median(rounds.map((round) => round[key]))
  return value >= 10 ? value.toFixed(0) : value.toFixed(1)
}

function fine (rounds: readonly Round[], key: NumberKey): string {
  return median(rounds.map((round) => round[key])).toFixed(3)
}

function byProcess (rounds: readonly Round[], key: RecordKey, digits: number): string {
  const roles = Object.keys(rounds[0]?.[key] ?? {})
  if (roles.length === 0) return '-'
  return roles.map((role) => `${role} ${median(rounds.map((round) => round[key][role] ?? Number.NaN)).toFixed(digits)}`).join(', ')
}

function output (command: string, args: string[]): string | undefined {
  try {
    return execFileSync(command, args, { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim()
  } catch {
    // a fact that this machine does not tell
    return undefined
  }
}
