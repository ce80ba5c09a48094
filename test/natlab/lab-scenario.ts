/** The lab examined with plain TCP: what later scenarios conclude from it is only worth as much as this. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { it } from 'node:test'
import { createMarkerFinder, findInMemory } from '../support/marker.ts'
import { mustRun, startProgram } from '../support/program.ts'
import { startLoadGenerator, startTcpService } from '../support/tcp-load.ts'
import { segmentsOf, startCapture } from './capture.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import { NAT_FLAVOURS } from './nat-flavours.ts'
import type { NatFlavour } from './nat-flavours.ts'
import type { Namespace } from './namespace.ts'

const LOCAL_PORT = 5555
const SERVICE_PORT = 4001
/** After so long a port gave no answer: all round trips of this lab take less than a hundredth. */
const SILENCE_MS = 1_500
const ECHO_PROGRAM = join(import.meta.dirname, '..', 'support', 'echo-main.ts')

/** The first bytes of libp2p in the clear: with their length, and without when that went ahead in a packet of its own. */
const GREETINGS = ['\x13/multistream/1.0.0\n', '/multistream/1.0.0\n']

/** What is seen from the office and from outside. */
interface Expected {
  outbound: number[]
  /** Two destinations see the same port of one socket; undefined: it cannot be asked. */
  samePort: boolean | undefined
  officeIsFound: boolean
  udp: 'answered' | 'silent'
  greeting: 'passes' | 'reset'
  /** Between the home's router and the internet stands another one that translates. */
  hasProvider: boolean
}

const OPEN: Expected = { outbound: [443, SERVICE_PORT], samePort: true, officeIsFound: false, udp: 'answered', greeting: 'passes', hasProvider: false }
const ONLY_443: Expected = { ...OPEN, outbound: [443], samePort: undefined, udp: 'silent' }

/** What a router of each flavour lets happen. */
const EXPECTED: Readonly<Record<NatFlavour, Expected>> = {
  fullcone: { ...OPEN, officeIsFound: true },
  eim: OPEN,
  sym: { ...OPEN, samePort: false },
  cgnat: { ...OPEN, hasProvider: true },
  udpblock: { ...OPEN, udp: 'silent' },
  corp443: ONLY_443,
  corpdpi: { ...ONLY_443, greeting: 'reset' }
}

/** Registers the examination as one suite. */
export function describeLab (init: { flavours: readonly NatFlavour[] }): void {
  describeInLab('the lab', () => {
    for (const flavour of init.flavours) {
      it(`a ${flavour} router: ${NAT_FLAVOURS[flavour].meaning}`, async () => {
        await withLab({ office: flavour, relayCount: 2 }, async (lab) => { await examineRouter(lab, flavour) })
      })
    }

    it('a router answers unasked packets with a reset, or not at all', async () => {
      for (const [unasked, verdict] of [['reset', 'refused'], ['drop', 'silent']] as const) {
        await withLab({ unasked }, async (lab) => {
          const cafe = startLoadGenerator({ place: lab.cafe })
          assert.equal((await cafe.scan(lab.officeNat.address, SERVICE_PORT, SERVICE_PORT + 9))[verdict], 10)
        })
      }
    })

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
        assert.ok(p50Ms >= 40 && p50Ms < 80, `round trip ${p50Ms} ms`)
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
  for (const port of [443, SERVICE_PORT]) reached.push(...(await office.scan(relay(lab, 0).address, port, port, { timeoutMs: SILENCE_MS })).open)
  assert.deepEqual(reached, expected.outbound)
  if (expected.samePort !== undefined) {
    const seen = [0, 1].map(async (index) => office.exchange({ host: relay(lab, index).address, port: SERVICE_PORT }, 'W', LOCAL_PORT))
    const [first, second] = await Promise.all(seen)
    assert.equal(first?.split(':')[0], lab.edges.office.address, 'the source address is not the router\'s')
    assert.equal(first === second, expected.samePort)
  }
  assert.equal(lab.edges.office !== lab.officeNat, expected.hasProvider)
  if (expected.hasProvider) {
    await startTcpService({ place: lab.edges.office, host: '0.0.0.0', port: SERVICE_PORT })
    const seenByProvider = await office.exchange({ host: gatewayOf(lab.officeNat.address), port: SERVICE_PORT }, 'W')
    assert.equal(seenByProvider.split(':')[0], lab.officeNat.address, 'the home\'s router does not translate')
  }
  await startEcho(lab.cafe, 443)
  assert.equal((await mustRun(process.execPath, [ECHO_PROGRAM, 'ask', lab.cafe.address, '443'], { place: lab.office })).trim(), expected.udp)
  assert.equal(await office.exchange({ host: lab.cafe.address, port: 443 }, 'GET / HTTP/1.1'), 'GET / HTTP/1.1')
  for (const greeting of GREETINGS) {
    const greeted = office.exchange({ host: lab.cafe.address, port: 443 }, greeting)
    if (expected.greeting === 'passes') assert.equal(await greeted, greeting)
    else await assert.rejects(greeted, /ECONNRESET/)
  }
  await startTcpService({ place: lab.office, host: '0.0.0.0', port: SERVICE_PORT })
  const cafe = startLoadGenerator({ place: lab.cafe })
  const found = await cafe.scan(lab.edges.office.address, SERVICE_PORT - 1, SERVICE_PORT + 1)
  assert.deepEqual(found.open, expected.officeIsFound ? [SERVICE_PORT] : [])
}

async function startEcho (place: Namespace, port: number): Promise<void> {
  await startProgram(process.execPath, [ECHO_PROGRAM, 'serve', place.address, String(port)], { place, name: 'echo' }).line(0)
}

/** The first address of a /24. */
function gatewayOf (address: string): string {
  return address.replace(/\d+$/, '1')
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
