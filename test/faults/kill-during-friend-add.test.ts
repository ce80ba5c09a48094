/** The long form of the kill test. */
import { test } from 'node:test'
import { killDuringFriendAdd } from '../support/kill-scenario.ts'
import { openLoopback } from '../support/network.ts'

test('I7: 50 times kill -9 of either daemon during friend add: it always starts again, state old or new', async () => {
  await killDuringFriendAdd(openLoopback(), { rounds: 50, seed: Math.floor(Math.random() * 2 ** 32) })
})
