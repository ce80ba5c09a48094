/**
 * The emulated wide area: one access line with delay and rate between a laptop and the rest of the internet, office and relay on
 * the other side. Plain TCP and the forward use the same line in the same run, in turns.
 */
import { namespaceObstacle, createNamespaces, joinByCable, makeRouter, routeVia } from '../natlab/namespace.ts'
import type { Namespace } from '../natlab/namespace.ts'
import { joinByDelay } from '../natlab/delay.ts'
import type { DelayedLink, LinkShape } from '../natlab/delay.ts'
import { startPair } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import type { TestNetwork } from '../support/network.ts'
import { median } from '../support/statistics.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import type { LoadGenerator } from '../support/tcp-load.ts'
import { within } from '../support/wait.ts'
import { formatGates, judgePairs } from './gates.ts'
import type { GateResult } from './gates.ts'
import { megabytesPerSecond } from './measure.ts'
import { startService } from './subject.ts'
import { describeRoute, openForward, useUntilSettled } from './subject-ours.ts'

/** What to run. */
export interface WanInit { rounds: number, bulkMs: number }

/** An address as the load generator connects to it. */
interface Target { host: string, port: number }

/** Everything that stands while figures are taken. */
interface Wan {
  line: DelayedLink
  load: LoadGenerator
  /** A second one, so that an echo is not timed by a process that is busy with bulk. */
  echoLoad: LoadGenerator
  plain: Target
  forward: Target
  /** MB/s of the line without delay and limit, each direction. */
  ceiling: { up: number, down: number }
}

/** A rate above this share of the ceiling says more about the emulator than about what goes through it. */
const USABLE_SHARE = 2 / 3
const CEILING_MS = 2000
const UNLIMITED: Required<LinkShape> = { delayMs: 0, lossRatio: 0, bytesPerSecond: 0, queueBytes: 4_000_000 }
const FIRST_BYTE = { roundTripMs: 50, durationMs: 4000 }
const BULK = { bytesPerSecond: 25_000_000, roundTripMs: 100, queueBytes: 2_500_000 }
const ECHO = { bytesPerSecond: 2_500_000, roundTripMs: 50, queueBytes: 4_000_000, idleMs: 3000 }
const MESSAGE_BYTES = 64
const GRACE_MS = 60_000
const MEGABITS_PER_MEGABYTE = 8

/** Runs and prints the figures; gives everything for the JSON. */
export async function runWan (init: WanInit): Promise<unknown> {
  const obstacle = namespaceObstacle()
  if (obstacle !== undefined) {
    console.log(`wide area: not run: ${obstacle}`)
    return { notRun: obstacle }
  }
  const namespaces = createNamespaces()
  const stops: Array<() => Promise<unknown>> = []
  try {
    const { network, line } = await buildNetwork(namespaces.add)
    stops.push(line.close)
    const office = network.office
    const service = await startService({ place: office, host: '0.0.0.0' })
    const load = startLoadGenerator({ place: network.laptop })
    const echoLoad = startLoadGenerator({ place: network.laptop })
    stops.push(service.stop, load.stop, echoLoad.stop)
    const plain = { host: office.address, port: service.port }
    const ceiling = await measureCeiling(load, plain)
    console.log(`wide area: the emulator's own ceiling is ${megabits(ceiling.up)} Mbit/s up, ${megabits(ceiling.down)} Mbit/s down`)
    // the relay is to carry it
    const pair = await startPair(network, { settings: 'punch = false\n' })
    stops.push(pair.stop)
    await pair.befriend()
    const forward = { host: '127.0.0.1', port: await openForward(pair, service.port) }
    await useUntilSettled(pair, forward.port)
    const route = await describeRoute(pair)
    console.log(`wide area: forward: ${route}`)
    const wan: Wan = { line, load, echoLoad, plain, forward, ceiling }
    const gates: GateResult[] = []
    const parts = [async () => firstByte(wan, init), async () => bulk(wan, init), async () => echoBesideBulk(wan, init)]
    for (const part of parts) gates.push(...await part())
    const lastRoute = await afterwards(pair, line)
    console.log(`\n${formatGates(gates)}\nwide area: forward afterwards: ${lastRoute}`)
    return { rounds: init.rounds, ceilingMegabitsPerSecond: { up: megabits(ceiling.up), down: megabits(ceiling.down) }, routes: [route, lastRoute], gates }
  } finally {
    for (const stop of stops.toReversed()) await stop().catch((err: unknown) => { console.error(`bench: ${err instanceof Error ? err.message : String(err)}`) })
    namespaces.close()
  }
}

