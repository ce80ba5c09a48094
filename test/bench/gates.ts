/** What the issue asks of the figures: each gate is a median of ratios, each ratio of two figures of the same round. */
import { median } from '../support/statistics.ts'
import type { NumberKey, Round } from './measure.ts'
import type { SubjectResult } from './report.ts'
import type { SubjectName } from './subjects.ts'

/** One promise: ours divided by the baseline's. */
export interface Gate {
  name: string
  ours: SubjectName
  baseline: SubjectName
  figure: (round: Round) => number
  /** Which side of the bounds is the good one. */
  better: 'higher' | 'lower'
  /** Without it the promise is not kept. */
  gate: number
  /** What a good release reaches. */
  aim?: number
  /** The link that must have carried our bytes in all rounds; any when absent. */
  link?: 'splice'
}

/** What came of a gate. */
export interface GateResult {
  name: string
  ours: string
  baseline: string
  better: 'higher' | 'lower'
  gate: number
  aim?: number
  /** Absent when there was nothing to compare. */
  measured?: Measured
  notMeasured?: string
  verdict: Verdict
}

/** A share of rounds: the medians of both sides, and of the ratio of each round. */
export interface Measured { rounds: number, oursMedian: number, baselineMedian: number, ratioMedian: number, ratioLowest: number, ratioHighest: number }

/** How a gate stands. */
export type Verdict = 'aim met' | 'gate met' | 'GATE MISSED' | 'not measured'

const DIRECT: SubjectName = 'forward, direct'
const RELAYED: SubjectName = 'forward, relayed'
const JUMP: SubjectName = 'ssh -L through a jump host'
const PIPE: SubjectName = '3-hop Node pipe, unencrypted'
const CIRCUIT: SubjectName = 'stock circuit-relay-v2 tunnel'
const NGINX: SubjectName = 'nginx stream, 1 hop'

/** All gates of a run on loopback. */
export const GATES: readonly Gate[] = [
  atLeast('up, 1 connection', RELAYED, JUMP, 'up1MegabytesPerSecond', 1.3, 1.7),
  atLeast('down, 1 connection', RELAYED, JUMP, 'down1MegabytesPerSecond', 0.85, 1.1),
  atLeast('up, 8 connections', RELAYED, JUMP, 'up8MegabytesPerSecond', 1.6, 2.2),
  atLeast('down, 8 connections', RELAYED, JUMP, 'down8MegabytesPerSecond', 1.6, 2.2),
  atLeast('new connections/s, 1 lane', RELAYED, JUMP, 'connectionsPerSecond', 0.8, 1.2),
  atLeast('new connections/s, 8 lanes', RELAYED, JUMP, 'connections8PerSecond', 0.8, 1.2),
  atMost('first byte of a new connection', RELAYED, JUMP, 'firstByteP50Ms', 1.3, 1),
  atLeast('up, 1 connection', RELAYED, PIPE, 'up1MegabytesPerSecond', 0.6, 0.85),
  atLeast('down, 1 connection', RELAYED, PIPE, 'down1MegabytesPerSecond', 0.6, 0.85),
  atMost('64-byte round trip', RELAYED, PIPE, 'roundTripP50Ms', 1.4, 1.2),
  atLeast('up, 1 connection', RELAYED, CIRCUIT, 'up1MegabytesPerSecond', 4, 6),
  atLeast('down, 1 connection', RELAYED, CIRCUIT, 'down1MegabytesPerSecond', 4, 6),
  ...(['ssh -L', 'stunnel'] as const).flatMap((baseline) => [
    atLeast('up, 1 connection', DIRECT, baseline, 'up1MegabytesPerSecond', 0.55, 0.8),
    atLeast('down, 1 connection', DIRECT, baseline, 'down1MegabytesPerSecond', 0.55, 0.8)
  ]),
  atLeast('up, 1 connection', DIRECT, 'hypertele', 'up1MegabytesPerSecond', 2, 3),
  atLeast('down, 1 connection', DIRECT, 'hypertele', 'down1MegabytesPerSecond', 2, 3),
  relayCpu(RELAYED, 1.7, 1.2),
  relayCpu('forward, relayed, public-API copy', 2.5)
]

