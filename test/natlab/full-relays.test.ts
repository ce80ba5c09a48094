/** Relays that come late, come back, die, or fall into a black hole, for nodes behind NAT. */
import { it } from 'node:test'
import { oneOfTwoRelaysDead, relayRestart, relayStartedLater } from '../support/relay-scenarios.ts'
import { describeInLab } from './lab-obstacle.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { loadRuleset } from './namespace.ts'

describeInLab('relays and nodes behind NAT', () => {
  it('a relay that is started after the nodes makes both reachable', async () => {
    await withLab(1, async (lab) => { await relayStartedLater(lab, 10_000) })
  })
  it('a relay that was killed and comes back after 20 s brings the friends together again', async () => {
    await withLab(1, async (lab) => { await relayRestart(lab, 20_000) })
  })
  it('one of two relays killed: nothing hangs', async () => {
    await withLab(2, async (lab) => {
      await oneOfTwoRelaysDead(lab, async (pair, index) => { await pair.relays[index]?.kill() })
    })
  })
  it('one of two relays in a black hole, where packets vanish without an answer: nothing hangs', async () => {
    await withLab(2, async (lab) => {
      await oneOfTwoRelaysDead(lab, async (_pair, index) => { await dropPackets(lab, index) })
    })
  })
})

async function dropPackets (lab: Lab, relayIndex: number): Promise<void> {
  const device = lab.relays[relayIndex]?.name ?? ''
  await loadRuleset(lab.internet, `table inet hole { chain forward { type filter hook forward priority 0; iifname "${device}" drop; oifname "${device}" drop; }; }\n`)
}

async function withLab (relayCount: 1 | 2, run: (lab: Lab) => Promise<void>): Promise<void> {
  // a router through which nobody punches: the relays have to carry everything
  const lab = await openLab({ laptop: 'sym', relayCount })
  try {
    await run(lab)
  } finally {
    await lab.close()
  }
}
