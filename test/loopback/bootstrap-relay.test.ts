/** The relay against stock libp2p peers over real sockets. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { encodeFrame } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap, BootstrapComponents, BootstrapConfig } from '../../src/bootstrap/index.ts'
import { askStatus, connectTo, firstMessage, openHop, STOP } from '../support/raw-hop.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { dialOverRelay, openStream, receiveAll, sendRandom, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { PATIENCE_MS, waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const ECHO = '/test/sink/1.0.0'
const STOP_OK = encodeFrame(Uint8Array.from([0x08, 0x01, 0x20, 0x64]))

/** Sooner than what falls silent is noticed, or a request times out: 10 s. */
const SOON_MS = 9_000

const relays = new Set<Bootstrap>()

after(async () => {
  await stopStockPeers()
  await Promise.all([...relays].map(async (relay) => { await relay.stop() }))
})

async function startRelay (init: Partial<BootstrapConfig> = {}, components: BootstrapComponents = {}): Promise<{ relay: Bootstrap, address: string }> {
  const relay = await createBootstrap(components, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], ...init })
  relays.add(relay)
  await relay.start()
  const address = relay.addresses()[0]
  assert.ok(address !== undefined)
  return { relay, address }
}

/** A circuit whose two ends are raw streams, without a connection inside. */
async function openRawCircuit (caller: Libp2p, address: string): Promise<{ caller: Stream, called: Stream }> {
  const reader = await startStockPeer({ relays: [address] })
  const arrived = Promise.withResolvers<Stream>()
  await reader.unhandle(STOP)
  await reader.handle(STOP, async (stream) => {
    await firstMessage(stream)
    stream.send(STOP_OK)
    arrived.resolve(stream)
  })
  const { stream } = await openHop(caller, address)
  assert.equal(await askStatus(stream, connectTo(reader.peerId)), 100)
  return { caller: stream, called: await within('the circuit', PATIENCE_MS, arrived.promise) }
}

async function metric (relay: Bootstrap, line: string): Promise<number> {
  const found = (await relay.metrics.text()).split('\n').find((candidate) => candidate.startsWith(`${line} `))
  return found === undefined ? 0 : Number(found.split(' ').at(-1))
}

