/** Relays that are down, come, go and die: reservations come back by themselves, and nothing hangs. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { errorCode, LIMITS } from '../../src/base/index.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, timed, waitFor, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

/** Figures of the issue; a test asserts three times as much. */
const RESERVED_AFTER_BOOT_MS = 3_000
const CONNECT_ONE_DEAD_MS = 1_000

test('I10: a node with a relay that is down starts at once, says so, and is reserved soon after the relay is up', async (t) => {
  const relay = await prepareStockRelay('late')
  const office = await makeNode({ relays: [relay.address] })
  t.after(async () => {
    await office.node.stop()
    await relay.kill()
  })
  const start = await timed(async () => { await office.node.start() })
  assert.ok(start.elapsedMs < 2_000, `start took ${start.elapsedMs} ms`)
  await waitFor('the plain reason', () => office.node.relays()[0]?.state === 'unreachable', { deadlineMs: PATIENCE_MS })
  assert.match(office.node.relays()[0]?.reason ?? '', /nothing listens/)
  assert.equal(office.node.isReachable(), false)
  await relay.start()
  const { elapsedMs } = await timed(async () => { await reserved(office, RESERVED_AFTER_BOOT_MS * 3) })
  console.log(`reserved ${Math.round(elapsedMs)} ms after the relay was up (aim ${RESERVED_AFTER_BOOT_MS})`)
  assert.equal(office.node.isReachable(), true)
  assert.equal(office.node.relays()[0]?.reason, undefined)
})

test('a reservation is made again each time the relay restarts with its key, and nothing piles up', async (t) => {
  const relay = await prepareStockRelay('restarts')
  await relay.start()
  const office = await makeNode({ relays: [relay.address] })
  const laptop = await makeNode({ relays: [relay.address] })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await office.node.stop()
    await laptop.node.stop()
    await relay.kill()
  })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office), reserved(laptop)])
  const handles: number[] = []
  for (let round = 0; round < 4; round++) {
    await relay.kill()
    await waitFor('the loss', () => office.node.relays()[0]?.state !== 'reserved', { deadlineMs: PATIENCE_MS })
    await relay.start()
    const { elapsedMs } = await timed(async () => { await Promise.all([reserved(office), reserved(laptop)]) })
    const { stream, peer } = await within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD))
    assert.equal(peer.path, 'relayed')
    stream.abort(new Error('done'))
    handles.push(process.getActiveResourcesInfo().filter((name) => name !== 'Timeout').length)
    console.log(`round ${round}: reserved after ${Math.round(elapsedMs)} ms, ${handles[round]} handles`)
  }
  assert.ok((handles[3] ?? 0) <= (handles[0] ?? 0) + 2, `handles grew: ${handles.join(', ')}`)
})

test('one of two relays dead: the connection is there in about a second and uses the living one', async (t) => {
  const first = await prepareStockRelay('first')
  const second = await prepareStockRelay('second')
  await first.start()
  await second.start()
  const office = await makeNode({ relays: [first.address, second.address] })
  const laptop = await makeNode({ relays: [first.address, second.address] })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await office.node.stop()
    await laptop.node.stop()
    await first.kill()
    await second.kill()
  })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office), reserved(laptop)])
  await first.kill()
  const { value, elapsedMs } = await timed(async () => within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD)))
  console.log(`connected ${Math.round(elapsedMs)} ms after one relay died (aim ${CONNECT_ONE_DEAD_MS})`)
  assert.ok(elapsedMs < CONNECT_ONE_DEAD_MS * 3)
  assert.equal(value.peer.relayPeerId, second.peerId)
  value.stream.abort(new Error('done'))
})

