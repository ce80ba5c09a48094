/** What an operator does to a running relay: drain, reload, renew a certificate, look. */
import assert from 'node:assert/strict'
import { statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import type { Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../../src/base/index.ts'
import { parseListEntry } from '../../src/bootstrap/admission-lists.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapComponents, BootstrapConfig } from '../../src/bootstrap/index.ts'
import { OPERATOR_SOCKET } from '../../src/bootstrap/operator-server.ts'
import { peerKey } from '../../src/bootstrap/reservation-table.ts'
import { decodeRelayCall, SPLICE_PROTOCOL } from '../../src/node/splice-messages.ts'
import { createTestAuthority } from '../support/certificate-authority.ts'
import { makeNode, reserved } from '../support/node-pair.ts'
import { askStatus, firstMessage, openHop, RESERVE } from '../support/raw-hop.ts'
import { metricOf, readAll, startSplicePair, writeRandom } from '../support/splice-pair.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

after(stopStockPeers)

/** A relay whose configuration a test may change. */
async function startRelay (t: TestContext, init: Partial<BootstrapConfig> = {}, components: BootstrapComponents = {}): Promise<{ relay: Bootstrap, address: string, config: { value: BootstrapConfig } }> {
  const config = { value: { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], ...init } }
  const relay = await createBootstrap({ readConfig: () => config.value, ...components }, config.value)
  t.after(async () => { await relay.stop() })
  await relay.start()
  return { relay, address: relay.addresses()[0] ?? '', config }
}

function keyOf (peer: Libp2p): string {
  return peerKey(peer.peerId.toMultihash().bytes)
}

function listsOf ({ members = [], friends = [] }: { members?: string[], friends?: string[] }): BootstrapConfig['admission']['lists'] {
  return { allow: new Set(), members: new Set(members), friends: new Set(friends) }
}

/** A circuit that moves bytes until `stop`. */
async function openBusyCircuit (relay: string, caller: Libp2p, called: Libp2p): Promise<{ stream: Stream, stop: () => void }> {
  await called.handle('/test/busy/1.0.0', (stream) => { stream.addEventListener('message', () => { /* taken */ }) }, { runOnLimitedConnection: true, force: true })
  const stream = await openStream(await dialOverRelay(caller, relay, called), '/test/busy/1.0.0')
  const timer = setInterval(() => { if (stream.status === 'open') stream.send(new Uint8Array(32 * 1024)) }, 100).unref()
  return { stream, stop: () => { clearInterval(timer) } }
}

describe('drain', () => {
  test('devices with a reservation are told, while their circuits still run; who does not listen holds nothing up', { timeout: 180_000 }, async (t) => {
    const { relay, address } = await startRelay(t, { drainMs: 1_800_000 })
    const office = await startStockPeer({ relays: [address] })
    const [deaf, stock, laptop] = [await startStockPeer({ relays: [address] }), await startStockPeer({ relays: [address] }), await startStockPeer()]
    const told = Promise.withResolvers<ReturnType<typeof decodeRelayCall>>()
    await office.handle(SPLICE_PROTOCOL, (stream) => { firstMessage(stream).then((bytes) => { told.resolve(decodeRelayCall(bytes)) }, told.reject) })
    await deaf.handle(SPLICE_PROTOCOL, () => { /* it neither reads nor ends */ })
    const busy = await openBusyCircuit(address, laptop, office)
    const drained = relay.drain()
    assert.deepEqual(await within('the word', PATIENCE_MS, told.promise), { t: 'drain', withinMs: 1_800_000 })
    assert.equal(busy.stream.status, 'open')
    assert.equal(relay.status().isDraining, true)
    assert.equal(await askStatus((await openHop(stock, address)).stream, RESERVE), 200, 'no further reservations')
    busy.stop()
    await busy.stream.close()
    for (const connection of laptop.getConnections()) await connection.close()
    await within('the drain', PATIENCE_MS, drained)
    // the deaf one took the stream; a stock peer does not know it
    assert.equal(await metricOf(relay, 'carrier_relay_drain_notices_total{result="failed"}'), 1)
    assert.equal(await metricOf(relay, 'carrier_relay_drain_notices_total{result="told"}'), 2)
    assert.equal(await metricOf(relay, 'carrier_relay_draining'), 1)
  })

  test('a node of ours takes the word without harm', { timeout: 120_000 }, async (t) => {
    const { relay, address } = await startRelay(t)
    const node = await makeNode({ relays: [address] })
    t.after(async () => { await node.node.stop() })
    node.node.handleSplices({ admits: () => false, onSocket: (socket) => { socket.destroy() } })
    await node.node.start()
    await reserved(node, PATIENCE_MS)
    await within('the drain', PATIENCE_MS, relay.drain())
    assert.equal(await metricOf(relay, 'carrier_relay_drain_notices_total{result="told"}'), 1)
  })
})

describe('reload', () => {
  test('limits, lists, announced addresses and splice settings change while circuits run; what cannot change is said and kept', { timeout: 180_000 }, async (t) => {
    const { relay, address, config } = await startRelay(t)
    const [office, laptop] = [await startStockPeer({ relays: [address] }), await startStockPeer()]
    const pushed = Promise.withResolvers<void>()
    await laptop.handle('/ipfs/id/push/1.0.0', (stream) => {
      pushed.resolve()
      stream.abort(new Error('enough'))
    })
    const busy = await openBusyCircuit(address, laptop, office)
    config.value = {
      ...config.value,
      announce: ['/ip4/192.0.2.7/tcp/4001'],
      relay: { maxReservations: 1 },
      maxConnections: 50,
      drainMs: 1_000,
      health: { host: '127.0.0.1', port: 1 },
      listen: ['/ip4/127.0.0.1/tcp/1'],
      circuitLimits: { durationSeconds: 77 }
    }
    const state = await relay.reload()
    assert.deepEqual([state.result, state.changed, state.needRestart], ['ok', ['announce', 'max_connections', 'drain_seconds', 'relay.circuit_…', 'relay.max_…'], ['listen', 'health']])
    assert.deepEqual(relay.addresses(), [`/ip4/192.0.2.7/tcp/4001/p2p/${relay.peerId.toString()}`])
    assert.equal(await askStatus((await openHop(laptop, address)).stream, RESERVE), 200, 'the one reservation is taken')
    assert.equal(busy.stream.status, 'open')
    const limited = await dialOverRelay(await startStockPeer(), address, office)
    // what is left of 77, as the stock client counts it
    const seconds = limited.limits?.seconds ?? 0
    assert.ok(seconds <= 77 && seconds > 77 - 60, `seconds: ${seconds}`)
    // connected peers are told
    await within('the new addresses', PATIENCE_MS, pushed.promise)
    busy.stop()
    assert.equal(await metricOf(relay, 'carrier_relay_config_reloads_total{result="ok"}'), 1)
  })

  test('fifty reloads under a transfer lose nothing, whatever they change', { timeout: 180_000 }, async (t) => {
    const config = { value: BOOTSTRAP_DEFAULTS as BootstrapConfig }
    const pair = await startSplicePair(t, {}, { readConfig: () => config.value })
    const { caller, called } = await pair.splice()
    const reading = readAll(called)
    const writing = writeRandom(caller, 64 * 1024 * 1024).then((sha256) => {
      caller.end()
      return sha256
    })
    for (let index = 0; index < 50; index++) {
      const bytesPerSecond = index % 3 === 0 ? {} : { bytesPerSecond: 20_000_000 + index }
      config.value = { ...BOOTSTRAP_DEFAULTS, dataDirectory: '', quotas: { friend: {}, member: {}, stranger: { ...bytesPerSecond, ...(index % 2 === 0 ? { bytesPerDay: 10_000_000_000 } : {}) }, strangers: {}, ...bytesPerSecond }, relay: { maxCircuits: 100 + index }, spliceBytesPerSecond: index % 5 === 0 ? 30_000_000 : undefined, drainMs: index }
      assert.equal((await pair.relay.reload()).result, 'ok')
    }
    const sha256 = await within('the writer', 120_000, writing)
    assert.deepEqual(await within('the reader', 120_000, reading), { sha256, byteCount: 64 * 1024 * 1024, how: 'end' })
    called.end()
  })

  test('a wrong configuration is refused and the old one stays', async (t) => {
    const broken = { isBroken: false }
    const base = { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], announce: ['/ip4/192.0.2.1/tcp/1'] }
    const file = join(makeTempDirectory('lists'), 'allow.txt')
    writeFileSync(file, `${(await startStockPeer()).peerId.toString()}\n`)
    const admission = { ...base.admission, mode: 'allow-list' as const, files: { allow: file } }
    const relay = await createBootstrap({ readConfig: () => ({ ...base, admission, ...(broken.isBroken ? { announce: ['/ip4/192.0.2.2/tcp/1'] } : {}) }) }, base)
    t.after(async () => { await relay.stop() })
    await relay.start()
    broken.isBroken = true
    writeFileSync(file, '# fine\nnonsense\n')
    const state = await relay.reload()
    assert.equal(state.result, 'refused')
    assert.match(state.error ?? '', /allow\.txt:2: "nonsense"/)
    assert.match(relay.addresses()[0] ?? '', /192\.0\.2\.1/)
    assert.equal(relay.status().admission.mode, 'open')
    assert.equal(relay.status().lastReload?.result, 'refused')
    assert.equal(await metricOf(relay, 'carrier_relay_config_reloads_total{result="refused"}'), 1)
  })

  test('who is taken off the list loses the reservation and the connection, the others keep theirs', { timeout: 120_000 }, async (t) => {
    const [kept, dropped] = [await startStockPeer(), await startStockPeer()]
    const lists = (...peers: Libp2p[]): BootstrapConfig['admission'] => ({ mode: 'members', callers: 'anyone', lists: listsOf({ members: peers.map(keyOf) }), files: {} })
    const { relay, address, config } = await startRelay(t, { admission: lists(kept, dropped) })
    for (const peer of [kept, dropped]) assert.equal(await askStatus((await openHop(peer, address)).stream, RESERVE), 100)
    config.value = { ...config.value, admission: lists(kept) }
    assert.equal((await relay.reload()).result, 'ok')
    await waitFor('the end of its connection', () => dropped.getConnections().length === 0, PATIENT)
    assert.equal(relay.status().reservations, 1)
    assert.equal(kept.getConnections().length, 1)
  })

  test('who is taken off the list loses its circuits too, also without a reservation; others to the same device stay', { timeout: 180_000 }, async (t) => {
    const [office, kept, dropped] = [await startStockPeer(), await startStockPeer(), await startStockPeer()]
    const members = (...peers: Libp2p[]): BootstrapConfig['admission'] => ({ mode: 'members', callers: 'listed', lists: listsOf({ members: peers.map(keyOf) }), files: {} })
    const { relay, address, config } = await startRelay(t, { admission: members(office, kept, dropped) })
    assert.equal(await askStatus((await openHop(office, address)).stream, RESERVE), 100)
    const [stays, goes] = [await openBusyCircuit(address, kept, office), await openBusyCircuit(address, dropped, office)]
    config.value = { ...config.value, admission: members(office, kept) }
    assert.deepEqual((await relay.reload()).changed, ['admission'])
    await waitFor('the end of its circuit', () => goes.stream.status !== 'open', PATIENT)
    assert.equal(await metricOf(relay, 'carrier_relay_ended_circuits_total{reason="admission"}'), 1)
    assert.equal(relay.status().circuits, 1)
    assert.equal(stays.stream.status, 'open')
    // the called end counts as well
    config.value = { ...config.value, admission: members(kept) }
    assert.equal((await relay.reload()).result, 'ok')
    await waitFor('the end of the other', () => stays.stream.status !== 'open', PATIENT)
    assert.equal(await metricOf(relay, 'carrier_relay_ended_circuits_total{reason="admission"}'), 2)
    for (const busy of [stays, goes]) busy.stop()
  })

  test('who is counted to a lower class loses what counts to the higher one and comes back; who is raised keeps what it has', { timeout: 180_000 }, async (t) => {
    const config = { value: BOOTSTRAP_DEFAULTS as BootstrapConfig }
    const pair = await startSplicePair(t, {}, { readConfig: () => config.value })
    const reloadWith = async (lists: Parameters<typeof listsOf>[0]): Promise<void> => {
      config.value = { ...BOOTSTRAP_DEFAULTS, dataDirectory: '', admission: { mode: 'open', callers: 'anyone', lists: listsOf(lists), files: {} } }
      assert.equal((await pair.relay.reload()).result, 'ok')
    }
    const laptop = parseListEntry(pair.laptop.did)
    const asStranger = await pair.splice()
    await waitFor('the splice to run', () => pair.relay.status().splices === 1, PATIENT)
    await reloadWith({ friends: [laptop] })
    const asFriend = await pair.splice()
    // an end has its socket a moment before the relay joins the two
    await waitFor('both splices to run', () => pair.relay.status().splices === 2, PATIENT)
    await reloadWith({ members: [laptop] })
    const cut = readAll(asFriend.called)
    await within('the end of the splice', PATIENCE_MS, cut)
    await waitFor('its end to be counted', async () => await metricOf(pair.relay, 'carrier_relay_ended_splices_total{reason="admission"}') === 1, PATIENT)
    assert.equal(pair.relay.status().splices, 1)
    const asMember = await pair.splice()
    for (const { caller, called } of [asStranger, asFriend, asMember]) {
      caller.destroy()
      called.destroy()
    }
  })

  test('a reservation does not outlive the class that it counts to', { timeout: 120_000 }, async (t) => {
    const peer = await startStockPeer()
    const open = (friends: string[]): BootstrapConfig['admission'] => ({ mode: 'open', callers: 'anyone', lists: listsOf({ friends }), files: {} })
    const { relay, address, config } = await startRelay(t, { admission: open([keyOf(peer)]) })
    assert.equal(await askStatus((await openHop(peer, address)).stream, RESERVE), 100)
    config.value = { ...config.value, admission: open([]) }
    assert.equal((await relay.reload()).result, 'ok')
    assert.equal(relay.status().reservations, 0)
    await waitFor('the end of its connection, so that it asks again', () => peer.getConnections().length === 0, PATIENT)
    assert.equal(await askStatus((await openHop(peer, address)).stream, RESERVE), 100)
    config.value = { ...config.value, admission: open([keyOf(peer)]) }
    assert.equal((await relay.reload()).result, 'ok')
    assert.equal(relay.status().reservations, 1)
  })
})

