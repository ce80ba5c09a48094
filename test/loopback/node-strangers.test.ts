/** Strangers, blocked devices, clones and attackers at a node that is reachable through a relay only. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test, { after, before, describe } from 'node:test'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Connection, Libp2p, MessageStream, PrivateKey } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { encodeCbor, encodeFrame, errorCode, LIMITS } from '../../src/base/index.ts'
import { didFromPeerId } from '../../src/identity/index.ts'
import { AUTH_PROTOCOL } from '../../src/node/index.ts'
import type { NodeEvents } from '../../src/node/index.ts'
import { identityOf, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import type { StockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, PATIENT, pause, waitFor, within } from '../support/wait.ts'

const KNOCK = '/carrier/test-knock/1.0.0'
const PRIVATE = '/carrier/test-private/1.0.0'

/** Opens streams like anybody with a libp2p node could; counts every decrypted byte that comes back. `settled`: what the other side sent before is here. */
interface Stranger { peer: Libp2p, receivedBytes: () => number, dial: () => Promise<Connection>, settled: (connection: Connection) => Promise<void> }

/** libp2p tells nobody of the muxer of a connection; yamux answers a ping in its turn. */
type Muxed = Connection & { muxer: { ping: (options: { signal: AbortSignal }) => Promise<number> } }

let relay: StockRelay
let bob: TestNode
/** Which handlers were called for whom. */
const handled: Array<{ device: string, what: string }> = []
const strangers: Stranger[] = []

before(async () => {
  relay = await prepareStockRelay('strangers')
  await relay.start()
  bob = await makeNode({ relays: [relay.address] })
  bob.node.handle(KNOCK, async (_stream, peer) => { handled.push({ device: peer.device, what: peer.level }) }, { levels: ['stranger', 'pending', 'friend'], maxStreamsPerPeer: 2 })
  bob.node.handle(PRIVATE, async (stream, peer) => {
    handled.push({ device: peer.device, what: `private ${peer.level}` })
    for await (const chunk of stream.source) assert.ok(chunk)
  }, { levels: ['friend'], maxStreamsPerPeer: 2 })
  await bob.node.start()
  await reserved(bob)
})

after(async () => {
  for (const { peer } of strangers) await peer.stop()
  await bob.node.stop()
  await relay.kill()
})

function handledFor (device: string): string[] {
  return handled.filter((one) => one.device === device).map(({ what }) => what)
}

