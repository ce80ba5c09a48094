/** Ports at a router that speaks PCP, NAT-PMP or UPnP over real sockets; a hostile or useless one is a sentence, never more. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { createMetrics, LIMITS, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import { createPcpNonces, probeDatagrams } from '../../src/node/port-map-datagram.ts'
import { probeUpnp } from '../../src/node/port-map-upnp.ts'
import { createPortMap } from '../../src/node/port-map.ts'
import type { PortMap } from '../../src/node/port-map.ts'
import { startFakeRouter } from '../support/fake-router.ts'
import type { FakeRouter, FakeRouterInit } from '../support/fake-router.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

/** What the waits of the map are multiplied with: those between rounds, and those for an answer. */
interface Hurry { factor: number, answerFactor: number }

interface World { router: FakeRouter, map: PortMap, changes: number, inside: { main: number, link: number | undefined }, hurry: Hurry }

/** The machine's clock, on which the waits of the map can be made short. */
function hastyClock (hurry: Hurry): Clock {
  return { ...systemClock, setTimer: (run, delayMs) => systemClock.setTimer(run, delayMs * (delayMs > LIMITS.portMapRoundMs ? hurry.factor : delayMs >= LIMITS.portMapAskMs ? hurry.answerFactor : 1)) }
}

async function setUp (t: TestContext, init: FakeRouterInit): Promise<World> {
  const router = await startFakeRouter(init)
  const hurry: Hurry = { factor: 1, answerFactor: 1 }
  const clock = hastyClock(hurry)
  const nonces = createPcpNonces()
  const world: World = { router, changes: 0, inside: { main: 4001, link: 4002 }, hurry, map: undefined as never }
  world.map = createPortMap({
    clock,
    log: silentLogger,
    random: () => 0.5,
    interfaces: () => ({}),
    findGateway: async () => ({ router: '127.0.0.1', own: '127.0.0.1' }),
    probes: [
      async (gateway, signal) => probeDatagrams(clock, nonces, gateway, signal, router.port),
      async (gateway, signal) => probeUpnp(clock, gateway, () => 0.5, signal, router.port)
    ],
    ports: () => world.inside,
    onChanged: () => { world.changes++ },
    results: createMetrics().counter('carrier_test_total', 'test', ['result'])
  })
  t.after(async () => {
    await world.map.stop()
    await router.close()
  })
  return world
}

for (const speaks of ['pcp', 'nat-pmp', 'upnp'] as const) {
  test(`${speaks}: both ports are mapped, renewed, moved with ours, and removed at the stop`, async (t) => {
    const world = await setUp(t, { speaks, outsideHost: '203.0.113.5', taken: [4002] })
    const { router, map, hurry } = world
    map.start()
    const outside = await waitFor('the outside address', () => map.outside(), PATIENT)
    assert.equal(outside.host, '203.0.113.5')
    assert.equal(outside.main, 4001)
    assert.ok(outside.link !== undefined && outside.link !== 4002, 'the router has given 4002 to another machine')
    assert.deepEqual([...router.mappings].map(([port, mapping]) => [port, mapping.insidePort, mapping.lifetimeSeconds]), [[4001, 4001, LIMITS.portMapLifetimeSeconds], [outside.link, 4002, LIMITS.portMapLifetimeSeconds]])
    assert.equal(map.problem(), undefined)
    assert.equal(world.changes, 1)
    // ours moves: the old mapping goes
    world.inside = { main: 5001, link: undefined }
    map.refresh()
    await waitFor('the new mapping', () => map.outside()?.main === 5001, PATIENT)
    assert.deepEqual([...router.mappings.keys()], [5001])
    // the router has restarted and forgotten; renewals put it right
    const askedCount = router.asked.length
    router.mappings.clear()
    hurry.factor = 0.00001
    map.refresh()
    await waitFor('renewals', () => router.asked.length > askedCount + 2 && router.mappings.has(5001), PATIENT)
    await map.stop()
    assert.equal(router.mappings.size, 0)
    assert.equal(map.outside(), undefined)
  })
}

