/** All subjects side by side in one run on loopback, in an order that turns with the rounds. */
import { startLoadGenerator } from '../support/tcp-load.ts'
import { within } from '../support/wait.ts'
import { formatGates, GATES, judge } from './gates.ts'
import { measureRound } from './measure.ts'
import type { RoundInit } from './measure.ts'
import { formatTable, summarize } from './report.ts'
import type { SubjectResult } from './report.ts'
import { SUBJECTS } from './subjects.ts'
import type { RunningSubject, Subject } from './subject.ts'

/** What to run. */
export interface LoopbackInit { rounds: number, seconds: number, only: string }

interface Runner { result: SubjectResult, subject: RunningSubject }

/** A subject that fails this often is left out of the rest. */
const MAX_FAILURES = 2
const START_ATTEMPTS = 2
const ROUTE_DEADLINE_MS = 15_000

/** Runs and prints the tables; gives everything for the JSON. */
export async function runLoopback (init: LoopbackInit): Promise<unknown> {
  const roundInit: RoundInit = { bulkMs: init.seconds * 1000, roundTripMs: init.seconds * 500, connectMs: init.seconds * 500 }
  let load = startLoadGenerator()
  const results: SubjectResult[] = []
  const runners: Runner[] = []
  try {
    for (const subject of SUBJECTS.filter((one) => init.only.split(',').some((text) => one.name.includes(text)))) {
      const result: SubjectResult = { name: subject.name, rounds: [], routes: [], failures: [] }
      results.push(result)
      const running = await startOrSay(subject)
      if (typeof running === 'string') {
        result.notRun = running
        console.log(`${subject.name}: not run: ${running}`)
      } else {
        runners.push({ result, subject: running })
        console.log(`${subject.name}: up`)
      }
    }
    // the first round warms up every process and is not counted
    for (let round = 0; round <= init.rounds; round++) {
      for (const { result, subject } of rotate(runners, round)) {
        if (result.failures.length >= MAX_FAILURES) continue
        try {
          const figures = await measureRound(load, subject, roundInit)
          if (round > 0) result.rounds[round - 1] = figures
          await noteRoute(result, subject)
        } catch (err) {
          result.failures.push(`round ${round}: ${messageOf(err)}`)
          console.log(`${result.name}: FAILED in round ${round}: ${messageOf(err)}`)
          // the old one may still be busy with what failed
          await load.stop()
          load = startLoadGenerator()
        }
      }
      console.log(round === 0 ? 'warmed up' : `round ${round} of ${init.rounds}`)
    }
  } finally {
    for (const { subject } of runners.toReversed()) await subject.stop()
    await load.stop()
  }
  for (const result of results) result.rounds = Array.from({ length: init.rounds }, (_round, index) => result.rounds[index])
  const gates = judge(GATES, results)
  console.log(`\nmedians of ${init.rounds} rounds, bulk ${init.seconds} s each; MB = 10^6 bytes\n\n${formatTable(results)}\n\n${formatGates(gates)}`)
  return { rounds: init.rounds, bulkSeconds: init.seconds, results: summarize(results), gates }
}

async function startOrSay (subject: Subject): Promise<RunningSubject | string> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await subject.start()
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
