/**
 * `npm run bench`: what Carrier moves, beside what people use today, in one run. A report, not a test: gates that are missed
 * are said at the end and the exit code stays 0. Only figures of the same run may be compared.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runLoopback } from './loopback.ts'
import { runMemory } from './memory.ts'
import { formatFacts, machineFacts } from './report.ts'
import { runWan } from './wan.ts'

const HELP = `usage: npm run bench -- [--wan] [--memory] [--all] [--quick] [--rounds N] [--seconds S] [--only TEXT] [--json FILE]
  (no mode)     Carrier and all baselines side by side on this machine, and the gates
  --wan         the emulated wide area (Linux, root)
  --memory      memory of idle sessions and channels
  --all         all three
  --quick       2 short rounds: shows that everything runs, no figures to quote
  --rounds N    rounds per subject; at least 7 for figures that are quoted (default 7)
  --seconds S   length of each bulk transfer without --wan (default 1)
  --only TEXT   subjects whose name contains TEXT, or one of several: a,b; cable: those of the direct gates
  --json FILE   writes rounds, medians, gates and the facts of the machine
`

const { values } = parseArgs({
  options: {
    wan: { type: 'boolean', default: false },
    memory: { type: 'boolean', default: false },
    all: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string', default: '' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false }
  }
})
const rounds = Number(values.rounds ?? (values.quick ? 2 : 7))
const seconds = Number(values.seconds ?? (values.quick ? 0.3 : 1))
if (values.help || !Number.isInteger(rounds) || rounds < 1 || !(seconds > 0)) {
  console.log(HELP)
  process.exitCode = values.help ? 0 : 2
} else await run()

async function run (): Promise<void> {
  const machine = machineFacts(new Date())
  console.log(formatFacts(machine))
  const report: Record<string, unknown> = { machine, isQuick: values.quick }
  const isDefault = !(values.wan || values.memory)
  const modes: ReadonlyArray<readonly [name: string, isWanted: boolean, mode: () => Promise<unknown>]> = [
    ['loopback', values.all || isDefault, async () => runLoopback({ rounds, seconds, only: values.only })],
    ['wideArea', values.all || values.wan, async () => runWan(values.quick ? { rounds: 1, bulkMs: 2000 } : { rounds: Math.max(3, Math.min(rounds, 5)), bulkMs: 6000 })],
    ['memory', values.all || values.memory, async () => runMemory(values.quick ? { sessions: 5, channels: 100 } : { sessions: 40, channels: 800 })]
  ]
  for (const [name, isWanted, mode] of modes) {
    if (!isWanted) continue
    try {
      report[name] = await mode()
    } catch (err) {
      // what the other modes measured is still worth printing
      const failure = err instanceof Error ? err.message : String(err)
      report[name] = { failed: failure }
      console.error(`bench: ${name} failed: ${failure}`)
      process.exitCode = 1
    }
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, undefined, 2)}\n`)
}