test('pcp: a router that was silent for a while renews what it still holds, and removes it at the stop', async (t) => {
  const { router, map, hurry } = await setUp(t, { speaks: 'pcp', outsideHost: '203.0.113.5' })
  map.start()
  await waitFor('the outside address', () => map.outside(), PATIENT)
  assert.equal(router.mappings.size, 2)
  Object.assign(hurry, { factor: 0.001, answerFactor: 0.01 })
  router.behaviour = { speaks: 'nothing', outsideHost: '203.0.113.5' }
  map.refresh()
  await waitFor('the loss', () => map.problem(), PATIENT)
  assert.equal(map.outside(), undefined)
  hurry.answerFactor = 1
  router.behaviour = { speaks: 'pcp', outsideHost: '203.0.113.5' }
  await waitFor('the outside address again', () => map.outside(), PATIENT)
  await map.stop()
  assert.equal(router.mappings.size, 0)
})

test('an end that comes while the socket for a question is made is heard', async (t) => {
  const router = await startFakeRouter({ speaks: 'nothing', outsideHost: '203.0.113.5' })
  t.after(router.close)
  const gateway = { router: '127.0.0.1', own: '127.0.0.1' }
  for (const probe of [
    async (signal: AbortSignal) => probeDatagrams(systemClock, createPcpNonces(), gateway, signal, router.port),
    async (signal: AbortSignal) => probeUpnp(systemClock, gateway, () => 0.5, signal, router.port)
  ]) {
    const stop = new AbortController()
    const asked = probe(stop.signal)
    stop.abort(new Error('stopped'))
    await assert.rejects(within('the end', PATIENCE_MS, asked), /stopped/)
  }
})

test('a router that grants for ever only is taken at its word', async (t) => {
  const { router, map } = await setUp(t, { speaks: 'upnp', outsideHost: '203.0.113.5', isPermanentOnly: true })
  map.start()
  await waitFor('the outside address', () => map.outside(), PATIENT)
  assert.deepEqual(router.asked, ['upnp 1200', 'upnp 0', 'upnp 0'])
})

test('a router behind another one: nothing is left open, and people are told why', async (t) => {
  for (const outsideHost of ['192.168.7.1', '100.64.0.9', '127.0.0.1', '224.0.0.1', '0.0.0.0']) {
    const { router, map } = await setUp(t, { speaks: 'nat-pmp', outsideHost })
    map.start()
    assert.match(await waitFor('the reason', () => map.problem(), PATIENT), /no public address itself/)
    assert.equal(map.outside(), undefined)
    assert.equal(router.mappings.size, 0)
    await map.stop()
  }
})

test('a router that helps in no way: what to do is said, and it is asked again later', async (t) => {
  const { router, map, hurry } = await setUp(t, { speaks: 'nothing', outsideHost: '203.0.113.5' })
  hurry.factor = 0.001
  map.start()
  assert.match(await waitFor('the reason', () => map.problem(), PATIENT), /neither PCP, NAT-PMP nor UPnP.*4001.*--listen public/)
  router.behaviour = { speaks: 'nat-pmp', outsideHost: '203.0.113.5' }
  await waitFor('the outside address', () => map.outside(), PATIENT)
  assert.equal(map.problem(), undefined)
})

test('I8: whatever a router says, nothing but a sentence comes of it', async (t) => {
  const world = await setUp(t, { speaks: 'nat-pmp', outsideHost: '203.0.113.5' })
  const { router, map, hurry } = world
  // nothing that comes is an answer, so that waiting for one is all that happens
  hurry.answerFactor = 0.1
  for (const garbage of [new Uint8Array(0), new Uint8Array(4_000).fill(0), Uint8Array.from([0, 0x80, 0, 0]), Uint8Array.from([2, 0x81, 0, 0]), new Uint8Array(60).fill(0xff)]) {
    router.behaviour = { speaks: 'nat-pmp', outsideHost: '203.0.113.5', garbage }
    map.start()
    await waitFor('a reason', () => map.problem(), PATIENT)
    assert.equal(map.outside(), undefined)
    await map.stop()
  }
  for (const description of ['', '<service>'.repeat(50_000), 'x'.repeat(LIMITS.portMapBodyBytes + 1), '<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>http://127.0.0.2/x</controlURL></service>']) {
    router.behaviour = { speaks: 'upnp', outsideHost: '203.0.113.5', description }
    map.start()
    await waitFor('a reason', () => map.problem(), PATIENT)
    assert.equal(map.outside(), undefined)
    await map.stop()
  }
  router.behaviour = { speaks: 'upnp', outsideHost: 'not an address' }
  map.start()
  await waitFor('a reason', () => map.problem(), PATIENT)
  assert.equal(map.outside(), undefined)
})
