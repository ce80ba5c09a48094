/** A home without internet: friends in it find each other by themselves, at addresses that nobody told them. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { startPair, waitOnline } from '../support/friends-pair.ts'
import { mustRun } from '../support/program.ts'
import { printFigure } from '../support/statistics.ts'
import { PATIENCE_MS, timed, waitFor } from '../support/wait.ts'
import { openLab, UPLINK } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'

/** Registers it as one suite. */
export function describeLocalNetwork (): void {
  describeInLab('one home, both listen in the local network', () => {
    it('the internet is gone and the office has another address: the laptop finds it', async () => {
      const lab = await openLab({ isSameHome: true })
      const stops: Array<() => Promise<void>> = [async () => { await lab.close() }]
      try {
        const pair = await startPair(lab, { office: { listen: 'lan' }, laptop: { listen: 'lan' } })
        stops.push(pair.stop)
        await pair.befriend()
        await pair.office.stop()
        await pair.laptop.stop()
        for (const relay of pair.relays) await relay.stop()
        await mustRun('ip', ['-n', lab.officeNat.netns, 'link', 'set', 'wan', 'down'])
        await mustRun('ip', ['-n', lab.office.netns, '-batch', '-'], { input: `addr del 10.1.0.2/24 dev ${UPLINK}\naddr add 10.1.0.77/24 dev ${UPLINK}\nroute replace default via 10.1.0.1\n` })
        await pair.office.start()
        await pair.laptop.start()
        const { elapsedMs } = await timed(async () => { await Promise.all([waitOnline(pair.office, 'laptop'), waitOnline(pair.laptop, 'office')]) })
        printFigure('natlab: friends in a home without internet, found at an unknown address after', elapsedMs, 'ms')
        const { path } = await pair.laptop.json<{ path: string }>('ping', 'office')
        assert.equal(path, 'lan')

        // another address while both run
        await mustRun('ip', ['-n', lab.office.netns, '-batch', '-'], { input: `addr del 10.1.0.77/24 dev ${UPLINK}\naddr add 10.1.0.78/24 dev ${UPLINK}\nroute replace default via 10.1.0.1\n` })
        const listens = async (): Promise<boolean> => (await pair.office.status()).listen.some((address) => address.startsWith('/ip4/10.1.0.78/'))
        await waitFor('the listener to follow', listens, { deadlineMs: PATIENCE_MS })
        const moved = await timed(async () => {
          await waitFor('an answer', async () => (await pair.laptop.cli('ping', 'office')).exitCode === 0, { deadlineMs: 2 * PATIENCE_MS })
        })
        printFigure('natlab: the office got another address in a home without internet: answers after', moved.elapsedMs, 'ms')
      } finally {
        for (const stop of stops.reverse()) await stop()
      }
    })
  })
}
