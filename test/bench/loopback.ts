/** All subjects side by side in one run on one machine, in an order that turns with the rounds. */
import { openLoopback } from '../support/network.ts'
import type { TestNetwork } from '../support/network.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import type { LoadGenerator } from '../support/tcp-load.ts'
import { within } from '../support/wait.ts'
import { openCable } from './cable.ts'
import { formatGates, GATES, judge } from './gates.ts'
import { measureRound } from './measure.ts'
import type { RoundInit } from './measure.ts'
import { formatTable, summarize } from './report.ts'
import type { SubjectResult } from './report.ts'
import { SUBJECTS } from './subjects.ts'
import type { NetworkName, RunningSubject, Subject } from './subject.ts'

/** What to run. */
export interface LoopbackInit { rounds: number, seconds: number, only: string }

interface Runner { result: SubjectResult, subject: RunningSubject, site: Site }

/** A network with the load generator at its laptop. */
interface Site { network: TestNetwork, load: LoadGenerator }

/** A subject that fails this often is left out of the rest. */
const MAX_FAILURES = 2
const START_ATTEMPTS = 2
const ROUTE_DEADLINE_MS = 15_000

/** Runs and prints the tables; gives everything for the JSON. */
export async function runLoopback (init: LoopbackInit): Promise<unknown> {
  const roundInit: RoundInit = { bulkMs: init.seconds * 1000, roundTripMs: init.seconds * 500, connectMs: init.seconds * 500 }
  const results: SubjectResult[] = []
  const runners: Runner[] = []
  const sites = new Map<NetworkName, Site | string>()
  try {
    for (const subject of SUBJECTS.filter((one) => init.only.split(',').some((text) => `${one.name}, ${one.on}`.includes(text)))) {
      const result: SubjectResult = { name: subject.name, on: subject.on, rounds: [], routes: [], failures: [] }
      results.push(result)
      const site = sites.get(subject.on) ?? await openSite(subject.on)
      sites.set(subject.on, site)
      const runner = typeof site === 'string' ? site : await startOrSay(result, subject, site)
      if (typeof runner === 'string') result.notRun = runner
      else runners.push(runner)
      console.log(`${subject.name}: ${typeof runner === 'string' ? `not run: ${runner}` : 'up'}`)
    }
    // the first round warms up every process and is not counted
    for (let round = 0; round <= init.rounds; round++) {
      for (const { result, subject, site } of rotate(runners, round)) {
        if (result.failures.length >= MAX_FAILURES) continue
        try {
          const figures = await measureRound(site.load, subject, roundInit)
          if (round > 0) result.rounds[round - 1] = figures
          await noteRoute(result, subject)
        } catch (err) {
          result.failures.push(`round ${round}: ${messageOf(err)}`)
          console.log(`${result.name}: FAILED in round ${round}: ${messageOf(err)}`)
          // the old one may still be busy with what failed
          await site.load.stop()
          site.load = startLoadGenerator({ place: site.network.laptop })
        }
      }
      console.log(round === 0 ? 'warmed up' : `round ${round} of ${init.rounds}`)
    }
  } finally {
    for (const { subject } of runners.toReversed()) await subject.stop()
    for (const site of sites.values()) {
      if (typeof site === 'string') continue
      await site.load.stop()
      await site.network.close()
    }
  }
  for (const result of results) result.rounds = Array.from({ length: init.rounds }, (_round, index) => result.rounds[index])
  const isPart = (name: string): boolean => results.some((result) => result.name === name)
  const gates = judge(GATES.filter(({ ours, baseline }) => isPart(ours) && isPart(baseline)), results)
  console.log(`\nmedians of ${init.rounds} rounds, bulk ${init.seconds} s each; MB = 10^6 bytes\n\n${formatTable(results)}\n\n${formatGates(gates)}`)
  return { rounds: init.rounds, bulkSeconds: init.seconds, results: summarize(results), gates }
}

async function openSite (name: NetworkName): Promise<Site | string> {
  const network = name === 'cable' ? await openCable() : openLoopback()
  return typeof network === 'string' ? network : { network, load: startLoadGenerator({ place: network.laptop }) }
}

async function startOrSay (result: SubjectResult, subject: Subject, site: Site): Promise<Runner | string> {
  for (let attempt = 1; ; attempt++) {
    try {
      const running = await subject.start(site.network)
      return typeof running === 'string' ? running : { result, subject: running, site }
    } catch (err) {
      // a port that was free when it was looked for can be taken a moment later
      if (attempt === START_ATTEMPTS) return `it did not start: ${messageOf(err)}`
    }
  }
}

async function noteRoute (result: SubjectResult, subject: RunningSubject): Promise<void> {
  if (subject.route === undefined) return
  const route = await within('the route', ROUTE_DEADLINE_MS, subject.route()).catch((err: unknown) => `unknown (${messageOf(err)})`)
  if (result.routes.at(-1) !== route) result.routes.push(route)
}

function rotate<T> (items: readonly T[], by: number): T[] {
  const start = items.length === 0 ? 0 : by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}

function messageOf (err: unknown): string {
  return (err instanceof Error ? err.message : String(err)).slice(0, 500)
}
