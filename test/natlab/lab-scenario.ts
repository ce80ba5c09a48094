/** The lab examined with plain TCP: what later scenarios conclude from it is only worth as much as this. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { it } from 'node:test'
import { createMarkerFinder, findInMemory } from '../support/marker.ts'
import { startLoadGenerator, startTcpService } from '../support/tcp-load.ts'
import { segmentsOf, startCapture } from './capture.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { NAT_FLAVOURS } from './nat-flavours.ts'
import type { NatFlavour } from './nat-flavours.ts'

const LOCAL_PORT = 5555
const SERVICE_PORT = 4001

/** What a router of each flavour lets happen: seen from the office and from outside. */
const EXPECTED: Record<NatFlavour, { outbound: number[], samePort: boolean | undefined, officeIsFound: boolean }> = {
  eim: { outbound: [443, SERVICE_PORT], samePort: true, officeIsFound: false },
  fullcone: { outbound: [443, SERVICE_PORT], samePort: true, officeIsFound: true },
  sym: { outbound: [443, SERVICE_PORT], samePort: false, officeIsFound: false },
  corp443: { outbound: [443], samePort: undefined, officeIsFound: false }
}

/** Registers the examination as one suite. */
export function describeLab (init: { flavours: readonly NatFlavour[] }): void {
  describeInLab('the lab', () => {
    for (const flavour of init.flavours) {
      it(`a ${flavour} router: ${NAT_FLAVOURS[flavour].meaning}`, async () => {
        await withLab({ office: flavour, relayCount: 2 }, async (lab) => { await examineRouter(lab, flavour) })
      })
    }

    it('the tap sees a marker that is sent in the clear, and memory that holds one is found', async () => {
      await withLab({}, async (lab) => {
        const marker = randomBytes(1 << 20)
        const finder = createMarkerFinder(marker)
        await startTcpService({ place: relay(lab, 0), host: '0.0.0.0', port: SERVICE_PORT })
        const load = startLoadGenerator({ place: lab.laptop })
        const capture = await startCapture(lab.internet, relay(lab, 0).name)
        assert.ok((await load.send({ host: relay(lab, 0).address, port: SERVICE_PORT }, marker)).isEqual)
        const recording = await capture.stop()
        assert.ok(segmentsOf(recording).reduce((sum, segment) => sum + segment.payload.length, 0) >= marker.length)
        assert.notEqual(finder.find(recording), undefined)
        assert.notEqual(findInMemory(finder, load.program.pid).found, undefined)
        assert.equal(createMarkerFinder(randomBytes(1 << 20)).find(recording), undefined)
      })
    })

    it('an access line has the delay that it was given, and can become a black hole and come back', async () => {
      await withLab({ line: { delayMs: 20 } }, async (lab) => {
        await startTcpService({ place: relay(lab, 0), host: '0.0.0.0', port: SERVICE_PORT })
        const load = startLoadGenerator({ place: lab.office })
        const target = { host: relay(lab, 0).address, port: SERVICE_PORT }
        const { p50Ms } = await load.roundTrip(target, 64, 300)
        assert.ok(p50Ms >= 40 && p50Ms < 60, `round trip ${p50Ms} ms`)
        lab.lines.office?.shape({ lossRatio: 1 })
        assert.equal((await load.scan(target.host, SERVICE_PORT, SERVICE_PORT, { timeoutMs: 500 })).silent, 1)
        lab.lines.office?.shape({ lossRatio: 0 })
        assert.deepEqual((await load.scan(target.host, SERVICE_PORT, SERVICE_PORT, { timeoutMs: 5000 })).open, [SERVICE_PORT])
      })
    })
  })
}

async function examineRouter (lab: Lab, flavour: NatFlavour): Promise<void> {
  const expected = EXPECTED[flavour]
  for (const port of [443, SERVICE_PORT]) {
    for (const index of [0, 1]) await startTcpService({ place: relay(lab, index), host: '0.0.0.0', port })
  }
  const office = startLoadGenerator({ place: lab.office })
  const reached: number[] = []
  for (const port of [443, SERVICE_PORT]) reached.push(...(await office.scan(relay(lab, 0).address, port, port, { timeoutMs: 300 })).open)
  assert.deepEqual(reached, expected.outbound)
  if (expected.samePort !== undefined) {
    const seen = [0, 1].map(async (index) => office.exchange({ host: relay(lab, index).address, port: SERVICE_PORT }, 'W', LOCAL_PORT))
    const [first, second] = await Promise.all(seen)
    assert.equal(first?.split(':')[0], lab.officeNat.address, 'the source address is not the router\'s')
    assert.equal(first === second, expected.samePort)
  }
  await startTcpService({ place: lab.office, host: '0.0.0.0', port: SERVICE_PORT })
  const cafe = startLoadGenerator({ place: lab.cafe })
  const found = await cafe.scan(lab.officeNat.address, SERVICE_PORT - 1, SERVICE_PORT + 1)
  assert.deepEqual(found.open, expected.officeIsFound ? [SERVICE_PORT] : [])
}

async function withLab (init: Parameters<typeof openLab>[0], run: (lab: Lab) => Promise<void>): Promise<void> {
  const lab = await openLab(init)
  try {
    await run(lab)
  } finally {
    // ends the programs inside too
    await lab.close()
  }
}

function relay (lab: Lab, index: number): Lab['cafe'] {
  const place = lab.relays[index]
  if (place === undefined) throw new Error(`the lab has no relay ${index + 1}`)
  return place
}