describe('a relay with default limits', () => {
  let relay: Bootstrap
  let address: string
  let office: Libp2p
  let laptop: Libp2p

  before(async () => {
    ({ relay, address } = await startRelay({ listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.1/tcp/0/ws'] }))
    office = await startStockPeer({ relays: [address] })
    laptop = await startStockPeer()
  })

  test('I1: stock peers reserve, are dialled without any limit and exchange 64 MiB of equal hash', async () => {
    const received = Promise.withResolvers<{ bytes: number, sha256: string }>()
    await office.handle(ECHO, (stream) => { receiveAll(stream).then(received.resolve, received.reject) }, { runOnLimitedConnection: true })
    const connection = await dialOverRelay(laptop, address, office)
    assert.equal(connection.limits, undefined)
    const stream = await openStream(connection, ECHO)
    const sent = await sendRandom(stream, 64 * MIB)
    const { bytes, sha256 } = await within('all bytes', 60_000, received.promise)
    assert.equal(bytes, 64 * MIB)
    assert.equal(sha256, sent)
    assert.ok(await metric(relay, 'carrier_relay_forwarded_bytes_total') >= 64 * MIB)
    await office.unhandle(ECHO)
    await connection.close()
  })

  test('a peer that reserved over WebSocket is dialled by one on TCP', async () => {
    const ws = relay.addresses().find((candidate) => candidate.includes('/ws'))
    assert.ok(ws !== undefined)
    const browser = await startStockPeer({ relays: [ws] })
    const connection = await dialOverRelay(laptop, address, browser)
    assert.equal(connection.remotePeer.toString(), browser.peerId.toString())
    await browser.stop()
  })

  for (const role of ['caller', 'called'] as const) {
    test(`a half-close by the ${role} passes the relay: the answer comes after the FIN of the question`, async () => {
      const ends = await openRawCircuit(laptop, address)
      const [asker, other] = role === 'caller' ? [ends.caller, ends.called] : [ends.called, ends.caller]
      const question = receiveAll(other)
      const answer = receiveAll(asker)
      const asked = await sendRandom(asker, 100_000)
      assert.equal((await within('the question and its FIN', PATIENCE_MS, question)).sha256, asked)
      const answered = await sendRandom(other, 3 * MIB)
      assert.equal((await within('the answer and its FIN', PATIENCE_MS, answer)).sha256, answered)
      await waitFor('the circuit to be finished', async () => await metric(relay, 'carrier_relay_circuits_count') === 0, { deadlineMs: PATIENCE_MS })
    })
  }

  test('I4: the loss of one end of a circuit is a reset at the other, never a clean end', async () => {
    const arrived = Promise.withResolvers<Stream>()
    const visitor = await startStockPeer()
    await office.handle('/test/hold/1.0.0', (stream) => { arrived.resolve(stream) }, { runOnLimitedConnection: true })
    const connection = await dialOverRelay(visitor, address, office)
    const stream = await openStream(connection, '/test/hold/1.0.0')
    stream.send(new Uint8Array(1000))
    const held = await within('the stream', PATIENCE_MS, arrived.promise)
    const failed = receiveAll(held).then(() => 'clean', () => 'failed')
    // the transport below the circuit breaks without a word
    for (const direct of visitor.getConnections().filter((candidate) => candidate.direct)) direct.abort(new Error('cut'))
    assert.equal(await within('the end of the held stream', SOON_MS, failed), 'failed')
    await waitFor('the circuit to be gone', async () => await metric(relay, 'carrier_relay_circuits_count') === 0, { deadlineMs: SOON_MS })
    await visitor.stop()
  })

  for (const [who, role] of [['the caller', 'caller'], ['the called peer', 'called']] as const) {
    test(`I4: a reset by ${who} arrives as a reset, and both ends of the circuit are freed`, async () => {
      const { caller, called } = await openRawCircuit(laptop, address)
      const [resetting, other] = role === 'caller' ? [caller, called] : [called, caller]
      const closed = new Promise<{ error?: Error, local?: boolean }>((resolve) => { other.addEventListener('close', ({ error, local }) => { resolve({ ...(error === undefined ? {} : { error }), ...(local === undefined ? {} : { local }) }) }) })
      const before = await metric(relay, 'carrier_relay_ended_circuits_total{reason="reset"}')
      resetting.abort(new Error('enough'))
      const { error, local } = await within('the reset', PATIENCE_MS, closed)
      assert.ok(error !== undefined && local === false)
      assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="reset"}'), before + 1)
    })
  }

  test('I4: a reader that stops and goes on again and again gets every byte', async () => {
    const reader = await startStockPeer({ relays: [address] })
    const received = Promise.withResolvers<{ bytes: number, sha256: string }>()
    await reader.unhandle(STOP)
    await reader.handle(STOP, async (stream) => {
      await firstMessage(stream)
      // every piece is followed by a rest, so that the relay's buffers fill up and run empty many times
      stream.addEventListener('message', () => {
        stream.pause()
        setTimeout(() => { if (stream.readStatus === 'paused') stream.resume() }, 10)
      })
      receiveAll(stream).then(received.resolve, received.reject)
      stream.send(STOP_OK)
    })
    const { stream } = await openHop(laptop, address)
    assert.equal(await askStatus(stream, connectTo(reader.peerId)), 100)
    const sent = await sendRandom(stream, 24 * MIB)
    const { bytes, sha256 } = await within('all bytes', 60_000, received.promise)
    assert.equal(bytes, 24 * MIB)
    assert.equal(sha256, sent)
    await reader.stop()
  })

  test('a reservation ends with the last connection of its peer', async () => {
    const guest = await startStockPeer({ relays: [address] })
    const before = await metric(relay, 'carrier_relay_reservations_count')
    await guest.stop()
    await waitFor('the reservation to be gone', async () => await metric(relay, 'carrier_relay_reservations_count') === before - 1, { deadlineMs: SOON_MS })
    await assert.rejects(dialOverRelay(laptop, address, guest))
    assert.equal(await metric(relay, 'carrier_relay_connect_requests_total{status="NO_RESERVATION"}'), 1)
  })

  test('a peer whose first connection is dead without anybody knowing is called on its other one', async () => {
    const guest = await startStockPeer({ relays: [address] })
    const dead = guest.getConnections(relay.peerId)[0]
    await guest.dial(multiaddr(address), { force: true })
    await guest.unhandle(STOP)
    await guest.handle(STOP, async (stream, connection) => {
      if (connection.id === dead?.id) return
      await firstMessage(stream)
      stream.send(STOP_OK)
    })
    const { stream } = await openHop(laptop, address)
    assert.equal(await askStatus(stream, connectTo(guest.peerId)), 100)
    stream.abort(new Error('done'))
    await guest.stop()
  })

  test('a called peer that refuses leads to CONNECTION_FAILED, and nothing is left behind', async () => {
    const guest = await startStockPeer({ relays: [address] })
    await guest.unhandle('/libp2p/circuit/relay/0.2.0/stop')
    await assert.rejects(dialOverRelay(laptop, address, guest), /203|CONNECTION_FAILED/)
    assert.equal(await metric(relay, 'carrier_relay_connect_requests_total{status="CONNECTION_FAILED"}'), 1)
    await waitFor('no pending request', async () => await metric(relay, 'carrier_relay_pending_handshakes_count') === 0, { deadlineMs: SOON_MS })
    await guest.stop()
  })
})

describe('a relay with configured limits', () => {
  test('the dialer sees the limits in the right units', async () => {
    const { address } = await startRelay({ circuitLimits: { durationSeconds: 120, dataBytes: 5_000_000n } })
    const office = await startStockPeer({ relays: [address] })
    const laptop = await startStockPeer()
    const connection = await dialOverRelay(laptop, address, office)
    const { seconds, bytes } = connection.limits ?? {}
    assert.ok(seconds !== undefined && seconds <= 120 && seconds > 110, `seconds: ${seconds}`)
    assert.ok(bytes !== undefined && bytes <= 5_000_000n && bytes > 4_900_000n, `bytes: ${bytes}`)
  })

  test('stock peers exchange 64 MiB in each direction within limits that both see in the right units: bytes per direction, and seconds', { timeout: 480_000 }, async () => {
    const { relay, address } = await startRelay({ circuitLimits: { durationSeconds: 600, dataBytes: BigInt(72 * MIB) } })
    const [office, laptop] = [await startStockPeer({ relays: [address] }), await startStockPeer()]
    const arrived = Promise.withResolvers<Stream>()
    await office.handle(ECHO, (stream, connection) => {
      assertLimits(connection.limits, { seconds: 600, bytes: 72 * MIB })
      arrived.resolve(stream)
    }, { runOnLimitedConnection: true })
    const connection = await dialOverRelay(laptop, address, office)
    assertLimits(connection.limits, { seconds: 600, bytes: 72 * MIB })
    const there = await openStream(connection, ECHO)
    const back = await within('the stream', 30_000, arrived.promise)
    for (const [from, to] of [[there, back], [back, there]] as const) {
      const reading = receiveAll(to)
      const sent = await within('the sender', 120_000, sendRandom(from, 64 * MIB))
      assert.deepEqual(await within('all bytes', 120_000, reading), { bytes: 64 * MIB, sha256: sent })
    }
    // the stock client counts both directions for what it shows
    assert.equal(connection.limits?.bytes, 0n)
    assert.equal(connection.status, 'open', 'nothing has ended the circuit')
    assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="data-limit"}'), 0)

    // what is announced is in force: the same again is too much for one direction
    const more = Promise.withResolvers<Stream>()
    await office.handle('/test/more/1.0.0', (stream) => { more.resolve(stream) }, { runOnLimitedConnection: true })
    const again = await openStream(connection, '/test/more/1.0.0')
    const outcome = receiveAll(await within('the second stream', 30_000, more.promise)).then(() => 'clean', () => 'reset')
    await assert.rejects(within('the second sender', 60_000, sendRandom(again, 64 * MIB)))
    assert.equal(await within('the end at the reader', 60_000, outcome), 'reset')
    assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="data-limit"}'), 1)
  })

  test('I4: with a limit below what stock peers send, both ends see a reset after that many bytes, never a clean end; the next circuit is a new one', { timeout: 180_000 }, async () => {
    const { relay, address } = await startRelay({ circuitLimits: { dataBytes: BigInt(16 * MIB) } })
    const [office, laptop] = [await startStockPeer({ relays: [address] }), await startStockPeer()]
    let receivedBytes = 0
    const outcome = Promise.withResolvers<string>()
    await office.handle(ECHO, (stream) => {
      stream.addEventListener('message', ({ data }) => { receivedBytes += data.byteLength })
      receiveAll(stream).then(() => { outcome.resolve('clean') }, () => { outcome.resolve('reset') })
    }, { runOnLimitedConnection: true })
    const connection = await dialOverRelay(laptop, address, office)
    assertLimits(connection.limits, { bytes: 16 * MIB })
    await assert.rejects(within('the sender', 60_000, sendRandom(await openStream(connection, ECHO), 64 * MIB)))
    assert.equal(await within('the end at the reader', 60_000, outcome.promise), 'reset')
    await waitFor('the end of the connection at the caller', () => connection.status !== 'open', { deadlineMs: 30_000 })
    assert.ok(receivedBytes <= 16 * MIB && receivedBytes >= 8 * MIB, `${receivedBytes} bytes came through`)
    assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="data-limit"}'), 1)
    assertLimits((await dialOverRelay(laptop, address, office)).limits, { bytes: 16 * MIB })
  })

  /** What a stock peer is shown at the beginning; the handshakes inside the circuit have used a little already. */
  function assertLimits (limits: Connection['limits'], announced: { seconds?: number, bytes: number }): void {
    const { seconds, bytes } = limits ?? {}
    assert.ok(bytes !== undefined && bytes <= BigInt(announced.bytes) && bytes > BigInt(announced.bytes - 100_000), `bytes: ${bytes}`)
    if (announced.seconds === undefined) assert.equal(seconds, undefined)
    else assert.ok(seconds !== undefined && seconds <= announced.seconds && seconds > announced.seconds - 60, `seconds: ${seconds}`)
  }

  test('I4: a circuit over its data limit is reset, not ended', async () => {
    const { relay, address } = await startRelay({ circuitLimits: { dataBytes: 300_000n } })
    const office = await startStockPeer({ relays: [address] })
    const laptop = await startStockPeer()
    const outcome = Promise.withResolvers<string>()
    await office.handle(ECHO, (stream) => { receiveAll(stream).then(() => { outcome.resolve('clean') }, () => { outcome.resolve('reset') }) }, { runOnLimitedConnection: true })
    const stream = await openStream(await dialOverRelay(laptop, address, office), ECHO)
    sendRandom(stream, 2 * MIB).catch(() => { /* the reset that is awaited below */ })
    assert.equal(await within('the end', PATIENCE_MS, outcome.promise), 'reset')
    assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="data-limit"}'), 1)
  })

  test('a circuit over its time is reset after seconds, not milliseconds', async () => {
    const { relay, address } = await startRelay({ circuitLimits: { durationSeconds: 3 } })
    const office = await startStockPeer({ relays: [address] })
    const startedAtMs = performance.now()
    const connection = await dialOverRelay(await startStockPeer(), address, office)
    await within('the end of the circuit', PATIENCE_MS, new Promise<void>((resolve) => { connection.addEventListener('close', () => { resolve() }) }))
    assert.ok(performance.now() - startedAtMs >= 2_950, `after ${performance.now() - startedAtMs} ms`)
    assert.equal(await metric(relay, 'carrier_relay_ended_circuits_total{reason="duration-limit"}'), 1)
  })

  test('I8: a full table refuses the next reservation with RESERVATION_REFUSED and counts it', async () => {
    const { relay, address } = await startRelay({ relay: { maxReservations: 2 } })
    await Promise.all([startStockPeer({ relays: [address] }), startStockPeer({ relays: [address] })])
    await assert.rejects(startStockPeer({ relays: [address] }), /RESERVATION_REFUSED|status 200|reservation failed/)
    assert.equal(await metric(relay, 'carrier_relay_reservation_requests_total{status="RESERVATION_REFUSED"}'), 1)
    assert.equal(await metric(relay, 'carrier_relay_reservations_count'), 2)
  })

  test('I8: circuits over the cap of a caller are refused with RESOURCE_LIMIT_EXCEEDED', async () => {
    const { relay, address } = await startRelay({ relay: { maxCircuitsPerCaller: 1 } })
    const called = [await startStockPeer({ relays: [address] }), await startStockPeer({ relays: [address] })] as const
    const laptop = await startStockPeer()
    const first = await dialOverRelay(laptop, address, called[0])
    await assert.rejects(dialOverRelay(laptop, address, called[1]), /201|RESOURCE_LIMIT_EXCEEDED/)
    await first.close()
    await waitFor('room again', async () => await metric(relay, 'carrier_relay_circuits_count') === 0, { deadlineMs: PATIENCE_MS })
    await dialOverRelay(laptop, address, called[1])
  })

  test('I9: whom admission refuses gets its status, and nothing is reserved', async () => {
    const { relay, address } = await startRelay({}, { admit: () => ({ allow: false, status: 'PERMISSION_DENIED' }) })
    await assert.rejects(startStockPeer({ relays: [address] }))
    assert.equal(await metric(relay, 'carrier_relay_reservation_requests_total{status="PERMISSION_DENIED"}'), 1)
    assert.equal(await metric(relay, 'carrier_relay_reservations_count'), 0)
  })

  test('a draining relay lets running circuits finish and takes no new ones', async () => {
    const { relay, address } = await startRelay({ drainMs: 20_000 })
    const office = await startStockPeer({ relays: [address] })
    const laptop = await startStockPeer()
    const received = Promise.withResolvers<{ bytes: number }>()
    await office.handle(ECHO, (stream) => { receiveAll(stream).then(received.resolve, received.reject) }, { runOnLimitedConnection: true })
    const connection = await dialOverRelay(laptop, address, office)
    const stream = await openStream(connection, ECHO)
    let isDrained = false
    const drained = relay.drain().then(() => { isDrained = true })
    const late = await startStockPeer()
    await assert.rejects(dialOverRelay(late, address, office), /201|RESOURCE_LIMIT_EXCEEDED/)
    await sendRandom(stream, 4 * MIB)
    assert.equal((await within('the running transfer', PATIENCE_MS, received.promise)).bytes, 4 * MIB)
    assert.equal(isDrained, false)
    await connection.close()
    await within('the end of the drain', PATIENCE_MS, drained)
  })
})
