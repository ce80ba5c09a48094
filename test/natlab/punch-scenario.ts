/** A path that was punched is cut in the middle of a transfer: the relays take over, and the path comes back (issue: fall back, upgrade again). */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { MethodOutput } from '../../src/control/client/index.ts'
import type { Daemon } from '../support/daemon.ts'
import { openTransferForward } from '../support/resume-scenarios.ts'
import { startPair } from '../support/friends-pair.ts'
import { printFigure } from '../support/statistics.ts'
import { assertWhole, longestGapMs, startTransfer, startTransferService } from '../support/transfer.ts'
import { waitFor, within } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { loadRuleset } from './namespace.ts'

/** Figures that the issue asks for. */
const FALL_BACK_MS = 5_000
const BACK_AGAIN_MS = 60_000
const CUT_MS = 8_000

/** Registers it as one suite. */
export function describePunch (init: { bytesPerSecond: number }): void {
  describeInLab('a punched path, 80 ms of round trip', () => {
    it('I5: cut during a transfer: the relays take over, every byte arrives, and it is punched again', async () => {
      const lab = await openLab({ relayCount: 2, line: { delayMs: 20 } })
      const stops: Array<() => Promise<void>> = [async () => { await lab.close() }]
      try {
        const pair = await startPair(lab, { relayCount: 2 })
        stops.push(pair.stop)
        await pair.befriend()
        const service = await startTransferService(lab.office)
        stops.push(service.stop)
        const target = await openTransferForward(pair, service)
        const pathIs = async (path: string): Promise<boolean> => (await pair.laptop.status()).friends.some((friend) => friend.path === path)
        const transfer = startTransfer(lab.laptop, service, target, { bytesPerSecond: init.bytesPerSecond })
        stops.push(transfer.stop)
        await transfer.reached(init.bytesPerSecond, 60_000)
        await waitFor('the punched path', async () => pathIs('punched'), { deadlineMs: 60_000, intervalMs: 50 })

        await cut(lab)
        const cutMs = performance.now()
        await waitFor('another path', async () => !await pathIs('punched'), { deadlineMs: 60_000, intervalMs: 20 })
        await within('the rest of the cut', 2 * CUT_MS, new Promise((resolve) => { setTimeout(resolve, Math.max(0, CUT_MS - (performance.now() - cutMs))) }))
        await mend(lab)
        const mendedMs = performance.now()
        await waitFor('the punched path again', async () => pathIs('punched'), { deadlineMs: 3 * BACK_AGAIN_MS, intervalMs: 50 })
        printFigure('natlab: punched path back after its cut ended', performance.now() - mendedMs, 'ms', `${BACK_AGAIN_MS} ms`)

        // a direction without a length goes on until it is told
        transfer.finish()
        const ends = await transfer.ends(300_000)
        assertWhole(ends)
        const gapMs = longestGapMs(ends)
        printFigure('natlab: punched path cut during a transfer: longest time without a byte', gapMs, 'ms', `${FALL_BACK_MS} ms`)
        assert.ok(gapMs <= 3 * FALL_BACK_MS, `${gapMs} ms without a byte`)
      } finally {
        for (const stop of stops.reverse()) await stop()
      }
    })

    it('"netcheck" tells the routers apart, and "why" says who stands in the way', async () => {
      const lab = await openLab({ laptop: 'sym', relayCount: 2 })
      const stops: Array<() => Promise<void>> = [async () => { await lab.close() }]
      try {
        const pair = await startPair(lab, { relayCount: 2 })
        stops.push(pair.stop)
        await pair.befriend()
        const natOf = async (daemon: Daemon): Promise<string> => (await daemon.json<MethodOutput<'node.netcheck'>>('netcheck')).nat
        await waitFor('both relays at the office', async () => await natOf(pair.office) === 'independent', { deadlineMs: 60_000, intervalMs: 500 })
        await waitFor('both relays at the laptop', async () => await natOf(pair.laptop) === 'dependent', { deadlineMs: 60_000, intervalMs: 500 })
        // whoever controls the session makes the attempts and knows how they ended
        const said = async (): Promise<string[]> => (await Promise.all([pair.office.json<MethodOutput<'friend.why'>>('why', 'laptop'), pair.laptop.json<MethodOutput<'friend.why'>>('why', 'office')]))
          .flatMap(({ reasons }) => reasons.filter(({ way }) => way === 'punch').map(({ text }) => text))
        await pair.laptop.json('ping', 'office')
        await waitFor('the reason', async () => (await said()).some((text) => /gives every destination another port/.test(text)), { deadlineMs: 60_000, intervalMs: 500 })
      } finally {
        for (const stop of stops.reverse()) await stop()
      }
    })
  })
}

/** Packets between the two homes are dropped; those to the relays are not. */
async function cut (lab: Lab): Promise<void> {
  const [one, other] = [lab.officeNat.address, lab.laptopNat.address]
  await loadRuleset(lab.internet, `
table ip cut {
  chain forward {
    type filter hook forward priority 0;
    ip saddr ${one} ip daddr ${other} drop
    ip saddr ${other} ip daddr ${one} drop
  }
}
`)
}

async function mend (lab: Lab): Promise<void> {
  await loadRuleset(lab.internet, 'delete table ip cut\n')
}