describe('certificates', () => {
  test('renewed files are shown to the next one, and open WebSockets in TLS stay', { timeout: 180_000 }, async (t) => {
    const directory = makeTempDirectory('wss')
    const tls = { certificateFile: join(directory, 'cert.pem'), keyFile: join(directory, 'key.pem') }
    const authority = await createTestAuthority()
    const renew = async (name: string): Promise<void> => {
      const { cert, key } = await authority.issue([name, '127.0.0.1'])
      writeFileSync(tls.certificateFile, cert)
      writeFileSync(tls.keyFile, key)
    }
    await renew('old.carrier.test')
    const { relay } = await startRelay(t, { dataDirectory: directory, listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/tls/ws', '/ip4/127.0.0.1/tcp/0/ws'], tls })
    const wss = relay.addresses().find((text) => text.includes('/tls/ws')) ?? ''
    const port = Number(multiaddr(wss).getComponents()[1]?.value)
    const node = await makeNode({ relays: [wss], upstream: { extraCertificates: authority.certificatePem } })
    t.after(async () => { await node.node.stop() })
    await node.node.start()
    await reserved(node, PATIENCE_MS)
    assert.match(await namesShown(port), /old\.carrier\.test/)
    await renew('new.carrier.test')
    assert.deepEqual((await relay.reload()).changed, ['tls'])
    assert.deepEqual((await relay.reload()).changed, [])
    assert.match(await namesShown(port), /new\.carrier\.test/)
    assert.equal(await metricOf(relay, 'carrier_relay_connections_count'), 1)
    assert.equal(node.node.relays()[0]?.state, 'reserved', 'the open connection stayed')
    // a pair that does not fit leaves the working one
    writeFileSync(tls.keyFile, (await (await createTestAuthority()).issue(['x'])).key)
    assert.equal((await relay.reload()).result, 'refused')
    assert.match(await namesShown(port), /new\.carrier\.test/)
  })

  async function namesShown (port: number): Promise<string> {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false })
    const names = await within('the certificate', PATIENCE_MS, new Promise<string>((resolve, reject) => {
      socket.on('error', reject)
      socket.on('secureConnect', () => { resolve(socket.getPeerX509Certificate()?.subjectAltName ?? '') })
    }))
    socket.destroy()
    return names
  }
})

