/** A relay that is away for two minutes, longer than any retry budget of the stock library, and for ten. About 10.5 minutes: all wait at the same time. */
import { describe, it } from 'node:test'
import { openLoopback } from '../support/network.ts'
import { relayRestart, relayStartedLater } from '../support/relay-scenarios.ts'

const TWO_MINUTES_MS = 120_000
const TEN_MINUTES_MS = 600_000

describe('a relay that is away for long', { concurrency: true }, () => {
  it('a relay that was killed and comes back after 2 min brings the friends together again', async () => {
    await relayRestart(openLoopback(), TWO_MINUTES_MS)
  })

  it('one that comes back after 10 min does as well', async () => {
    await relayRestart(openLoopback(), TEN_MINUTES_MS)
  })

  it('a relay that is started 2 min after the nodes makes both reachable', async () => {
    await relayStartedLater(openLoopback(), TWO_MINUTES_MS)
  })
})