/** Compares round by round; rounds in which either side failed are left out. */
export function judge (gates: readonly Gate[], results: readonly SubjectResult[]): GateResult[] {
  return gates.map((gate) => {
    const { name, ours, baseline, better } = gate
    const bounds = { name, ours, baseline, better, gate: gate.gate, ...(gate.aim === undefined ? {} : { aim: gate.aim }) }
    const sides = [ours, baseline].map((side) => results.find((result) => result.name === side))
    const [mine, theirs] = sides.map((side) => side?.rounds ?? [])
    const missing = [ours, baseline].find((_side, index) => (sides[index]?.rounds ?? []).every((round) => round === undefined))
    if (missing !== undefined) return { ...bounds, notMeasured: `no rounds of ${missing}`, verdict: 'not measured' }
    if (gate.link !== undefined && !(sides[0]?.routes ?? []).every((route) => route.includes(`link ${gate.link}`))) {
      return { ...bounds, notMeasured: `not all bytes went over a ${gate.link}`, verdict: 'not measured' }
    }
    const pairs = (mine ?? []).flatMap((round, index): Array<readonly [number, number]> => {
      const other = theirs?.[index]
      return round === undefined || other === undefined ? [] : [[gate.figure(round), gate.figure(other)]]
    })
    return judgePairs(bounds, pairs)
  })
}

/** The verdict on pairs of figures (ours, baseline). */
export function judgePairs (bounds: Omit<GateResult, 'measured' | 'notMeasured' | 'verdict'>, pairs: ReadonlyArray<readonly [ours: number, baseline: number]>): GateResult {
  const usable = pairs.filter(([mine, theirs]) => Number.isFinite(mine) && Number.isFinite(theirs) && theirs > 0)
  if (usable.length === 0) return { ...bounds, notMeasured: 'no round in which both sides ran', verdict: 'not measured' }
  const ratios = usable.map(([mine, theirs]) => mine / theirs)
  const measured: Measured = {
    rounds: usable.length,
    oursMedian: median(usable.map(([mine]) => mine)),
    baselineMedian: median(usable.map(([, theirs]) => theirs)),
    ratioMedian: median(ratios),
    ratioLowest: Math.min(...ratios),
    ratioHighest: Math.max(...ratios)
  }
  const reaches = (bound: number): boolean => bounds.better === 'higher' ? measured.ratioMedian >= bound : measured.ratioMedian <= bound
  const verdict: Verdict = !reaches(bounds.gate) ? 'GATE MISSED' : bounds.aim !== undefined && reaches(bounds.aim) ? 'aim met' : 'gate met'
  return { ...bounds, measured, verdict }
}

/** The table in Markdown, and one sentence on what was missed. */
export function formatGates (results: readonly GateResult[]): string {
  const head = ['figure', 'ours', 'baseline', 'ours / baseline, medians', 'ratio (lowest to highest)', 'gate', 'aim', 'verdict']
  const rows = results.map((result) => {
    const sign = result.better === 'higher' ? '≥' : '≤'
    const { measured } = result
    return [
      result.name, result.ours, result.baseline,
      measured === undefined ? result.notMeasured ?? '' : `${short(measured.oursMedian)} / ${short(measured.baselineMedian)}`,
      measured === undefined ? '' : `${short(measured.ratioMedian)} (${short(measured.ratioLowest)} to ${short(measured.ratioHighest)})`,
      `${sign} ${result.gate}`, result.aim === undefined ? '' : `${sign} ${result.aim}`, result.verdict
    ]
  })
  const table = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
  return `${table}\n\n${summarizeGates(results)}`
}

function summarizeGates (results: readonly GateResult[]): string {
  const named = (verdict: Verdict): string[] => results.filter((result) => result.verdict === verdict).map((result) => `${result.name}: ${result.ours} against ${result.baseline}`)
  const missed = named('GATE MISSED')
  const unmeasured = named('not measured')
  const judged = results.length - unmeasured.length
  return [
    `gates: ${judged - missed.length} of ${judged} met, ${named('aim met').length} with their aim`,
    ...(missed.length === 0 ? [] : [`GATES MISSED (${missed.length}):`, ...missed.map((one) => `  ${one}`)]),
    ...(unmeasured.length === 0 ? [] : [`not measured (${unmeasured.length}):`, ...unmeasured.map((one) => `  ${one}`)])
  ].join('\n')
}

function atLeast (name: string, ours: SubjectName, baseline: SubjectName, key: NumberKey, gate: number, aim: number): Gate {
  return { name, ours, baseline, figure: (round) => round[key], better: 'higher', gate, aim }
}

function atMost (name: string, ours: SubjectName, baseline: SubjectName, key: NumberKey, gate: number, aim: number): Gate {
  return { name, ours, baseline, figure: (round) => round[key], better: 'lower', gate, aim }
}

function relayCpu (ours: SubjectName, gate: number, aim?: number): Gate {
  return { name: 'relay CPU-s/GB', ours, baseline: NGINX, figure: (round) => round.cpuSecondsPerGigabyte['relay'] ?? Number.NaN, better: 'lower', gate, link: 'splice', ...(aim === undefined ? {} : { aim }) }
}

function short (value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)
}