async function buildNetwork (add: (role: string, address: string) => Promise<Namespace>): Promise<{ network: TestNetwork, line: DelayedLink }> {
  const internet = await add('internet', '50.0.0.1')
  await makeRouter(internet)
  const host = async (role: string, network: string): Promise<Namespace> => {
    const namespace = await add(role, `${network}.2`)
    await joinByCable({ namespace: internet, name: role, cidr: `${network}.1/24` }, { namespace, name: 'eth0', cidr: `${network}.2/24` })
    await routeVia(namespace, `${network}.1`)
    return namespace
  }
  const relay = await host('relay', '50.0.1')
  const office = await host('office', '50.0.2')
  const laptop = await add('laptop', '50.0.3.2')
  const line = await joinByDelay({ namespace: internet, name: 'laptop', cidr: '50.0.3.1/24' }, { namespace: laptop, name: 'eth0', cidr: '50.0.3.2/24' }, UNLIMITED)
  await routeVia(laptop, '50.0.3.1')
  return { network: { name: 'natlab', office, laptop, cafe: office, relays: [relay], close: async () => { /* the caller owns the namespaces */ } }, line }
}

async function measureCeiling (load: LoadGenerator, target: Target): Promise<{ up: number, down: number }> {
  return {
    up: megabytesPerSecond(await bounded(CEILING_MS, load.upMarked(target, 1, CEILING_MS))),
    down: megabytesPerSecond(await bounded(CEILING_MS, load.down(target, 1, CEILING_MS)))
  }
}

/** A new connection through the forward until its first byte, in round trips of the line. */
async function firstByte (wan: Wan, init: WanInit): Promise<GateResult[]> {
  wan.line.shape({ ...UNLIMITED, delayMs: FIRST_BYTE.roundTripMs / 2 })
  const pairs: Array<[number, number]> = []
  const plain: number[] = []
  for (let round = 0; round <= init.rounds; round++) {
    const durationMs = FIRST_BYTE.durationMs / (init.rounds + 1)
    const roundTrip = await bounded(durationMs, wan.load.roundTrip(wan.plain, MESSAGE_BYTES, durationMs))
    const forward = await bounded(durationMs, wan.load.connectRate(wan.forward, 1, durationMs))
    const direct = await bounded(durationMs, wan.load.connectRate(wan.plain, 1, durationMs))
    if (round === 0) continue
    pairs.push([forward.p50Ms, roundTrip.p50Ms])
    plain.push(direct.p50Ms)
  }
  console.log(`wide area, ${FIRST_BYTE.roundTripMs} ms: first byte of a new connection ${ms(pairs.map(([mine]) => mine))} ms through the forward, ${ms(plain)} ms with plain TCP; round trip ${ms(pairs.map(([, roundTrip]) => roundTrip))} ms`)
  return [judgePairs({ name: `first byte of a new connection, ${FIRST_BYTE.roundTripMs} ms`, ours: 'forward, relayed', baseline: 'round trip of the line', better: 'lower', gate: 1.2 }, pairs)]
}

/** One bulk transfer after the other, each direction, against a plain TCP connection. */
async function bulk (wan: Wan, init: WanInit): Promise<GateResult[]> {
  const what = `${megabits(BULK.bytesPerSecond / 1e6)} Mbit/s, ${BULK.roundTripMs} ms`
  const reason = aboveCeiling(wan, BULK.bytesPerSecond)
  wan.line.shape({ ...UNLIMITED, delayMs: BULK.roundTripMs / 2, bytesPerSecond: BULK.bytesPerSecond, queueBytes: BULK.queueBytes })
  const results: GateResult[] = []
  for (const direction of ['up', 'down'] as const) {
    const bounds = { name: `bulk ${direction}, ${what}`, ours: 'forward, relayed', baseline: 'plain TCP', better: 'higher', gate: 0.9, aim: 1 } as const
    if (reason !== undefined) {
      results.push({ ...bounds, notMeasured: reason, verdict: 'not measured' })
      continue
    }
    const move = async (target: Target): Promise<number> => megabytesPerSecond(await bounded(init.bulkMs, direction === 'up' ? wan.load.upMarked(target, 1, init.bulkMs) : wan.load.down(target, 1, init.bulkMs)))
    const pairs: Array<[number, number]> = []
    for (let round = 0; round < init.rounds; round++) {
      // who goes first changes with the round
      const mineFirst = round % 2 === 0 ? await move(wan.forward) : undefined
      const theirs = await move(wan.plain)
      pairs.push([mineFirst ?? await move(wan.forward), theirs])
    }
    console.log(`wide area, ${what}: bulk ${direction} ${pairs.map(([mine, theirs]) => `${mine.toFixed(1)} / ${theirs.toFixed(1)}`).join(', ')} MB/s (forward / plain TCP)`)
    results.push(judgePairs(bounds, pairs))
  }
  return results
}

