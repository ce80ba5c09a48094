/** A friend that listens is dialled directly by the one that does not, while the relay already carries them; and hears of new addresses. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { createAddressMemory } from '../../src/node/address-memory.ts'
import { encodeReachNews, ADDRESSES_PROTOCOL } from '../../src/node/reach-news.ts'
import { createFrameExchange } from '../../src/node/frame-exchange.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, PATIENT, waitFor } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

/** An office and a laptop at one relay; the office listens as told, the laptop on nothing. */
async function meet (t: TestContext, listen: 'none' | 'lan'): Promise<{ office: TestNode, laptop: TestNode }> {
  const relay = await prepareStockRelay('direct')
  await relay.start()
  const office = await makeNode({ relays: [relay.address], listen, loopback: true })
  const laptop = await makeNode({ relays: [relay.address], listen: 'none', loopback: true })
  befriend(office, laptop)
  for (const { node } of [office, laptop]) node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => {
    await Promise.all([office.node.stop(), laptop.node.stop()])
    await relay.kill()
  })
  await Promise.all([office.node.start(), laptop.node.start()])
  await Promise.all([reserved(office, PATIENCE_MS), reserved(laptop, PATIENCE_MS)])
  return { office, laptop }
}

for (const caller of ['office', 'laptop'] as const) {
  test(`whoever called over the relay (here the ${caller}): the one that does not listen dials the one that does`, async (t) => {
    const { office, laptop } = await meet(t, 'lan')
    const [from, to] = caller === 'office' ? [office, laptop] : [laptop, office]
    await from.node.openStream(to.did, HOLD)
    await waitFor('the direct connection', () => laptop.node.canDialLink(office.did), PATIENT)
    assert.equal(office.node.canDialLink(laptop.did), false)
    assert.equal(laptop.node.peer(office.did)?.path, 'lan')
  })
}

test('I10: a friend that listens on nothing is dialled nowhere', async (t) => {
  const { office, laptop } = await meet(t, 'none')
  await laptop.node.openStream(office.did, HOLD)
  assert.equal(laptop.node.canDialLink(office.did), false)
  assert.equal(laptop.node.peer(office.did)?.path, 'relayed')
  assert.deepEqual(office.node.listenAddresses(), [])
})

test('news of an address make a friend dial it', async (t) => {
  const { office, laptop } = await meet(t, 'none')
  const addressStore = createAddressMemory()
  const second = await makeNode({ listen: 'lan', loopback: true }, { identity: office.identity, addressStore })
  t.after(async () => { await second.node.stop() })
  await office.node.openStream(laptop.did, HOLD)
  // another process of the office's key listens there: what the news name is proven by the key, not by the news
  befriend(second, laptop)
  await second.node.start()
  const address = second.node.listenAddresses()[0]
  assert.ok(address !== undefined)
  await tell(office, laptop, encodeReachNews(['/ip4/127.0.0.1/tcp/1', address]))
  await waitFor('the direct connection', () => laptop.node.canDialLink(office.did), PATIENT)
})

test('news that are none reset the stream and change nothing', async (t) => {
  const { office, laptop } = await meet(t, 'none')
  await assert.rejects(tell(office, laptop, new Uint8Array(5_000)), /.*/)
  assert.equal(laptop.node.peer(office.did)?.path, 'relayed')
})

async function tell (from: TestNode, to: TestNode, frame: Uint8Array): Promise<void> {
  const { stream } = await from.node.openStream(to.did, ADDRESSES_PROTOCOL)
  const exchange = createFrameExchange(stream)
  exchange.write(frame)
  await exchange.end()
  assert.equal(await exchange.read(1), undefined)
}
