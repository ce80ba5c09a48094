/** What goes over the wire, compared byte by byte with stock libp2p, and what malformed bytes lead to. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { generateKeyPairFromSeed, publicKeyFromProtobuf } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { concatBytes, decodeProtobuf, encodeFrame, encodeVarint, toHex, utf8Encode } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { decodeHopRequest, decodeStopStatus, encodeHopStatus, encodeStopConnect } from '../../src/bootstrap/hop-messages.ts'
import { sealVoucher } from '../../src/bootstrap/reservation-voucher.ts'
import { askStatus, connectTo, firstMessage, HOP, openHop, RESERVE, STOP } from '../support/raw-hop.ts'
import { dialOverRelay, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor, within } from '../support/wait.ts'

describe('our messages and those of the stock package', () => {
  let stockRelay: Libp2p
  let address: string
  const key = generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(7))

  before(async () => {
    stockRelay = await createLibp2p({
      privateKey: await key,
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), relay: circuitRelayServer() }
    })
    address = String(stockRelay.getMultiaddrs()[0])
  })
  after(async () => {
    await stopStockPeers()
    await stockRelay.stop()
  })

  test('the answer to RESERVE is byte for byte that of a stock relay with the same key', async () => {
    const client = await startStockPeer()
    const { stream } = await openHop(client, address)
    const answer = firstMessage(stream)
    stream.send(encodeFrame(RESERVE))
    const theirs = await answer
    const fields = decodeProtobuf(theirs, 64)
    const reservation = decodeProtobuf(fields.bytes(3) ?? new Uint8Array(0), 64)
    const limit = decodeProtobuf(fields.bytes(4) ?? new Uint8Array(0), 64)
    const expireSeconds = Number(reservation.varint(1))
    const ours = encodeHopStatus('OK', {
      reservation: {
        expireSeconds,
        addresses: stockRelay.getMultiaddrs().map((own) => own.bytes),
        voucher: await sealVoucher({ relay: stockRelay.peerId.toMultihash().bytes, peer: client.peerId.toMultihash().bytes, expirationSeconds: expireSeconds }, await key)
      },
      // the stock server puts milliseconds where the specification says seconds: copied here, never sent by us
      limits: { durationSeconds: Number(limit.varint(1)), dataBytes: limit.varint(2) ?? 0n }
    })
    assert.equal(toHex(ours), toHex(theirs))
    await client.stop()
  })

  test('STOP to the called peer and its answer are those of the stock package', async () => {
    const called = await startStockPeer({ relays: [address] })
    const caller = await startStockPeer()
    const request = Promise.withResolvers<Uint8Array>()
    await called.unhandle(STOP)
    await called.handle(STOP, (stream) => { firstMessage(stream).then(request.resolve, request.reject) })
    dialOverRelay(caller, address, called).catch(() => { /* nobody answers the recorded request */ })
    const theirs = await within('the recorded STOP', PATIENCE_MS, request.promise)
    const limit = decodeProtobuf(decodeProtobuf(theirs, 64).bytes(3) ?? new Uint8Array(0), 64)
    const ours = encodeStopConnect(caller.peerId.toMultihash().bytes, { durationSeconds: Number(limit.varint(1)), dataBytes: limit.varint(2) ?? 0n })
    assert.equal(toHex(ours), toHex(theirs))
    await Promise.all([called.stop(), caller.stop()])
  })

  test('what stock clients send is understood: CONNECT and the STATUS of a called peer', async () => {
    const fakeRelay = await startStockPeer({ listen: ['/ip4/127.0.0.1/tcp/0'] })
    const called = await startStockPeer()
    const caller = await startStockPeer()
    const request = Promise.withResolvers<Uint8Array>()
    await fakeRelay.handle(HOP, async (stream) => {
      const message = await firstMessage(stream)
      if (decodeHopRequest(message).type === 'connect') request.resolve(message)
      // a stock peer that is called without a reservation asks for one first
      else stream.send(encodeFrame(encodeHopStatus('RESERVATION_REFUSED')))
    })
    const fakeAddress = String(fakeRelay.getMultiaddrs()[0])
    dialOverRelay(caller, fakeAddress, called).catch(() => { /* nobody answers the recorded request */ })
    const connect = decodeHopRequest(await within('the recorded CONNECT', PATIENCE_MS, request.promise))
    assert.ok(connect.type === 'connect')
    assert.equal(toHex(connect.peerId), toHex(called.peerId.toMultihash().bytes))

    const stop = await (await called.dial(fakeRelay.getMultiaddrs()[0] ?? [])).newStream(HOP)
    stop.abort(new Error('only the connection was wanted'))
    const back = fakeRelay.getConnections(called.peerId)[0]
    assert.ok(back !== undefined)
    const stream = await back.newStream(STOP)
    const answer = firstMessage(stream)
    stream.send(encodeFrame(encodeStopConnect(caller.peerId.toMultihash().bytes, undefined)))
    assert.equal(decodeStopStatus(await answer), 100)
    await Promise.all([fakeRelay.stop(), called.stop(), caller.stop()])
  })
})