async function makeStranger (privateKey?: PrivateKey): Promise<Stranger> {
  let received = 0
  const peer = await createLibp2p({
    ...(privateKey === undefined ? {} : { privateKey }),
    transports: [tcp(), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [() => ({
      protocol: '/yamux/1.0.0',
      createStreamMuxer: (connection: MessageStream) => {
        const muxer = yamux({ enableKeepAlive: false })().createStreamMuxer(connection)
        connection.addEventListener('message', (event) => { received += event.data.byteLength })
        return muxer
      }
    })],
    connectionMonitor: { enabled: false },
    services: { identify: identify({ runOnConnectionOpen: false }) }
  })
  const stranger: Stranger = {
    peer,
    receivedBytes: () => received,
    settled: async (connection) => {
      // the second one goes when the first has come back: what the other side did in the same turn is here too
      for (let count = 0; count < 2; count++) await (connection as Muxed).muxer.ping({ signal: AbortSignal.timeout(PATIENCE_MS) })
    },
    dial: async () => within('a circuit to bob', PATIENCE_MS, peer.dial(multiaddr(`${relay.address}/p2p-circuit/p2p/${bob.identity.peerId.toString()}`)))
  }
  strangers.push(stranger)
  return stranger
}

test('I3: what exists, what is not allowed and what does not exist are the same bytes for a stranger', async () => {
  const alice = await makeNode({ relays: [relay.address] })
  await alice.node.start()
  try {
    const { stream } = await alice.node.openStream(bob.did, KNOCK)
    stream.abort(new Error('only asked'))
    for (const protocol of [PRIVATE, '/carrier/no-such/1.0.0']) {
      await assert.rejects(alice.node.openStream(bob.did, protocol), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
    }
  } finally {
    await alice.node.stop()
  }
  const stranger = await makeStranger()
  const smallest = new Map<string, number>()
  for (const protocol of [PRIVATE, '/carrier/test-privatX/1.0.0', '/carrier/session/1.0.0', '/carrier/sessioX/1.0.0'].flatMap((name) => [name, name, name])) {
    const connection = await stranger.dial()
    await pause(100)
    await stranger.settled(connection)
    const before = stranger.receivedBytes()
    await assert.rejects(connection.newStream(protocol, { runOnLimitedConnection: true }))
    await pause(100)
    await stranger.settled(connection)
    // pings of the other side may add to a count, never take away
    smallest.set(protocol, Math.min(smallest.get(protocol) ?? Infinity, stranger.receivedBytes() - before))
    await connection.close()
  }
  console.log('bytes that came back:', Object.fromEntries(smallest))
  assert.equal(new Set(smallest.values()).size, 1)
  assert.ok(bob.strangers.length > 0)
})

test('I3: identify tells a stranger no protocol of ours but auth, and no address of the node', async () => {
  const stranger = await makeStranger()
  const connection = await stranger.dial()
  const facts = await (stranger.peer.services as { identify: { identify: (connection: Connection) => Promise<{ protocols: string[], listenAddrs: unknown[], agentVersion?: string }> } }).identify.identify(connection)
  assert.deepEqual(facts.protocols.filter((name) => name.startsWith('/carrier/')), [AUTH_PROTOCOL])
  assert.deepEqual(facts.listenAddrs.map(String).filter((address) => !address.includes('p2p-circuit')), [])
  assert.equal(facts.agentVersion, 'carrier/1')
})

test('I9: an oversized auth frame, a garbled one and a wrong proof are refused and the connection ends', async () => {
  for (const bytes of [
    Uint8Array.of(0x80, 0x80, 0x40),
    encodeFrame(new Uint8Array(20)),
    new Uint8Array([
      ...encodeFrame(encodeCbor({ v: 1, n: new Uint8Array(16) })),
      ...encodeFrame(encodeCbor({ p: { v: 1, vcs: [], grants: [], docs: [] }, sig: new Uint8Array(randomBytes(64)), h: { major: 1, features: [], limits: {} } }))
    ])
  ]) {
    const stranger = await makeStranger()
    const connection = await stranger.dial()
    const stream = await connection.newStream(AUTH_PROTOCOL, { runOnLimitedConnection: true })
    stream.send(bytes)
    await waitFor('the end of the connection', () => connection.status !== 'open', PATIENT)
  }
  assert.match(await bob.metrics.text(), /carrier_node_auth_total\{result="ERR_PROTOCOL"\} 3\n/)
})

test('a stranger cannot hold more than its few streams', async () => {
  const stranger = await makeStranger()
  const connection = await stranger.dial()
  const opened = await Promise.allSettled(Array.from({ length: 12 }, async () => connection.newStream(KNOCK, { runOnLimitedConnection: true })))
  assert.ok(opened.filter((one) => one.status === 'fulfilled').length <= LIMITS.strangerStreamCount)
  assert.match(await bob.metrics.text(), /carrier_node_refusals_total\{reason="stream-limit"\} [1-9]/)
  await connection.close()
})

test('a blocked device gets no connection at all, and neither does a key that is not Ed25519', async () => {
  const blocked = await makeNode({ relays: [relay.address] })
  bob.levels.set(blocked.did, 'blocked')
  await blocked.node.start()
  try {
    await assert.rejects(blocked.node.openStream(bob.did, KNOCK), (err) => errorCode(err) === 'ERR_PEER_OFFLINE')
  } finally {
    await blocked.node.stop()
  }
  const foreign = await makeStranger(await generateKeyPair('secp256k1'))
  await assert.rejects(foreign.dial())
  const text = await bob.metrics.text()
  assert.match(text, /refusals_total\{reason="blocked"\} [1-9]/)
  assert.match(text, /refusals_total\{reason="weak-key"\} [1-9]/)
})

test('a third connection of one stranger is refused', async () => {
  const alice = await generateKeyPair('Ed25519')
  const [first, second, third] = [await makeStranger(alice), await makeStranger(alice), await makeStranger(alice)]
  const refusals = async (): Promise<number> => Number(/carrier_node_refusals_total\{reason="stranger-key-limit"\} (\d+)/.exec(await bob.metrics.text())?.[1] ?? 0)
  const before = await refusals()
  await first.dial()
  await second.dial()
  assert.equal(await refusals(), before)
  // the caller learns of it from the handshake or right after
  const ending = third.dial().then(async (connection) => waitFor('the end of the third', () => connection.status !== 'open', PATIENT), () => true)
  ending.catch(() => { /* awaited below */ })
  await waitFor('the refusal', async () => await refusals() === before + 1, PATIENT)
  assert.equal(await ending, true)
})

// each waits for ten seconds: at the same time
describe('in time', { concurrency: true }, () => {
  test('I2: a stream of a connection that never authenticated does not reach its handler', async () => {
    const stranger = await makeStranger()
    // its time begins during the dial
    const startedAt = performance.now()
    const connection = await stranger.dial()
    const stream = await connection.newStream(KNOCK, { runOnLimitedConnection: true })
    const gone = new Promise<void>((resolve) => { stream.addEventListener('close', () => { resolve() }) })
    await within('the reset', LIMITS.authTimeoutMs + PATIENCE_MS, gone)
    const elapsedMs = performance.now() - startedAt
    assert.ok(elapsedMs > LIMITS.authTimeoutMs * 0.9, `gone after ${elapsedMs} ms`)
    await waitFor('the end of the connection', () => connection.status !== 'open', PATIENT)
    assert.deepEqual(handledFor(didFromPeerId(stranger.peer.peerId)), [])
  })

  test('a stranger who is accepted becomes a friend on the same connection and may stay', async () => {
    const alice = await makeNode({ relays: [relay.address] })
    alice.levels.set(bob.did, 'pending')
    await alice.node.start()
    try {
      const knock = await alice.node.openStream(bob.did, KNOCK)
      await within('the end of the knock', PATIENCE_MS, knock.stream.source.next())
      assert.equal(bob.node.peer(alice.did)?.level, 'stranger')
      assert.equal(bob.node.peer(alice.did)?.instanceId, undefined)
      bob.levels.set(alice.did, 'friend')
      const lost: string[] = []
      alice.node.on('peer:disconnected', ({ device }) => { lost.push(device) })
      const inside = await alice.node.openStream(bob.did, PRIVATE)
      await pause(LIMITS.strangerConnectionMs + 1_000)
      assert.deepEqual(lost, [])
      assert.equal(bob.node.peer(alice.did)?.level, 'friend')
      assert.deepEqual(handledFor(alice.did), ['stranger', 'private friend'])
      inside.stream.abort(new Error('done'))
    } finally {
      await alice.node.stop()
    }
  })

  test('a stranger\'s connection ends when its time is over', async () => {
    const alice = await makeNode({ relays: [relay.address] })
    await alice.node.start()
    try {
      const knock = await alice.node.openStream(bob.did, KNOCK)
      await within('the end of the knock', PATIENCE_MS, knock.stream.source.next())
      const gone = new Promise<void>((resolve) => { alice.node.on('peer:disconnected', () => { resolve() }) })
      await within('the end of the connection', LIMITS.strangerConnectionMs * 2, gone)
    } finally {
      await alice.node.stop()
    }
  })
})

test('two live processes with one key are reported', async () => {
  const key = await generateKeyPair('Ed25519')
  const first = await makeNode({ relays: [relay.address] }, { identity: identityOf(key) })
  const clone = await makeNode({ relays: [relay.address] }, { identity: identityOf(key) })
  for (const one of [first, clone]) one.levels.set(bob.did, 'friend')
  bob.levels.set(first.did, 'friend')
  const events: Array<NodeEvents['node:duplicate-identity']> = []
  const stopListening = bob.node.on('node:duplicate-identity', (event) => { events.push(event) })
  await first.node.start()
  await clone.node.start()
  try {
    for (const one of [first, clone]) (await one.node.openStream(bob.did, KNOCK)).stream.abort(new Error('done'))
    await waitFor('the report', () => events.length > 0, PATIENT)
    assert.equal(events[0]?.device, first.did)
    assert.equal(new Set(events[0]?.instanceIds).size, 2)
  } finally {
    stopListening()
    await first.node.stop()
    await clone.node.stop()
  }
})

test('disconnect ends all streams of a device at once', async () => {
  const alice = await makeNode({ relays: [relay.address] })
  alice.levels.set(bob.did, 'friend')
  bob.levels.set(alice.did, 'friend')
  await alice.node.start()
  try {
    const { stream } = await alice.node.openStream(bob.did, PRIVATE)
    await waitFor('the handler', () => bob.node.peer(alice.did) !== undefined, PATIENT)
    // sooner than silence is noticed
    const read = assert.rejects(within('the end', LIMITS.linkSilenceMs * 0.9, stream.source.next()), (err) => errorCode(err) === 'ERR_LINK_LOST')
    await bob.node.disconnect(alice.did)
    await read
    assert.equal(bob.node.peer(alice.did), undefined)
  } finally {
    await alice.node.stop()
  }
})
