/** Two who have no relay in common, each behind a router through which nobody punches, 80 ms apart: their relays know each other. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { it } from 'node:test'
import { createRelay } from '../support/bootstrap.ts'
import { createDaemon } from '../support/daemon.ts'
import type { Daemon } from '../support/daemon.ts'
import { isReserved, waitOnline } from '../support/friends-pair.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, timed, waitFor } from '../support/wait.ts'
import { describeInLab } from './lab-obstacle.ts'
import { openLab } from './lab.ts'

/** What the issue aims at; printed, and not asserted: process starts are part of it here. */
const FIND_MS = 3_000

describeInLab('friends without a relay in common', () => {
  it('become friends by an address alone, and find each other again when one moves to another relay while both are away', async (t) => {
    const undo: Array<() => Promise<void>> = []
    t.after(async () => { for (const end of undo.toReversed()) await end() })
    const lab = await openLab({ office: 'sym', laptop: 'sym', relayCount: 2, line: { delayMs: 20 } })
    undo.push(lab.close)
    const directory = makeTempDirectory('records')
    const [place, other] = lab.relays
    assert.ok(place !== undefined && other !== undefined)
    const ofOffice = await createRelay({ place, dataDirectory: join(directory, 'relay1') })
    undo.push(ofOffice.stop)
    await ofOffice.start()
    const ofLaptop = await createRelay({ place: other, dataDirectory: join(directory, 'relay2'), peers: [ofOffice.address()] })
    undo.push(ofLaptop.stop)
    await ofLaptop.start()
    const third = await createRelay({ place: lab.cafe, dataDirectory: join(directory, 'relay3'), peers: [ofOffice.address(), ofLaptop.address()] })
    undo.push(third.stop)
    await third.start()
    const start = async (name: 'office' | 'laptop', relays: string[]): Promise<Daemon> => {
      const daemon = createDaemon({ name, dataDirectory: join(directory, name), place: lab[name], relays })
      await daemon.start()
      undo.push(daemon.stop)
      await waitFor(`a relay for ${name}`, async () => isReserved(daemon), { deadlineMs: PATIENCE_MS })
      return daemon
    }
    const office = await start('office', [ofOffice.address()])
    let laptop = await start('laptop', [ofLaptop.address()])
    const { address } = await office.json<{ address: string }>('id')
    const { did: laptopDid } = await laptop.json<{ did: string }>('id')
    const { did: officeDid } = await laptop.json<{ did: string }>('friend', 'add', address)
    await waitFor('the friend request to arrive', async () => (await office.status()).requestCount === 1, { deadlineMs: PATIENCE_MS })
    await office.json('friend', 'accept', laptopDid)
    await office.json('friend', 'label', laptopDid, 'laptop')
    await laptop.json('friend', 'label', officeDid, 'office')
    await Promise.all([waitOnline(office, 'laptop'), waitOnline(laptop, 'office')])

    // each knows the other's relay now: both restart at the same time
    await Promise.all([office.kill(), laptop.kill()])
    await Promise.all([office.start(), laptop.start()])
    const again = await timed(async () => Promise.all([waitOnline(office, 'laptop'), waitOnline(laptop, 'office')]))
    console.log(`both restarted: a session ${Math.round(again.elapsedMs)} ms after both answered (aim ${FIND_MS})`)

    // the laptop comes back on a relay that the office has never heard of
    await laptop.stop()
    laptop = await start('laptop', [third.address()])
    const moved = await timed(async () => waitOnline(office, 'laptop'))
    console.log(`moved to another relay: a session ${Math.round(moved.elapsedMs)} ms after the reservation (aim ${FIND_MS})`)
    const { rttMs } = await office.json<{ rttMs: number }>('ping', 'laptop')
    assert.ok(rttMs > 0)
  })
})