/** An echo on one forwarded connection while another one moves as much as it can. */
async function echoBesideBulk (wan: Wan, init: WanInit): Promise<GateResult[]> {
  const what = `${megabits(ECHO.bytesPerSecond / 1e6)} Mbit/s, ${ECHO.roundTripMs} ms`
  const reason = aboveCeiling(wan, ECHO.bytesPerSecond)
  wan.line.shape({ ...UNLIMITED, delayMs: ECHO.roundTripMs / 2, bytesPerSecond: ECHO.bytesPerSecond, queueBytes: ECHO.queueBytes })
  const results: GateResult[] = []
  for (const direction of ['up', 'down'] as const) {
    const bounds = { name: `64-byte echo beside bulk ${direction}, ${what}: p95`, ours: 'forward, relayed', baseline: 'its idle median', better: 'lower', gate: 2.5 } as const
    if (reason !== undefined) {
      results.push({ ...bounds, notMeasured: reason, verdict: 'not measured' })
      continue
    }
    const pairs: Array<[number, number]> = []
    const plain: Array<[number, number]> = []
    for (let round = 0; round < init.rounds; round++) {
      pairs.push(await echoOnce(wan, wan.forward, direction, init.bulkMs))
      plain.push(await echoOnce(wan, wan.plain, direction, init.bulkMs))
    }
    const show = (samples: ReadonlyArray<readonly [number, number]>): string => `${ms(samples.map(([busy]) => busy))} / ${ms(samples.map(([, idle]) => idle))}`
    console.log(`wide area, ${what}: echo beside bulk ${direction}, p95 / idle median: ${show(pairs)} ms through the forward, ${show(plain)} ms on two plain TCP connections`)
    results.push(judgePairs(bounds, pairs))
  }
  return results
}

/** p95 beside bulk, and the median when idle. */
async function echoOnce (wan: Wan, target: Target, direction: 'up' | 'down', bulkMs: number): Promise<[number, number]> {
  const idle = await bounded(ECHO.idleMs, wan.echoLoad.roundTrip(target, MESSAGE_BYTES, Math.min(ECHO.idleMs, bulkMs)))
  const moving = bounded(bulkMs, direction === 'up' ? wan.load.upMarked(target, 1, bulkMs) : wan.load.down(target, 1, bulkMs))
  const [busy] = await Promise.all([bounded(bulkMs, wan.echoLoad.roundTrip(target, MESSAGE_BYTES, bulkMs)), moving])
  return [busy.p95Ms, idle.p50Ms]
}

async function afterwards (pair: Pair, line: DelayedLink): Promise<string> {
  line.shape(UNLIMITED)
  return describeRoute(pair)
}

function aboveCeiling (wan: Wan, bytesPerSecond: number): string | undefined {
  const usable = Math.min(wan.ceiling.up, wan.ceiling.down) * USABLE_SHARE
  return bytesPerSecond / 1e6 <= usable ? undefined : `above two thirds of the emulator's ceiling (${megabits(usable)} Mbit/s)`
}

async function bounded<T> (lengthMs: number, run: Promise<T>): Promise<T> {
  return within('a part of the wide-area bench', lengthMs + GRACE_MS, run)
}

function megabits (megabytesPerSecond: number): number {
  return Math.round(megabytesPerSecond * MEGABITS_PER_MEGABYTE)
}

function ms (samples: readonly number[]): string {
  return median(samples).toFixed(1)
}
