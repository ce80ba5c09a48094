/** Ways that lead nowhere any more: addresses that swallow every packet, and a relay that fell silent. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import { openSilentPort } from '../support/silent-port.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, timed, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

/** Figures of the issue; a test fails at three times as much. */
const DIAL_STALE_MS = 1_500
const DIAL_DEAD_RELAY_MS = 700
const TOLERANCE = 3

test('every remembered address is stale and silent: the device is reached over its relay soon', async (t) => {
  const silent = await Promise.all(Array.from({ length: LIMITS.rememberedAddressCount }, openSilentPort))
  const stale = silent.map(({ port }) => `/ip4/127.0.0.1/tcp/${port}`)
  const relay = await prepareStockRelay('stale')
  await relay.start()
  const office = await makeNode({ relays: [relay.address] })
  const laptop = await makeNode({ relays: [relay.address], loopback: true }, { addressStore: { remember: () => {}, recall: () => stale } })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await laptop.node.stop()
    await office.node.stop()
    await relay.kill()
    for (const { close } of silent) close()
  })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office, PATIENCE_MS), reserved(laptop, PATIENCE_MS)])
  const { value, elapsedMs } = await timed(async () => within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD)))
  console.log(`reached ${Math.round(elapsedMs)} ms past ${stale.length} stale addresses (aim ${DIAL_STALE_MS})`)
  assert.equal(value.peer.path, 'relayed')
  assert.ok(elapsedMs < TOLERANCE * DIAL_STALE_MS)
  value.stream.abort(new Error('done'))
})

test('the first relay of the list has just fallen silent: the device is reached over the second soon', async (t) => {
  const first = await prepareStockRelay('mute')
  const second = await prepareStockRelay('lively')
  await Promise.all([first.start(), second.start()])
  const office = await makeNode({ relays: [first.address, second.address] })
  const laptop = await makeNode({ relays: [first.address, second.address] })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    first.thaw()
    await laptop.node.stop()
    await office.node.stop()
    await Promise.all([first.kill(), second.kill()])
  })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office, PATIENCE_MS), reserved(laptop, PATIENCE_MS)])
  first.freeze()
  const { value, elapsedMs } = await timed(async () => within('a stream', PATIENCE_MS, laptop.node.openStream(office.did, HOLD)))
  console.log(`reached ${Math.round(elapsedMs)} ms past a silent relay (aim ${DIAL_DEAD_RELAY_MS})`)
  assert.equal(value.peer.relayPeerId, second.peerId)
  assert.ok(elapsedMs < TOLERANCE * DIAL_DEAD_RELAY_MS)
  value.stream.abort(new Error('done'))
})
