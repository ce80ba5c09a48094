/**
 * `npm run test:soak -- --minutes 30 --seed N --json FILE`: gentle faults under a load in the lab; prints what every process
 * held, and fails when something grew, a channel lied, or the friends do not reach each other at the end.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { namespaceObstacle } from '../natlab/namespace.ts'
import { runSoak } from './soak-scenario.ts'

const DEFAULT_MINUTES = 30

process.exitCode = await main()
// children that are left end with this process
process.exit()

async function main (): Promise<number> {
  const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' }, json: { type: 'string' } } })
  const minutes = Number(values.minutes ?? DEFAULT_MINUTES)
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  if (!(minutes >= 1) || !Number.isSafeInteger(seed)) {
    console.error('--minutes must be 1 or more, --seed a whole number')
    return 2
  }
  const obstacle = namespaceObstacle()
  if (obstacle !== undefined) {
    console.error(`soak: not run: ${obstacle}`)
    return 1
  }
  console.log(`soak: ${minutes} min, seed ${seed}`)
  try {
    const report = await runSoak({ minutes, seed, say: (line) => { console.log(`soak: ${line}`) } })
    const json = JSON.stringify({ ...report, verdict: { ...report.verdict, failures: Object.fromEntries(report.verdict.failures) } })
    if (values.json !== undefined) writeFileSync(values.json, json)
    else console.log(json)
    console.log('soak: ok')
    return 0
  } catch (err) {
    console.error(`soak: FAILED: ${err instanceof Error ? err.message : String(err)}`)
    return 1
  }
}