describe('the control socket', () => {
  async function ask (directory: string, method: string, path: string): Promise<{ status: number, body: unknown }> {
    return within('an answer', PATIENCE_MS, new Promise((resolve, reject) => {
      request({ socketPath: join(directory, OPERATOR_SOCKET), method, path }, (response) => {
        let text = ''
        response.on('data', (part: Buffer) => { text += part.toString() })
        response.on('end', () => { resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as unknown }) })
      }).on('error', reject).end()
    }))
  }

  test('is its owner\'s alone, shows state without names unless asked, and refuses what it does not know', async (t) => {
    const dataDirectory = makeTempDirectory('relay')
    const { relay, address } = await startRelay(t, { dataDirectory })
    assert.equal(statSync(join(dataDirectory, OPERATOR_SOCKET)).mode & 0o777, 0o600)
    const office = await startStockPeer({ relays: [address] })
    const status = await ask(dataDirectory, 'GET', '/v1/status')
    assert.equal(status.status, 200)
    assert.deepEqual([(status.body as { reservations: number }).reservations, (status.body as { peerId: string }).peerId], [1, relay.peerId.toString()])
    const short = JSON.stringify((await ask(dataDirectory, 'GET', '/v1/peers')).body)
    assert.equal(short, '{"peers":[{"who":"127.0.…","class":"stranger","reservations":1,"circuits":0,"sentTodayBytes":0,"limits":{"reservations":512,"circuits":1024}}]}')
    assert.ok(!JSON.stringify(status.body).includes(office.peerId.toString()))
    assert.match(JSON.stringify((await ask(dataDirectory, 'GET', '/v1/peers?full=1')).body), /"127\.0\.0\.1"/)
    assert.equal((await ask(dataDirectory, 'GET', '/v1/nothing')).status, 404)
    assert.equal((await ask(dataDirectory, 'POST', '/v1/drain')).status, 404, 'this relay is part of a test')
    assert.equal((await ask(dataDirectory, 'POST', '/v1/reload')).status, 200)
  })

  test('I8: connections to it are bounded', async (t) => {
    const dataDirectory = makeTempDirectory('relay')
    await startRelay(t, { dataDirectory })
    const sockets = Array.from({ length: LIMITS.relayOperatorConnectionCount + 5 }, () => createConnection(join(dataDirectory, OPERATOR_SOCKET)).on('error', () => { /* closed by the relay */ }))
    t.after(() => { for (const socket of sockets) socket.destroy() })
    await waitFor('those beyond to be closed', () => sockets.filter((socket) => socket.closed).length === 5, PATIENT)
  })
})
