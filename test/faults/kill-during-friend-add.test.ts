/** The long form of the kill test: about 3.5 minutes. CARRIER_KILL_SEED repeats the instants of a run. */
import { test } from 'node:test'
import { killDuringFriendAdd } from '../support/kill-scenario.ts'
import { openLoopback } from '../support/network.ts'

test('I7: 50 times kill -9 of either daemon during friend add: it always starts again, state old or new', async () => {
  const seed = Number(process.env['CARRIER_KILL_SEED'] ?? Math.floor(Math.random() * 2 ** 32))
  console.log(`kill during friend add: seed ${seed}`)
  await killDuringFriendAdd(openLoopback(), { rounds: 50, seed })
})
