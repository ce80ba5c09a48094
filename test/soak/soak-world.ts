/** Two friends behind two routers, several relays, a forward in each direction, and a load on both: the world of nemesis and soak. */
import { startPair } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import { pingFriend, watchSessions } from '../support/session-watch.ts'
import type { SessionWatch } from '../support/session-watch.ts'
import { pause, waitFor } from '../support/wait.ts'
import { openLab } from '../natlab/lab.ts'
import type { Lab } from '../natlab/lab.ts'
import type { NatFlavour } from '../natlab/nat-flavours.ts'
import { createNemesis } from '../natlab/nemesis-faults.ts'
import type { Nemesis } from '../natlab/nemesis-faults.ts'
import { describeFault } from '../natlab/nemesis-plan.ts'
import type { PlannedFault } from '../natlab/nemesis-plan.ts'
import { startLoad, startLoadPeer } from './load.ts'
import type { Load, LoadPeer } from './load.ts'
import type { Verdict } from './history.ts'

/** The world. */
export interface SoakWorld {
  readonly lab: Lab
  readonly pair: Pair
  readonly load: Load
  readonly nemesis: Nemesis
  readonly peers: readonly LoadPeer[]
  readonly watches: { office: SessionWatch, laptop: SessionWatch }
  /** Runs a plan to its end; every fault is undone then. `say` gets a line for each. */
  runPlan: (plan: readonly PlannedFault[], say: (line: string) => void) => Promise<void>
  /** Waits until both answer each other's ping; gives the milliseconds. */
  reachable: (deadlineMs: number) => Promise<number>
  close: () => Promise<void>
}

/** What it is like. */
export interface SoakWorldInit {
  seed: number
  laptop: NatFlavour
  hangMs: number
  bytesPerSecond: number
  /** Further arguments of Node for the process of this role: office, laptop, relay1, … */
  nodeArguments?: (role: string) => readonly string[]
}

const RELAY_COUNT = 2
/** Each line, in each direction: four of them make a round trip of 80 ms. */
const LINE_DELAY_MS = 20

/** Builds it. */
export async function openSoakWorld (init: SoakWorldInit): Promise<SoakWorld> {
  const stops: Array<() => Promise<unknown>> = []
  const close = async (): Promise<void> => { for (const stop of stops.splice(0).reverse()) await stop() }
  try {
    const lab = await openLab({ laptop: init.laptop, relayCount: RELAY_COUNT, line: { delayMs: LINE_DELAY_MS } })
    stops.push(lab.close)
    const pair = await startPair(lab, { relayCount: RELAY_COUNT, ...(init.nodeArguments === undefined ? {} : { nodeArguments: init.nodeArguments }) })
    stops.push(pair.stop)
    await pair.befriend()
    const office = await startLoadPeer(lab.office)
    stops.push(office.program.stop)
    const laptop = await startLoadPeer(lab.laptop)
    stops.push(laptop.program.stop)
    const watches = { office: await watchSessions(pair.office), laptop: await watchSessions(pair.laptop) }
    stops.push(watches.office.stop, watches.laptop.stop)
    const load = startLoad({
      seed: init.seed,
      hangMs: init.hangMs,
      bytesPerSecond: init.bytesPerSecond,
      ends: [{ peer: laptop, door: await openForward(pair, 'laptop', office) }, { peer: office, door: await openForward(pair, 'office', laptop) }]
    })
    stops.push(load.stop)
    const nemesis = createNemesis(lab, pair.relays)
    return {
      lab,
      pair,
      load,
      nemesis,
      peers: [office, laptop],
      watches,
      close,
      runPlan: async (plan, say) => runPlan(nemesis, plan, say),
      reachable: async (deadlineMs) => {
        const beganMs = performance.now()
        for (const [from, to] of [[pair.laptop, 'office'], [pair.office, 'laptop']] as const) {
          await waitFor(`${from.name} to reach ${to}`, async () => (await pingFriend(from, to)).rttMs > 0, { deadlineMs, intervalMs: 100 })
        }
        return performance.now() - beganMs
      }
    }
  } catch (err) {
    await close()
    throw err
  }
}

/** The lines that a report of a load begins with. */
export function verdictLines (verdict: Verdict, { startedAtMs, wholeByKind }: Load): string[] {
  const kinds = [...wholeByKind].map(([kind, count]) => `${kind} ${count}`).join(', ')
  const codes = [...verdict.failures].map(([code, count]) => `${code} ${count}`).join(', ')
  return [
    `channels: ${verdict.wholeCount} whole (${kinds}), ${verdict.failedCount} failed with an error${codes === '' ? '' : ` (${codes})`}, ${verdict.halfToldCount} of them after one side had ended`,
    `longest silence of a channel: ${Math.round(verdict.longestSilence.durationMs)} ms (${verdict.longestSilence.channel}, until ${((verdict.longestSilence.untilMs - startedAtMs) / 1000).toFixed(1)} s)`,
    ...verdict.violations.map(({ channel, what }) => `VIOLATION ${channel}: ${what}`)
  ]
}

/** Lanes beside each other; a fault that takes longer (a relay starts in its own time) makes the rest of its lane late. */
async function runPlan (nemesis: Nemesis, plan: readonly PlannedFault[], say: (line: string) => void): Promise<void> {
  const beganMs = performance.now()
  const state = { hasFailed: false }
  const lanes = [...new Set(plan.map(({ lane }) => lane))].map(async (lane) => {
    for (const { startMs, durationMs, fault } of plan.filter((planned) => planned.lane === lane)) {
      await pause(Math.max(0, beganMs + startMs - performance.now()))
      if (state.hasFailed) return
      say(`${((performance.now() - beganMs) / 1000).toFixed(1).padStart(6)} s: ${describeFault(fault)}, ${(durationMs / 1000).toFixed(1)} s`)
      try {
        await nemesis.run(fault, durationMs)
      } catch (err) {
        state.hasFailed = true
        throw new Error(`${describeFault(fault)}: ${err instanceof Error ? err.message : String(err)}`, { cause: err })
      }
    }
  })
  const failed = (await Promise.allSettled(lanes)).find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason as Error
}

/** A forward from one to the load's service at the other. */
async function openForward (pair: Pair, from: 'office' | 'laptop', service: LoadPeer): Promise<{ host: string, port: number }> {
  const [here, there, thereName] = from === 'laptop' ? [pair.laptop, pair.office, 'office'] : [pair.office, pair.laptop, 'laptop']
  await there.json('serve', 'load', String(service.port), '--allow', from)
  const { listen, state } = await here.json<{ listen: string, state: string }>('forward', '0', `${thereName}/load`)
  if (state !== 'active') throw new Error(`the forward of the ${from} is ${state}`)
  const [host = '', port = ''] = listen.split(':')
  return { host, port: Number(port) }
}
