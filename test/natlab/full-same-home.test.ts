/** Two nodes behind the same router: nobody told them of each other's address in there, until one of them listens. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { createControlClient } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import { startPair } from '../support/friends-pair.ts'
import type { Pair, PairInit } from '../support/friends-pair.ts'
import { startTcpService } from '../support/tcp-load.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'

describeInLab('two nodes behind the same router', () => {
  it('by default they are relayed, and "why" says what to switch on', async () => {
    await withPair({}, async (pair) => {
      // whoever controls the session makes the attempts and knows how they ended
      const said = await waitFor('the end of the punch, which no such router lets through', async () => {
        const ways = await Promise.all([why(pair.office, 'laptop'), why(pair.laptop, 'office')])
        return ways.some(({ reasons }) => reasons.some(({ way, state }) => way === 'punch' && state === 'failed')) ? ways : undefined
      }, { deadlineMs: PATIENCE_MS, intervalMs: 200 })
      for (const { path } of said) assert.match(String(path), /^(relayed|spliced)$/)
      assert.ok(said.some(({ advice }) => advice.some((text) => text.includes('--listen lan'))), JSON.stringify(said))
    })
  })

  for (const listening of ['office', 'laptop'] as const) {
    it(`with --listen lan at the ${listening} they are direct`, async () => {
      await withPair({ [listening]: { listen: 'lan' } }, async (pair) => {
        await waitFor('the direct link', async () => (await Promise.all([pair.office, pair.laptop].map(async (daemon) => daemon.status()))).every(({ friends: [friend] }) => friend?.link === 'direct' && friend.path === 'lan'), { deadlineMs: PATIENCE_MS, intervalMs: 50 })
      })
    })
  }
})

/** Friends with a forward in use: for sessions in use a better way is looked for. */
async function withPair (init: PairInit, run: (pair: Pair, lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab({ isSameHome: true, relayCount: 2, line: { delayMs: 20 } })
  try {
    const service = await startTcpService({ place: lab.office })
    const pair = await startPair(lab, { relayCount: 2, ...init })
    await pair.befriend()
    await pair.office.json('serve', 'echo', String(service.port), '--allow', 'laptop')
    await pair.laptop.json('forward', '0', 'office/echo')
    await run(pair, lab)
    await pair.stop()
  } finally {
    // ends the programs inside too
    await lab.close()
  }
}

async function why (daemon: Pair['office'], who: string): Promise<MethodOutput<'friend.why'>> {
  return createControlClient(daemon).call('friend.why', { to: who })
}