test('a relay that goes silent counts as lost within seconds, and is taken again when it answers', async (t) => {
  const relay = await prepareStockRelay('silent')
  await relay.start()
  const office = await makeNode({ relays: [relay.address] })
  t.after(async () => {
    relay.thaw()
    await office.node.stop()
    await relay.kill()
  })
  await office.node.start()
  await reserved(office)
  relay.freeze()
  const { elapsedMs } = await timed(async () => { await waitFor('the loss', () => office.node.relays()[0]?.state !== 'reserved', { deadlineMs: LIMITS.linkSilenceMs * 3 }) })
  console.log(`silence noticed after ${Math.round(elapsedMs)} ms`)
  relay.thaw()
  await reserved(office, 15_000)
})

test('a device on no relay is offline, in about the time of one question', async (t) => {
  const relay = await prepareStockRelay('offline')
  await relay.start()
  const laptop = await makeNode({ relays: [relay.address] })
  const nobody = await makeNode()
  befriend(laptop, nobody)
  t.after(async () => {
    await laptop.node.stop()
    await relay.kill()
  })
  await laptop.node.start()
  await reserved(laptop)
  const { elapsedMs } = await timed(async () => {
    await assert.rejects(laptop.node.openStream(nobody.did, HOLD), (err) => {
      assert.equal(errorCode(err), 'ERR_PEER_OFFLINE')
      assert.match(String(err), /offline, or not on a relay that this node uses/)
      return true
    })
  })
  assert.ok(elapsedMs < 3_000, `${elapsedMs} ms`)
})

test('I10: a node without relay and without known address says that there is no way, at once', async (t) => {
  const laptop = await makeNode()
  const nobody = await makeNode()
  t.after(async () => { await laptop.node.stop() })
  await laptop.node.start()
  await assert.rejects(laptop.node.openStream(nobody.did, HOLD), (err) => errorCode(err) === 'ERR_NO_RELAY')
  assert.match(laptop.node.problems().join(), /no relay is configured/)
})

test('both ends dialing at the same moment is harmless', async (t) => {
  const relay = await prepareStockRelay('both')
  await relay.start()
  const alice = await makeNode({ relays: [relay.address] })
  const bob = await makeNode({ relays: [relay.address] })
  befriend(alice, bob)
  for (const { node } of [alice, bob]) node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await alice.node.stop()
    await bob.node.stop()
    await relay.kill()
  })
  await alice.node.start()
  await bob.node.start()
  await Promise.all([reserved(alice), reserved(bob)])
  const both = await within('both streams', PATIENCE_MS, Promise.all([alice.node.openStream(bob.did, HOLD), bob.node.openStream(alice.did, HOLD)]))
  assert.deepEqual(both.map(({ peer }) => peer.device), [bob.did, alice.did])
  for (const { stream } of both) stream.abort(new Error('done'))
})

test('friends that listen are reached directly, also when the relay is gone', async (t) => {
  const relay = await prepareStockRelay('direct')
  await relay.start()
  const office = await makeNode({ relays: [relay.address], listen: 'lan', loopback: true })
  const laptop = await makeNode({ relays: [relay.address], loopback: true })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await office.node.stop()
    await laptop.node.stop()
    await relay.kill()
  })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office), reserved(laptop)])
  const first = await laptop.node.openStream(office.did, HOLD)
  assert.equal(first.peer.path, 'relayed')
  await laptop.node.disconnect(office.did)
  await relay.kill()
  const second = await within('the direct stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD))
  assert.equal(second.peer.path, 'lan')
  assert.equal(second.peer.relayPeerId, undefined)
  second.stream.abort(new Error('done'))
})

test('a port in use is said so at start', async (t) => {
  const first = await makeNode({ listen: 'public' })
  await first.node.start()
  t.after(async () => { await first.node.stop() })
  const port = Number(first.node.listenAddresses()[0]?.split('/').at(-1))
  const second = await makeNode({ listen: 'public', port })
  t.after(async () => { await second.node.stop() })
  await assert.rejects(second.node.start(), (err) => errorCode(err) === 'ERR_PORT_IN_USE')
})
