/** Attackers with a valid key of their own: what they can make a relay hold is bounded, and honest peers are served beside them. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Connection, Libp2p, MessageStream, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { askStatus, HOP, openHop, RESERVE } from '../support/raw-hop.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { pause, waitFor } from '../support/wait.ts'

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
  await pause(300)
  const connected = await metric('carrier_relay_connections_count')
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
  }, { deadlineMs: 20_000, intervalMs: 1 })
  console.log(`cut off after at most ${sentCount} pings`)
  // what the kernel's buffers take of them is not answered in vain; libp2p's own ping would end this only after ten million
  assert.ok(sentCount < 1_500_000, `${sentCount} pings were taken`)
  connection.abort(new Error('done'))
})

test('I8: requests that never end cannot take the place of an honest one, however many identities send them', async () => {
  const perPeer = LIMITS.relayPendingHandshakesPerPeerCount
  const attackers: Libp2p[] = []
  const streams: Stream[] = []
  for (let index = 0; index < LIMITS.relayPendingHandshakeCount / perPeer; index++) {
    const attacker = await startStockPeer()
    attackers.push(attacker)
    const { connection, stream } = await openHop(attacker, address)
    streams.push(stream, ...await Promise.all(Array.from({ length: perPeer - 1 }, async () => connection.newStream(HOP, { maxOutboundStreams: 10_000 }))))
  }
  await waitFor('all places to be taken', async () => await metric('carrier_relay_pending_handshakes_count') === LIMITS.relayPendingHandshakeCount, { deadlineMs: 8_000, intervalMs: 20 })
  const honest = await startStockPeer()
  assert.equal(await askStatus((await openHop(honest, address)).stream, RESERVE), 100)
  assert.equal(await metric('carrier_relay_refused_handshakes_total'), 1)
  for (const stream of streams) stream.abort(new Error('done'))
  await waitFor('none pending', async () => await metric('carrier_relay_pending_handshakes_count') === 0, { deadlineMs: 5_000 })
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
