/**
 * `npm run bench`: all subjects side by side in one run, in alternating order, medians over the rounds.
 * Load generator and service are processes of their own; only figures of the same run may be compared.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startLoadGenerator } from '../support/tcp-load.ts'
import { measureRound } from './measure.ts'
import type { RoundInit } from './measure.ts'
import { formatTable, machineFacts, summarize } from './report.ts'
import type { SubjectResult } from './report.ts'
import { SUBJECTS } from './subjects.ts'
import type { RunningSubject } from './subjects.ts'

const HELP = `usage: npm run bench -- [--rounds N] [--seconds S] [--only TEXT] [--json FILE]
  --rounds N    rounds per subject, at least 5 for figures that are quoted (default 5)
  --seconds S   length of each bulk transfer (default 1)
  --only TEXT   subjects whose name contains TEXT
  --json FILE   writes medians, rounds and machine facts
`

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false }
  }
})
const roundCount = Number(values.rounds)
const seconds = Number(values.seconds)
if (values.help || !Number.isInteger(roundCount) || roundCount < 1 || !(seconds > 0)) {
  console.log(HELP)
  process.exitCode = values.help ? 0 : 2
} else {
  await run({ bulkMs: seconds * 1000, roundTripMs: seconds * 500, connectMs: seconds * 500 })
}

async function run (init: RoundInit): Promise<void> {
  const facts = machineFacts(new Date())
  console.log(`${facts.date} · ${facts.cores} × ${facts.cpu}, ${facts.memoryGigabytes} GB · Linux ${facts.kernel} · Node ${facts.node} · commit ${facts.commit ?? 'unknown'}`)
  const load = startLoadGenerator()
  const results: SubjectResult[] = []
  const running: Array<{ result: SubjectResult, subject: RunningSubject }> = []
  try {
    for (const { name, start } of SUBJECTS.filter((subject) => subject.name.includes(values.only))) {
      const subject = await start()
      const result: SubjectResult = typeof subject === 'string' ? { name, rounds: [], notRun: subject } : { name, rounds: [] }
      results.push(result)
      if (typeof subject === 'string') console.log(`${name}: not run: ${subject}`)
      else running.push({ result, subject })
    }
    // the first round warms up every process and is not counted
    for (let round = 0; round <= roundCount; round++) {
      for (const { result, subject } of rotate(running, round)) {
        const figures = await measureRound(load, subject, init)
        if (round > 0) result.rounds.push(figures)
      }
      console.log(round === 0 ? 'warmed up' : `round ${round} of ${roundCount}`)
    }
  } finally {
    for (const { subject } of running) await subject.stop()
    await load.stop()
  }
  console.log(`\nmedians of ${roundCount} rounds, ${init.bulkMs / 1000} s each\n\n${formatTable(results)}`)
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine: facts, roundSeconds: seconds, results: summarize(results) }, undefined, 2)}\n`)
}

function rotate<T> (items: readonly T[], by: number): T[] {
  const start = items.length === 0 ? 0 : by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}
