/** How many round trips a session costs, over a relay that is far away: what can travel together does. */
import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import test, { after, before } from 'node:test'
import { errorCode, systemClock } from '../../src/base/index.ts'
import { befriend, makeIdentity, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { printFigure } from '../support/statistics.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import type { StockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, timed, waitFor, within } from '../support/wait.ts'

const ECHO = '/carrier/test-echo/1.0.0'
/** One way between a node and the relay: long, so that the time that a busy machine takes is small beside it. */
const LEG_MS = 200
/** From one node to the other and back. */
const ROUND_TRIP_MS = 4 * LEG_MS
/**
 * Circuit 1½ (a stock relay waits for the answer of the called node before it speaks), Noise 1, auth 2, the stream's echo 1.
 * With an answer awaited for each choice of a protocol it would be 8½: hop ½, Noise 1, auth 1, the stream 1.
 */
const ROUND_TRIPS = 5.5
const TOO_MANY = 8

let relay: StockRelay
let far: Server
let alice: TestNode
let bob: TestNode

before(async () => {
  relay = await prepareStockRelay('flights')
  await relay.start()
  far = await farAway(Number(relay.address.split('/')[4]))
  const address = `/ip4/127.0.0.1/tcp/${(far.address() as AddressInfo).port}/p2p/${relay.peerId}`
  alice = await makeNode({ relays: [address] })
  bob = await makeNode({ relays: [address] })
  befriend(alice, bob)
  bob.node.handle(ECHO, async (stream) => { await stream.sink(stream.source) }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  await alice.node.start()
  await bob.node.start()
  await Promise.all([reserved(alice), reserved(bob)])
})

after(async () => {
  await alice.node.stop()
  await bob.node.stop()
  far.close()
  await relay.kill()
})

test('a first stream over a relay is answered after 5½ round trips, not 8½', async () => {
  let elapsedMs = await connectMs()
  // a machine that was busy for a second may try again: with more flights none comes below
  for (let attempt = 0; attempt < 3 && elapsedMs >= TOO_MANY * ROUND_TRIP_MS; attempt++) {
    await alice.node.disconnect(bob.did)
    elapsedMs = await connectMs()
  }
  printFigure(`loopback: a relay ${2 * LEG_MS} ms away: round trips until a first stream is answered`, elapsedMs / ROUND_TRIP_MS, '', String(ROUND_TRIPS))
  assert.ok(elapsedMs >= ROUND_TRIPS * ROUND_TRIP_MS * 0.9, 'the relay was not far away')
  assert.ok(elapsedMs < TOO_MANY * ROUND_TRIP_MS, `${(elapsedMs / ROUND_TRIP_MS).toFixed(1)} round trips`)
})

test('I3: who does not wait for the answer gets the same refusal as who waits', async () => {
  const stranger = await makeNode({ relays: [relay.address] })
  stranger.levels.set(bob.did, 'friend')
  await stranger.node.start()
  try {
    await reserved(stranger)
    const { stream } = await within('a stream', PATIENCE_MS, stranger.node.openStream(bob.did, ECHO, { isEager: true }))
    await assert.rejects(within('a refusal', PATIENCE_MS, stream.source.next()), hasCode('ERR_NOT_AVAILABLE'))
    await assert.rejects(within('a refusal', PATIENCE_MS, stranger.node.openStream(bob.did, ECHO)), hasCode('ERR_NOT_AVAILABLE'))
  } finally {
    await stranger.node.stop()
  }
})

test('I2: a relay that proves another key than the one in its address is not used, and the reason says so', async () => {
  const other = await makeIdentity()
  const lost = await makeNode({ relays: [`${relay.address.slice(0, relay.address.lastIndexOf('/'))}/${other.peerId.toString()}`] })
  await lost.node.start()
  try {
    await waitFor('the reason', () => /another key answers/.test(lost.node.relays()[0]?.reason ?? ''), { deadlineMs: PATIENCE_MS, intervalMs: 20 })
    assert.equal(lost.node.relays()[0]?.state, 'refused')
  } finally {
    await lost.node.stop()
  }
})

function hasCode (code: string): (err: unknown) => boolean {
  return (err) => errorCode(err) === code
}

async function connectMs (): Promise<number> {
  const { elapsedMs } = await timed(async () => {
    const { stream } = await within('a stream', 40 * ROUND_TRIP_MS, alice.node.openStream(bob.did, ECHO, { isEager: true }))
    void stream.sink((async function * () {
      yield new Uint8Array([1])
      await stream.closed
    })()).catch(() => { /* it is given up below */ })
    await within('the echo', 20 * ROUND_TRIP_MS, stream.source.next())
    stream.abort(new Error('done'))
  })
  return elapsedMs
}

/** A way to a port of this machine on which every byte takes LEG_MS. */
async function farAway (port: number): Promise<Server> {
  const server = createServer((near) => {
    const beyond = connect({ host: '127.0.0.1', port, noDelay: true })
    near.setNoDelay(true)
    delay(near, beyond)
    delay(beyond, near)
  })
  server.listen(0, '127.0.0.1')
  await within('the way to the relay', 20_000, new Promise<void>((resolve) => { server.once('listening', resolve) }))
  return server
}

function delay (from: Socket, to: Socket): void {
  from.on('data', (chunk) => { systemClock.setTimer(() => { if (!to.destroyed) to.write(chunk) }, LEG_MS) })
  from.on('error', () => { to.destroy() })
  from.on('close', () => { to.destroy() })
}
