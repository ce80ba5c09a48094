/** Attackers with a valid key of their own: what they can make a relay hold is bounded, and honest peers are served beside them. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Connection, Libp2p, MessageStream, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { createTestAuthority } from '../support/certificate-authority.ts'
import { askStatus, HOP, openHop, RESERVE } from '../support/raw-hop.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, pause, waitFor } from '../support/wait.ts'

let relay: Bootstrap
let address: string

before(async () => {
  relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'] })
  await relay.start()
  address = relay.addresses()[0] ?? ''
})

after(async () => {
  await stopStockPeers()
  await relay.stop()
})

async function metric (name: string): Promise<number> {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await relay.metrics.text())?.[1] ?? -1)
}

test('I8: a peer that pings without end and reads no answer is cut off before the answers fill the memory', async () => {
  const attacker = await startStockPeer()
  const connection = await attacker.dial(multiaddr(address)) as Connection & { muxer: { maConn: MessageStream }, maConn: { socket: { pause: () => void } } }
  const connected = await waitFor('the relay to count it', async () => {
    const count = await metric('carrier_relay_connections_count')
    return count > 0 && count
  }, PATIENT)
  connection.maConn.socket.pause()
  const pings = yamuxPings(5000)
  let sentCount = 0
  await waitFor('the relay to cut the attacker off', async () => {
    // the paused socket of the attacker does not tell it that it was cut off: the relay does
    if (await metric('carrier_relay_connections_count') < connected) return true
    if (connection.status === 'open' && connection.muxer.maConn.writeBufferLength < 1024 * 1024) {
      connection.muxer.maConn.send(pings)
      sentCount += 5000
    }
    return false
  }, { deadlineMs: PATIENCE_MS, intervalMs: 1 })
  console.log(`cut off after at most ${sentCount} pings`)
  // what the kernel's buffers take of them is not answered in vain; libp2p's own ping would end this only after ten million
  assert.ok(sentCount < 1_500_000, `${sentCount} pings were taken`)
  connection.abort(new Error('done'))
})

test('I8: requests that never end cannot take the place of an honest one, however many identities send them', async () => {
  const perPeer = LIMITS.relayPendingHandshakesPerPeerCount
  const attackers: Libp2p[] = []
  const streams: Stream[] = []
  for (let index = 0; index < LIMITS.relayPendingHandshakeCount / perPeer; index++) attackers.push(await startStockPeer())
  const honest = await startStockPeer()
  // the time of the first request must not run out before the last one is there
  for (const attacker of attackers) {
    const { connection, stream } = await openHop(attacker, address)
    streams.push(stream, ...await Promise.all(Array.from({ length: perPeer - 1 }, async () => connection.newStream(HOP, { maxOutboundStreams: 10_000 }))))
  }
  await waitFor('all places to be taken', async () => await metric('carrier_relay_pending_handshakes_count') === LIMITS.relayPendingHandshakeCount, { deadlineMs: 8_000, intervalMs: 20 })
  assert.equal(await askStatus((await openHop(honest, address)).stream, RESERVE), 100)
  assert.equal(await metric('carrier_relay_refused_handshakes_total'), 1)
  for (const stream of streams) stream.abort(new Error('done'))
  await waitFor('none pending', async () => await metric('carrier_relay_pending_handshakes_count') === 0, { deadlineMs: LIMITS.relayHandshakeTimeoutMs * 0.9 })
})

test('I8: a socket at a WebSocket port that says nothing, or no WebSocket, is closed after the time for handshakes and counted', { timeout: 120_000 }, async (t) => {
  const { cert, key } = await (await createTestAuthority()).issue(['127.0.0.1'])
  const directory = makeTempDirectory('relay')
  const tls = { certificateFile: join(directory, 'cert.pem'), keyFile: join(directory, 'key.pem') }
  writeFileSync(tls.certificateFile, cert)
  writeFileSync(tls.keyFile, key)
  const wsRelay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: directory, listen: ['/ip4/127.0.0.1/tcp/0/ws', '/ip4/127.0.0.1/tcp/0/tls/ws'], tls, connections: { perSourcePerSecond: 1000, maxPending: 20 } })
  t.after(async () => { await wsRelay.stop() })
  await wsRelay.start()
  const portOf = (isTls: boolean): number => Number(multiaddr(wsRelay.addresses().find((text) => text.includes('/tls/') === isTls) ?? '').getComponents()[1]?.value)
  const sockets = Array.from({ length: 30 }, (_, index) => {
    // from another address at the other listener: the system may choose the same port there, which the gate refuses
    const socket = connect({ port: portOf(index % 3 === 2), host: '127.0.0.1', localAddress: index % 3 === 2 ? '127.0.0.2' : '127.0.0.1' }).on('error', () => { /* reset is fine too */ })
    if (index % 3 === 1) socket.write('GET / HTTP/1.1\r\n')
    if (index % 3 === 2) socket.write(Uint8Array.of(0x16, 3, 1))
    return socket
  })
  t.after(() => { for (const socket of sockets) socket.destroy() })
  const counted = async (reason: string): Promise<number> => Number(new RegExp(`^carrier_relay_refused_connections_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(await wsRelay.metrics.text())?.[1] ?? 0)
  // twenty places: the ten oldest had to go at once
  await waitFor('the oldest to be closed', async () => await counted('pending') === 10, { deadlineMs: 30_000, intervalMs: 20 })
  await waitFor('all to be closed', () => sockets.every((socket) => socket.closed), { deadlineMs: 60_000 })
  await waitFor('all to be counted', async () => await counted('handshake') === 20, { deadlineMs: 30_000 })
  // an honest one takes its place for as long as it needs, and keeps its connection
  const honest = await startStockPeer()
  const connection = await honest.dial(multiaddr(wsRelay.addresses().find((text) => !text.includes('/tls/')) ?? ''))
  await pause(LIMITS.relayUpgradeTimeoutMs + 500)
  assert.equal(connection.status, 'open')
  assert.equal(await counted('handshake'), 20)
})

test('I8: idle connections cannot hold all places of a relay: one makes room for the next, a holder of a reservation stays', { timeout: 120_000 }, async (t) => {
  const small = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], maxConnections: 4 })
  t.after(async () => { await small.stop() })
  await small.start()
  const [place = ''] = small.addresses()
  const holder = await startStockPeer({ relays: [place] })
  const idle = [await startStockPeer(), await startStockPeer(), await startStockPeer()]
  for (const peer of idle) await peer.dial(multiaddr(place))
  const next = await startStockPeer()
  // those that have just come may stay for three seconds: until then there is no place
  await waitFor('a place', async () => (await next.dial(multiaddr(place))).status === 'open', { deadlineMs: 60_000, intervalMs: 200 })
  assert.equal(await askStatus((await openHop(next, place)).stream, RESERVE), 100)
  await waitFor('the end of an idle one', () => idle.filter((peer) => peer.getConnections().length === 0).length === 1, { deadlineMs: 30_000 })
  assert.equal(holder.getConnections().length, 1)
  assert.match(await small.metrics.text(), /^carrier_relay_evicted_connections_total 1$/m)
  assert.equal(small.status().connections, 4)
})

/** Yamux PING frames with the SYN flag: each is to be answered. */
function yamuxPings (count: number): Uint8Array {
  const bytes = new Uint8Array(12 * count)
  const view = new DataView(bytes.buffer)
  for (let index = 0; index < count; index++) {
    view.setUint8(12 * index + 1, 2)
    view.setUint16(12 * index + 2, 1)
    view.setUint32(12 * index + 8, index)
  }
  return bytes
}
