/** A relay that is away for two minutes, longer than any retry budget of the stock library. About 2.5 minutes: both wait at the same time. */
import { describe, it } from 'node:test'
import { openLoopback } from '../support/network.ts'
import { relayRestart, relayStartedLater } from '../support/relay-scenarios.ts'

const TWO_MINUTES_MS = 120_000

describe('a relay that is away for two minutes', { concurrency: true }, () => {
  it('a relay that was killed and comes back after 2 min brings the friends together again', async () => {
    await relayRestart(openLoopback(), TWO_MINUTES_MS)
  })

  it('a relay that is started 2 min after the nodes makes both reachable', async () => {
    await relayStartedLater(openLoopback(), TWO_MINUTES_MS)
  })
})
