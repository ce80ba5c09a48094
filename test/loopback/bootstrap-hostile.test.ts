/** A relay process under all attacks of the hostile stage at once, for a moment: it lives, keeps an honest transfer and counts what it refuses. Figures: see test/hostile. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ATTACKS } from '../hostile/attacks.ts'
import { rowOf, runHostile } from '../hostile/hostile-scenario.ts'
import { judgeSound } from '../hostile/judge.ts'

test('I8: everything at once: no crash, the honest transfer goes on, and every refusal is counted', { timeout: 280_000 }, async () => {
  const result = await runHostile({ attacks: ATTACKS.slice(-1), rounds: 1, windowMs: 4_000, keysPerSecond: 10, report: () => {} })
  console.log(result.results.map(rowOf).join('\n'))
  judgeSound(result)
  const [all] = result.results
  assert.ok(all !== undefined && all.seen.made > 100, 'the attackers attacked')
  assert.ok(all.counted.sockets > 20 && all.counted.spliceSockets > 20, 'and were refused')
})
