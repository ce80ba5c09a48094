/** Two nodes without a listening socket, a stock relay between them: streams, auth and the end of streams. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import test, { after, before } from 'node:test'
import { pipe } from 'it-pipe'
import { multiaddr } from '@multiformats/multiaddr'
import { errorCode, systemClock } from '../../src/base/index.ts'
import type { PeerStream } from '../../src/node/index.ts'
import { pingConnection } from '../../src/node/ping.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { processSockets } from '../support/process-sockets.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import type { StockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, untilStill, waitFor, within } from '../support/wait.ts'

const ECHO = '/carrier/test-echo/1.0.0'
const HOLD = '/carrier/test-hold/1.0.0'

let relay: StockRelay
let alice: TestNode
let bob: TestNode
const held: PeerStream[] = []

before(async () => {
  relay = await prepareStockRelay('streams')
  await relay.start()
  alice = await makeNode({ relays: [relay.address] })
  bob = await makeNode({ relays: [relay.address] })
  befriend(alice, bob)
  bob.node.handle(ECHO, async (stream) => { await pipe(stream.source, stream.sink) }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  bob.node.handle(HOLD, async (stream) => {
    held.push(stream)
    await stream.closed
  }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  await alice.node.start()
  await bob.node.start()
  await Promise.all([reserved(alice), reserved(bob)])
})

after(async () => {
  await alice.node.stop()
  await bob.node.stop()
  await relay.kill()
})

test('two nodes that listen on nothing authenticate each other over a relay', async () => {
  const seen: string[] = []
  const stopListening = bob.node.on('peer:authenticated', ({ peer, direction }) => { seen.push(`${peer.device} ${direction}`) })
  const { stream, peer } = await within('a stream', PATIENCE_MS, alice.node.openStream(bob.did, ECHO))
  stopListening()
  stream.abort(new Error('done'))
  assert.equal(peer.device, bob.did)
  assert.equal(peer.level, 'friend')
  assert.equal(peer.path, 'relayed')
  assert.equal(peer.relayPeerId, relay.peerId)
  assert.deepEqual(peer.instanceId, bob.identity.instanceId)
  assert.deepEqual(seen, [`${alice.did} inbound`])
  assert.deepEqual(bob.node.peer(alice.did)?.instanceId, alice.identity.instanceId)
})

test('8 MiB come back unchanged, with a half-close in between', async () => {
  const { stream } = await alice.node.openStream(bob.did, ECHO)
  const sent = createHash('sha256')
  const received = createHash('sha256')
  let bytes = 0
  async function * data (): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < 128; index++) {
      const block = new Uint8Array(randomBytes(64 * 1024))
      sent.update(block)
      yield block
    }
  }
  await within('the echo', 60_000, Promise.all([
    stream.sink(data()),
    (async () => {
      for await (const chunk of stream.source) {
        received.update(chunk)
        bytes += chunk.length
      }
    })()
  ]))
  assert.equal(bytes, 8 * 1024 * 1024)
  assert.equal(received.digest('hex'), sent.digest('hex'))
  await within('the stream to be gone', PATIENCE_MS, stream.closed)
})

test('a reader that does not read holds a bounded number of bytes, and the writer waits', async () => {
  const { stream } = await alice.node.openStream(bob.did, HOLD)
  let sentBytes = 0
  const block = new Uint8Array(64 * 1024)
  const writing = stream.sink((async function * () {
    while (true) {
      sentBytes += block.length
      yield block
    }
  })())
  const heldBytes = await untilStill('the writer', () => sentBytes, 700)
  console.log(`writer waits after ${(heldBytes / 1048576).toFixed(1)} MiB`)
  assert.ok(heldBytes < 48 * 1024 * 1024, `${heldBytes} bytes in flight`)
  stream.abort(new Error('enough'))
  await assert.rejects(writing)
})

test('a node with listen = none has no listening socket', () => {
  assert.deepEqual(processSockets(process.pid), [])
  assert.deepEqual(alice.node.listenAddresses(), [])
})

test('ping measures a round trip over the path', async () => {
  const { rttMs, path, relayPeerId } = await alice.node.ping(bob.did)
  assert.ok(rttMs > 0 && rttMs < 5000)
  assert.equal(path, 'relayed')
  assert.equal(relayPeerId, relay.peerId)
})

test('I8: a ping leaves no stream behind, also at a peer that never closes its end', async (t) => {
  t.after(stopStockPeers)
  const stubborn = await startStockPeer({ relays: [relay.address] })
  await stubborn.handle('/ipfs/ping/1.0.0', (stream) => { stream.addEventListener('message', ({ data }) => { stream.send(data) }) }, { runOnLimitedConnection: true, maxInboundStreams: 100 })
  const caller = await startStockPeer()
  const connection = await caller.dial(multiaddr(`${relay.address}/p2p-circuit/p2p/${stubborn.peerId.toString()}`))
  for (let count = 0; count < 5; count++) assert.ok(await pingConnection(systemClock, connection, AbortSignal.timeout(5_000)) > 0)
  assert.deepEqual(connection.streams.filter(({ protocol }) => protocol === '/ipfs/ping/1.0.0'), [])
})

test('one connection carries all streams, also when they are opened at once', async () => {
  const streams = await Promise.all(Array.from({ length: 4 }, async () => alice.node.openStream(bob.did, ECHO)))
  assert.match(await alice.metrics.text(), /carrier_node_authenticated_connections 1\n/)
  for (const { stream } of streams) stream.abort(new Error('done'))
})

test('an unknown protocol and one that is not for us are the same refusal', async () => {
  await assert.rejects(alice.node.openStream(bob.did, '/carrier/nothing/1.0.0'), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
  bob.levels.set(alice.did, 'pending')
  await assert.rejects(alice.node.openStream(bob.did, ECHO), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
  bob.levels.set(alice.did, 'friend')
})

test('I4: a node that stops in the middle of a stream is an error of the stream, never its end', async (t) => {
  // direct, because there the goodbye of libp2p reaches the other side before the connection goes, with a FIN for every stream
  const office = await makeNode({ relays: [relay.address], listen: 'lan', loopback: true })
  const laptop = await makeNode({ relays: [relay.address], loopback: true })
  t.after(async () => {
    await laptop.node.stop()
    await office.node.stop()
  })
  befriend(office, laptop)
  const atOffice: PeerStream[] = []
  office.node.handle(HOLD, async (stream) => {
    atOffice.push(stream)
    await stream.closed
  }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  await office.node.start()
  await laptop.node.start()
  await Promise.all([reserved(office), reserved(laptop)])
  await laptop.node.ping(office.did)
  await laptop.node.disconnect(office.did)
  const { stream, peer } = await laptop.node.openStream(office.did, HOLD)
  assert.equal(peer.path, 'lan')
  stream.sink((async function * () {
    yield new Uint8Array(1000)
    await new Promise(() => {})
  })()).catch(() => { /* the stop ends it */ })
  await waitFor('the stream at the other side', () => atOffice.length === 1, { deadlineMs: PATIENCE_MS })
  const read = assert.rejects(within('the loss', PATIENCE_MS, (async () => {
    for await (const chunk of (atOffice[0] as PeerStream).source) assert.equal(chunk.length, 1000)
    return 'ended'
  })()), (err) => errorCode(err) === 'ERR_LINK_LOST')
  await laptop.node.stop()
  await read
})

test('I4: a relay that dies is an error of the stream, never its end', async () => {
  held.length = 0
  const { stream } = await alice.node.openStream(bob.did, HOLD)
  await waitFor('the stream at the other side', () => held.length === 1, { deadlineMs: PATIENCE_MS })
  const reads = [stream, held[0] as PeerStream].map(async (one) => {
    const read = (async () => {
      for await (const chunk of one.source) assert.ok(chunk)
      return 'ended'
    })()
    await assert.rejects(within('the loss', PATIENCE_MS, read), (err) => errorCode(err) === 'ERR_LINK_LOST')
  })
  await relay.kill()
  await Promise.all(reads)
  await waitFor('the disconnect', () => alice.node.peer(bob.did) === undefined, { deadlineMs: PATIENCE_MS })
})
