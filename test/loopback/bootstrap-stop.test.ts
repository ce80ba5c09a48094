/** A relay ends also when peers do their worst: ends that never read, connections that wait for the turn of their handshake. */
import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { after, test } from 'node:test'
import type { TestContext } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { createHost } from '../../src/bootstrap/host.ts'
import type { Host } from '../../src/bootstrap/host.ts'
import { metricOf } from '../support/splice-pair.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

after(stopStockPeers)

const FLOOD = '/test/flood/1'

/** A host that floods whoever asks, and a peer which has asked, over a wire that ends after the first megabytes without reading the rest. */
async function startUnreadEnd (t: TestContext): Promise<Host> {
  const host = await createHost({ clock: systemClock, log: silentLogger, metrics: createMetrics() }, { privateKey: await generateKeyPair('Ed25519'), listen: ['/ip4/127.0.0.1/tcp/0'], announce: [], maxConnections: 10, tls: undefined, gater: {} })
  await host.node.start()
  host.watchSockets(() => {})
  const streams: Stream[] = []
  await host.node.handle(FLOOD, (stream) => { streams.push(stream) }, { maxInboundStreams: 100 })
  const port = Number(host.node.getMultiaddrs()[0]?.getComponents()[1]?.value)
  let wire: Socket | undefined
  const proxy = createServer((socket) => {
    const onward = wire = connect(port, '127.0.0.1')
    for (const one of [socket, onward]) one.on('error', () => {})
    socket.pipe(onward, { end: false })
    onward.pipe(socket)
  })
  t.after(() => {
    wire?.destroy()
    proxy.close()
  })
  await new Promise<void>((resolve) => { proxy.listen(0, '127.0.0.1', resolve) })
  const peer = await startStockPeer()
  const connection = await peer.dial(multiaddr(`/ip4/127.0.0.1/tcp/${(proxy.address() as AddressInfo).port}`))
  for (let count = 0; count < 64; count++) await connection.newStream(FLOOD, { maxOutboundStreams: 100 })
  await waitFor('the streams', () => streams.length === 64, PATIENT)
  const end = wire ?? assert.fail('no wire')
  end.unpipe()
  end.pause()
  // as much as the windows of the streams let through, and more than the kernel takes
  for (const stream of streams) stream.send(new Uint8Array(256 * 1024))
  end.end()
  return host
}

test('a relay stops beside a peer that has ended and does not read', { timeout: 2 * PATIENCE_MS }, async (t) => {
  const host = await startUnreadEnd(t)
  await waitFor('its end', () => host.node.getConnections().length === 0, PATIENT)
  host.stopWatching()
  await within('the end of the host', PATIENCE_MS, Promise.resolve(host.node.stop()))
})

test('a relay stops while hundreds wait for the turn of their handshake, and nothing of them is left', { timeout: 2 * PATIENCE_MS }, async (t) => {
  const metrics = createMetrics()
  const relay = await createBootstrap({ metrics }, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], splice: 'off', connections: { perSourcePerSecond: 1000, maxPending: 500, handshakesPerSecond: 1 } })
  t.after(async () => { await relay.stop() })
  await relay.start()
  const port = Number(multiaddr(relay.addresses()[0] ?? '').getComponents()[1]?.value)
  const sockets = Array.from({ length: 300 }, (_, index) => connect({ host: '127.0.0.1', port, localAddress: `127.0.0.${2 + index % 50}` }).on('error', () => {}))
  t.after(() => { for (const socket of sockets) socket.destroy() })
  await waitFor('many to wait', async () => await metricOf(relay, 'carrier_relay_waiting_handshakes_count') > 50, PATIENT)
  await within('the end of the relay', PATIENCE_MS, relay.stop())
  await waitFor('nobody to wait', async () => /^carrier_relay_waiting_handshakes_count 0$/m.test(await metrics.text()), PATIENT)
  assert.match(await metrics.text(), /^carrier_relay_pending_connections_count 0$/m)
})
