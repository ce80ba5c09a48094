/** What stands before the muxers of relays and nodes, with real connections: no byte is lost or out of order, and who misbehaves while it waits ends its own connection only. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Connection, MessageStream, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { createMetrics, LIMITS, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Metrics } from '../../src/base/index.ts'
import { createHost } from '../../src/bootstrap/host.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { makeNode, reserved } from '../support/node-pair.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'
import { yamuxHeader } from '../support/yamux-header.ts'

const ECHO = '/carrier/test-echo/1.0.0'
const [DATA, PING, SYN] = [0, 2, 1]

type Naked = Connection & { muxer: { maConn: MessageStream, onData: (bytes: Uint8Array) => void } }

after(stopStockPeers)

async function startHost (): Promise<{ node: Awaited<ReturnType<typeof createHost>>['node'], metrics: Metrics, stop: () => Promise<void> }> {
  const metrics = createMetrics()
  const { node } = await createHost({ clock: systemClock, log: silentLogger, metrics }, { privateKey: await generateKeyPair('Ed25519'), listen: ['/ip4/127.0.0.1/tcp/0'], announce: [], maxConnections: 100, tls: undefined, gater: {} })
  await node.start()
  return { node, metrics, stop: async () => { await node.stop() } }
}

function pings (count: number): Uint8Array {
  return Uint8Array.from(Buffer.concat(Array.from({ length: count }, (_, index) => yamuxHeader(PING, SYN, 0, index))))
}

test('I8: a forbidden frame behind a flood that waits for its turn ends that connection, and nothing else', async (t) => {
  const uncaught: unknown[] = []
  const note = (err: unknown): void => { uncaught.push(err) }
  process.on('uncaughtException', note)
  const host = await startHost()
  t.after(async () => {
    process.off('uncaughtException', note)
    await host.stop()
  })
  for (const last of [yamuxHeader(DATA, SYN, 101, 0xffff_ffff), yamuxHeader(9, 0, 0, 0)]) {
    const attacker = await startStockPeer()
    const connection = await attacker.dial(host.node.getMultiaddrs()) as Naked
    connection.muxer.onData = () => { /* what it answers is of no interest */ }
    // one Noise message each: the last one arrives in the same piece as what is waited for
    for (let count = 0; count < 6; count++) connection.muxer.maConn.send(pings(5_000))
    connection.muxer.maConn.send(last)
    await waitFor('the end of the connection', () => connection.status !== 'open', PATIENT)
  }
  assert.deepEqual(uncaught, [])
  assert.match(await host.metrics.text(), /broken_connections_total\{reason="frame_too_long"\} 1\n/)
  assert.match(await host.metrics.text(), /broken_connections_total\{reason="protocol"\} 1\n/)
})

test('whatever the pieces are in which frames come, and however often the reader waits, every stream gets its bytes in their order', async (t) => {
  const host = await startHost()
  t.after(host.stop)
  await host.node.handle(ECHO, (stream) => {
    stream.addEventListener('message', ({ data }) => { stream.send(data.slice()) })
  }, { maxInboundStreams: 1000 })
  const peer = await startStockPeer()
  const connection = await peer.dial(host.node.getMultiaddrs()) as Naked
  // libp2p takes no more than ten streams before
  await waitFor('the connection', () => host.node.getConnections().length === 1, PATIENT)
  cutAnywhere(connection.muxer.maConn)
  const sums = await Promise.all(Array.from({ length: 40 }, async (_, index) => echoed(await connection.newStream(ECHO, { maxOutboundStreams: 1000 }), index)))
  for (const { sent, received } of sums) assert.equal(received, sent)
  assert.equal(connection.status, 'open')
  assert.ok(Number(/slowed_reads_total (\d+)/.exec(await host.metrics.text())?.[1]) > 0, 'it had to wait at times')
})

test('I8: a stranger over a circuit that announces a frame of 4 GiB loses its connection to the node at once', async (t) => {
  const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'] })
  const stops: Array<() => Promise<void>> = [async () => { await relay.stop() }]
  t.after(async () => { for (const stop of stops.toReversed()) await stop() })
  await relay.start()
  const [address = ''] = relay.addresses()
  const bob = await makeNode({ relays: [address] })
  stops.push(async () => { await bob.node.stop() })
  await bob.node.start()
  await reserved(bob, PATIENCE_MS)
  const stranger = await startStockPeer()
  const connection = await stranger.dial(multiaddr(`${address}/p2p-circuit/p2p/${bob.identity.peerId.toString()}`)) as Naked
  connection.muxer.maConn.send(yamuxHeader(DATA, SYN, 101, 0xffff_ffff))
  // one who says nothing is lost after a while, and a stranger that does nothing is sent away later
  const timer = setInterval(() => { if (connection.status === 'open') connection.muxer.maConn.send(new Uint8Array(1000)) }, 200)
  t.after(() => { clearInterval(timer) })
  await waitFor('the end of the connection', () => connection.status !== 'open', { deadlineMs: LIMITS.strangerConnectionMs * 0.7 })
})

/** Sends what the muxer says in pieces of any length, with floods between its frames. */
function cutAnywhere (connection: MessageStream): void {
  const send = connection.send.bind(connection)
  let sentCount = 0
  connection.send = (data) => {
    let isFree = true
    const bytes = data.subarray()
    for (let offset = 0; offset < bytes.length;) {
      const length = Math.random() < 0.5 ? 1 + Math.floor(Math.random() * 30) : 1 + Math.floor(Math.random() * 20_000)
      isFree = send(bytes.slice(offset, offset + length))
      offset += length
    }
    // a wider window changes nothing here; answers to pings that its muxer did not send would end it
    if (sentCount++ % 40 === 39) isFree = send(Uint8Array.from(Buffer.concat(Array.from({ length: 1_500 }, () => yamuxHeader(1, 0, 1, 1)))))
    return isFree
  }
}

/** Sends pieces and hashes what comes back; it half-closes at the end of all, as libp2p's negotiation does not go with an early one. */
async function echoed (stream: Stream, index: number): Promise<{ sent: string, received: string }> {
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  let missingBytes = 0
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  let isAllSent = false
  stream.addEventListener('close', ({ error }) => { reject(error ?? new Error('it closed early')) })
  stream.addEventListener('message', ({ data }) => {
    received.update(data.subarray())
    missingBytes -= data.byteLength
    if (isAllSent && missingBytes === 0) resolve()
  })
  for (let count = 0; count < 20; count++) {
    const piece = new Uint8Array(randomBytes(1 + (index * 7919 + count * 104_729) % (count % 5 === 0 ? 60_000 : 300)))
    sent.update(piece)
    missingBytes += piece.length
    isAllSent = count === 19
    if (!stream.send(piece)) await new Promise<void>((resolve) => { stream.addEventListener('drain', () => { resolve() }, { once: true }) })
  }
  await within('all that was sent', PATIENCE_MS, ended)
  stream.abort(new Error('done'))
  return { sent: sent.digest('hex'), received: received.digest('hex') }
}
