/** Relays that take reservations and do not forward: found by a circuit to ourselves, avoided, and believed again. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import { startLyingRelay } from '../support/lying-relay.ts'
import { PATIENT, timed, waitFor, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

for (const lie of ['refuses', 'swallows'] as const) {
  test(`a relay that ${lie} is found, said so in plain words, and the other one is dialled through at once`, async (t) => {
    const [liar, honest] = [await startLyingRelay(), await startLyingRelay()]
    const relays = [liar.address, honest.address]
    const office = await makeNode({ relays })
    const laptop = await makeNode({ relays })
    befriend(office, laptop)
    office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
    t.after(async () => {
      await Promise.all([office.node.stop(), laptop.node.stop()])
      await Promise.all([liar.stop(), honest.stop()])
    })
    liar.setLie(lie)
    await Promise.all([office.node.start(), laptop.node.start()])
    const { elapsedMs } = await timed(async () => {
      await waitFor('both to find out', () => [office, laptop].every(({ node }) => node.relays()[0]?.state === 'unreachable' && node.isLeavingRelay(liar.peerId)), PATIENT)
    })
    console.log(`a relay that ${lie} was found ${Math.round(elapsedMs)} ms after the start`)
    for (const { node } of [office, laptop]) {
      assert.equal(node.relays()[0]?.reason, 'it takes reservations but does not forward')
      assert.equal(node.relays()[1]?.state, 'reserved')
      assert.ok(!node.isLeavingRelay(honest.peerId))
      assert.equal(node.isReachable(), true)
    }
    const { stream, peer } = await within('a stream', 60_000, laptop.node.openStream(office.did, HOLD))
    assert.equal(peer.relayPeerId, honest.peerId)
    stream.abort(new Error('done'))
  })
}

test('an honest relay is believed: a self-circuit comes through, and takes no stranger\'s place', async (t) => {
  const honest = await startLyingRelay()
  const office = await makeNode({ relays: [honest.address] })
  t.after(async () => {
    await office.node.stop()
    await honest.stop()
  })
  await office.node.start()
  await reserved(office, 60_000)
  await waitFor('the probe', async () => /carrier_node_relay_probes_total\{result="forwards"\} [1-9]/.test(await office.metrics.text()), PATIENT)
  assert.ok(honest.askedCount() >= 1)
  assert.equal(office.node.relays()[0]?.state, 'reserved')
  assert.deepEqual(office.strangers, [], 'nobody is counted')
})

test('a stream can be asked not to run over a relay: a second connection is made, and both stay', async (t) => {
  const [first, second] = [await startLyingRelay(), await startLyingRelay()]
  const relays = [first.address, second.address]
  const office = await makeNode({ relays })
  const laptop = await makeNode({ relays })
  befriend(office, laptop)
  office.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 8 })
  t.after(async () => {
    await Promise.all([office.node.stop(), laptop.node.stop()])
    await Promise.all([first.stop(), second.stop()])
  })
  await Promise.all([office.node.start(), laptop.node.start()])
  await Promise.all([reserved(office, 60_000), reserved(laptop, 60_000)])
  const one = await within('a stream', 60_000, laptop.node.openStream(office.did, HOLD))
  const used = one.peer.relayPeerId ?? ''
  assert.ok(laptop.node.canAvoidRelay(used))
  const other = await within('a stream over the other relay', 60_000, laptop.node.openStream(office.did, HOLD, { notVia: [used] }))
  assert.notEqual(other.peer.relayPeerId, used)
  assert.equal(other.peer.path, 'relayed')
  const again = await within('a further stream', 60_000, laptop.node.openStream(office.did, HOLD, { notVia: [other.peer.relayPeerId ?? ''] }))
  assert.equal(again.peer.relayPeerId, used, 'the first connection is still there')
  await assert.rejects(laptop.node.openStream(office.did, HOLD, { notVia: [first.peerId, second.peerId] }), /no relay|no way/)
  for (const { stream } of [one, other, again]) stream.abort(new Error('done'))
})