describe('a relay and hostile bytes', () => {
  let relay: Bootstrap
  let address: string
  let attacker: Libp2p

  before(async () => {
    relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], relay: { maxReservations: 2 } })
    await relay.start()
    address = relay.addresses()[0] ?? ''
    attacker = await startStockPeer()
  })
  after(async () => {
    await stopStockPeers()
    await relay.stop()
  })

  const malformed: Array<[string, Uint8Array]> = [
    ['no type', encodeFrame(Uint8Array.from([0x28, 0x64]))],
    ['an unknown type', encodeFrame(Uint8Array.from([0x08, 0x09]))],
    ['CONNECT without a peer', encodeFrame(Uint8Array.from([0x08, 0x01]))],
    ['CONNECT with an empty peer', encodeFrame(Uint8Array.from([0x08, 0x01, 0x12, 0x00]))],
    ['a peer id of 2 KiB', encodeFrame(concatBytes([Uint8Array.from([0x08, 0x01, 0x12, 0x83, 0x10, 0x0a, 0x80, 0x10]), new Uint8Array(2048)]))],
    ['a field longer than the message', encodeFrame(Uint8Array.from([0x08, 0x01, 0x12, 0x7f, 0x00]))],
    ['a group', encodeFrame(Uint8Array.from([0x0b]))],
    ['an endless number', encodeFrame(new Uint8Array(20).fill(0xff))],
    ['a hundred fields', encodeFrame(concatBytes(Array.from({ length: 100 }, () => Uint8Array.from([0x08, 0x00]))))],
    ['a length over the limit', concatBytes([encodeVarint(1_000_000), new Uint8Array(100)])],
    ['a length without end', new Uint8Array(10).fill(0xff)]
  ]
  for (const [what, bytes] of malformed) {
    test(`${what} is answered with MALFORMED_MESSAGE and a reset`, async () => {
      const { stream } = await openHop(attacker, address)
      const closed = new Promise<Error | undefined>((resolve) => { stream.addEventListener('close', ({ error }) => { resolve(error) }) })
      const answer = firstMessage(stream)
      stream.send(bytes)
      assert.equal(decodeProtobuf(await answer, 8).varint(5), 400n)
      assert.ok(await within('the reset', PATIENCE_MS, closed) !== undefined)
    })
  }

  test('a STATUS from a client is answered with UNEXPECTED_MESSAGE', async () => {
    const { stream } = await openHop(attacker, address)
    assert.equal(await askStatus(stream, Uint8Array.from([0x08, 0x02])), 401)
  })

  test('CONNECT to a peer without reservation, and to the relay itself, is NO_RESERVATION', async () => {
    const { stream } = await openHop(attacker, address)
    assert.equal(await askStatus(stream, connectTo(attacker.peerId)), 204)
    const again = await openHop(attacker, address)
    assert.equal(await askStatus(again.stream, connectTo(relay.peerId)), 204)
  })

  test('I8: requests that are never finished are bounded per peer, and time out of the way of others', async () => {
    const { connection, stream: first } = await openHop(attacker, address)
    const streams: Stream[] = [first]
    for (let count = 1; count < 80; count++) streams.push(await connection.newStream(HOP, { maxOutboundStreams: 10_000 }))
    await waitFor('refusals', async () => (await relay.metrics.text()).includes('carrier_relay_refused_handshakes_total 1'), { deadlineMs: PATIENCE_MS })
    const honest = await startStockPeer({ relays: [address] })
    assert.equal(await waitFor('the pending streams', async () => /carrier_relay_pending_handshakes_count (\d+)/.exec(await relay.metrics.text())?.[1], { deadlineMs: PATIENCE_MS }), '64')
    await honest.stop()
    for (const stream of streams) stream.abort(new Error('done'))
    await waitFor('none pending', async () => (await relay.metrics.text()).includes('carrier_relay_pending_handshakes_count 0'), { deadlineMs: 9_000 })
  })

  test('a holder refreshes its reservation in a full table, and the voucher is signed by the relay', async () => {
    const holders = [await startStockPeer(), await startStockPeer()]
    for (const holder of holders) assert.equal(await askStatus((await openHop(holder, address)).stream, RESERVE), 100)
    assert.equal(await askStatus((await openHop(attacker, address)).stream, RESERVE), 200)
    const [holder] = holders
    assert.ok(holder !== undefined)
    const { stream } = await openHop(holder, address)
    const answer = firstMessage(stream)
    stream.send(encodeFrame(RESERVE))
    const fields = decodeProtobuf(await answer, 64)
    assert.equal(fields.varint(5), 100n)
    assert.equal(fields.bytes(4), undefined, 'a relay without limits sends no limit')
    const reservation = decodeProtobuf(fields.bytes(3) ?? new Uint8Array(0), 64)
    const envelope = decodeProtobuf(reservation.bytes(3) ?? new Uint8Array(0), 64)
    const payload = envelope.bytes(3) ?? new Uint8Array(0)
    const signed = concatBytes([utf8Encode('libp2p-relay-rsvp'), Uint8Array.from([3, 2]), payload].flatMap((part) => [encodeVarint(part.length), part]))
    const publicKey = publicKeyFromProtobuf(envelope.bytes(1) ?? new Uint8Array(0))
    assert.equal(await publicKey.verify(signed, envelope.bytes(5) ?? new Uint8Array(0)), true)
    assert.equal(toHex(decodeProtobuf(payload, 8).bytes(1) ?? new Uint8Array(0)), toHex(relay.peerId.toMultihash().bytes))
    assert.equal(toHex(decodeProtobuf(payload, 8).bytes(2) ?? new Uint8Array(0)), toHex(holder.peerId.toMultihash().bytes))
    await Promise.all(holders.map(async (peer) => { await peer.stop() }))
  })
})
