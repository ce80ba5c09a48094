/** A relay under every attack, each alone and all together, beside control runs; in short, for CI. The long form is `npm run test:hostile`. */
import { test } from 'node:test'
import { ATTACKS } from './attacks.ts'
import { rowOf, runHostile, TABLE_HEAD } from './hostile-scenario.ts'
import { judgeFresh, judgeService, judgeSound } from './judge.ts'

const WINDOW_MS = 4_000
/** The long form sends 10,000. */
const KEYS_PER_SECOND = 20

test('I8 I9: under every attack the relay lives, counts what it refuses, and serves honest peers about as in the control runs', { timeout: 880_000 }, async () => {
  const result = await runHostile({ attacks: ATTACKS, rounds: 1, windowMs: WINDOW_MS, keysPerSecond: KEYS_PER_SECOND, report: (line) => { console.log(`hostile: ${line}`) } })
  console.log(`${TABLE_HEAD}\n${result.results.map(rowOf).join('\n')}`)
  judgeSound(result)
  judgeFresh(result, KEYS_PER_SECOND * WINDOW_MS / 1000)
  judgeService(result)
})
