/** Faults in short, on loopback; the long forms are `npm run test:faults`, the lab's are `npm run test:lab`. */
import { describe, it } from 'node:test'
import { killDuringFriendAdd } from '../support/kill-scenario.ts'
import { openLoopback } from '../support/network.ts'
import { oneOfTwoRelaysDead, relayRestart, relayStartedLater } from '../support/relay-scenarios.ts'

describe('faults, in short', () => {
  it('I7: 5 times kill -9 of either daemon during friend add: it starts again, state old or new', async () => {
    await killDuringFriendAdd(openLoopback(), { rounds: 5 })
  })
  it('a relay that is started after the nodes makes both reachable', async () => {
    await relayStartedLater(openLoopback(), 0)
  })
  it('a relay that was killed and comes back after 5 s brings the friends together again', async () => {
    await relayRestart(openLoopback(), 5000)
  })
  it('one of two relays killed: nothing hangs', async () => {
    await oneOfTwoRelaysDead(openLoopback(), async (pair, index) => { await pair.relays[index]?.kill() })
  })
})
