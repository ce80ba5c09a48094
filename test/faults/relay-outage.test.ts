/** A relay that is away for two minutes, longer than any retry budget of the stock library. */
import { test } from 'node:test'
import { openLoopback } from '../support/network.ts'
import { relayRestart, relayStartedLater } from '../support/relay-scenarios.ts'

const TWO_MINUTES_MS = 120_000

test('a relay that was killed and comes back after 2 min brings the friends together again', async () => {
  await relayRestart(openLoopback(), TWO_MINUTES_MS)
})

test('a relay that is started 2 min after the nodes makes both reachable', async () => {
  await relayStartedLater(openLoopback(), TWO_MINUTES_MS)
})
