/** Which faults come when: drawn from a seed, so that a run can be repeated. */
import { createChance } from '../support/byte-stream.ts'

/** The homes of the lab. */
export type Home = 'office' | 'laptop'

/** One thing that goes wrong for a while. */
export type Fault =
  | { kind: 'kill-relay', relay: number }
  | { kind: 'hide-relay', relay: number }
  | { kind: 'drop', home: Home }
  | { kind: 'loss', home: Home, lossRatio: number }
  | { kind: 'flap', home: Home, times: number }
  | { kind: 'cut-punched' }
  | { kind: 'public-address', home: Home }
  | { kind: 'lan-address', home: Home }

/** A fault with its time: milliseconds since the beginning of the plan. Those of one lane are done one after the other. */
export interface PlannedFault { lane: number, startMs: number, durationMs: number, fault: Fault }

/** What may be drawn. Faults of one lane never overlap; faults of two lanes do. */
export interface NemesisPlanInit {
  seed: number
  lengthMs: number
  relayCount: number
  lanes: ReadonlyArray<readonly FaultKind[]>
  /** Least and most. */
  pauseMs: readonly [number, number]
  durationMs: readonly [number, number]
}

/** The names of faults. */
export type FaultKind = Fault['kind']

/** Every kind, as lanes: what happens to relays, and what happens to networks. */
export const ALL_FAULTS: ReadonlyArray<readonly FaultKind[]> = [
  ['kill-relay', 'hide-relay'],
  ['drop', 'loss', 'flap', 'cut-punched', 'public-address', 'lan-address']
]

const MOST_LOSS = 0.05
const MOST_FLAPS = 3

/** Seeds of CARRIER_NEMESIS_SEED (comma-separated), else `count` new ones. */
export function nemesisSeeds (count: number): number[] {
  const given = givenSeeds()
  return given.length > 0 ? given : Array.from({ length: count }, () => Math.floor(Math.random() * 2 ** 31))
}

/** Seeds of CARRIER_NEMESIS_SEED (comma-separated), if there are any. */
export function givenSeeds (): number[] {
  const given = process.env['CARRIER_NEMESIS_SEED'] ?? ''
  if (given === '') return []
  return given.split(',').map((text) => {
    const seed = Number(text)
    if (!Number.isSafeInteger(seed)) throw new Error(`CARRIER_NEMESIS_SEED: "${text}" is no whole number`)
    return seed
  })
}

/** Draws a plan; nothing in it lasts beyond `lengthMs`. */
export function planNemesis (init: NemesisPlanInit): PlannedFault[] {
  const planned = init.lanes.flatMap((kinds, lane) => planLane(kinds, lane, createChance(init.seed * 31 + lane), init))
  return planned.sort((a, b) => a.startMs - b.startMs)
}

/** A fault in words. */
export function describeFault (fault: Fault): string {
  switch (fault.kind) {
    case 'kill-relay': return `relay ${fault.relay + 1} killed`
    case 'hide-relay': return `relay ${fault.relay + 1} in a black hole`
    case 'drop': return `the line of the ${fault.home} drops everything`
    case 'loss': return `the line of the ${fault.home} loses ${(fault.lossRatio * 100).toFixed(1)} %`
    case 'flap': return `the interface of the ${fault.home} down and up ${fault.times} times`
    case 'cut-punched': return 'the homes cannot reach each other directly'
    case 'public-address': return `another public address for the ${fault.home}`
    case 'lan-address': return `another address in the home for the ${fault.home}`
  }
}

function planLane (kinds: readonly FaultKind[], lane: number, chance: () => number, init: NemesisPlanInit): PlannedFault[] {
  const within = ([least, most]: readonly [number, number]): number => Math.round(least + chance() * (most - least))
  const planned: PlannedFault[] = []
  for (let atMs = within(init.pauseMs); ;) {
    const durationMs = within(init.durationMs)
    const fault = draw(kinds, chance, init.relayCount)
    if (atMs + durationMs > init.lengthMs) return planned
    planned.push({ lane, startMs: atMs, durationMs, fault })
    atMs += durationMs + within(init.pauseMs)
  }
}

function draw (kinds: readonly FaultKind[], chance: () => number, relayCount: number): Fault {
  const kind = kinds[Math.floor(chance() * kinds.length)] ?? 'cut-punched'
  const home: Home = chance() < 0.5 ? 'office' : 'laptop'
  const share = chance()
  switch (kind) {
    case 'kill-relay':
    case 'hide-relay': return { kind, relay: Math.floor(share * relayCount) }
    case 'loss': return { kind, home, lossRatio: MOST_LOSS * (0.2 + 0.8 * share) }
    case 'flap': return { kind, home, times: 1 + Math.floor(share * MOST_FLAPS) }
    case 'cut-punched': return { kind }
    case 'drop':
    case 'public-address':
    case 'lan-address': return { kind, home }
  }
}
