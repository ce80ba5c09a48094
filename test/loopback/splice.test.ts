/** Splices between two nodes through our relay. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { ADDRESS_BYTES, decodeAddress, encodeFrame, errorCode, LIMITS, systemClock } from '../../src/base/index.ts'
import { didFromPeerId, publicKeyFromDid } from '../../src/identity/index.ts'
import { decodeSpliceResult, encodeSpliceObserve, encodeSpliceOpen, SPLICE_PROTOCOL } from '../../src/node/splice-messages.ts'
import { dialTicketPort } from '../../src/node/ticket-dial.ts'
import { SPLICE_PREFACE } from '../../src/node/ticket-door.ts'
import { makeIdentity, makeNode, reserved } from '../support/node-pair.ts'
import { firstMessage } from '../support/raw-hop.ts'
import { metricOf, readAll, readBytes, startSplicePair, startSpliceRelay, writeRandom } from '../support/splice-pair.ts'
import { startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { untilStill, waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024

for (const copy of ['auto', 'public'] as const) {
  test(`64 MiB in both directions at once arrive unchanged (${copy})`, async (t) => {
    const pair = await startSplicePair(t, { spliceCopy: copy })
    const { caller, called } = await pair.splice()
    const reading = [readBytesHashed(caller, 64 * MIB), readBytesHashed(called, 64 * MIB)]
    const written = await within('the writers', 120_000, Promise.all([writeRandom(called, 64 * MIB), writeRandom(caller, 64 * MIB)]))
    assert.deepEqual(await within('the readers', 120_000, Promise.all(reading)), written)
    assert.equal(await metricOf(pair.relay, `carrier_relay_splices_total{copy="${copy === 'auto' ? 'reused' : 'public'}"}`), 1, 'this Node copies the way the test means')
    await waitFor('all bytes to be counted', async () => await metricOf(pair.relay, 'carrier_relay_spliced_bytes_total') === 128 * MIB, { deadlineMs: 60_000 })
    caller.end()
    await within('the end at the called side', 30_000, readAll(called))
    called.end()
    await waitFor('the splice to be gone', async () => await metricOf(pair.relay, 'carrier_relay_ended_splices_total{reason="finished"}') === 1, { deadlineMs: 30_000 })
    await waitFor('its buffers', async () => await metricOf(pair.relay, 'carrier_relay_splice_buffer_bytes') === 0, { deadlineMs: 30_000 })
  })
}

async function readBytesHashed (socket: Parameters<typeof readAll>[0], byteCount: number): Promise<string> {
  return createHash('sha256').update(await readBytes(socket, byteCount)).digest('hex')
}

describe('who gets a splice', () => {
  test('I3: not there, not reserved, refused by the called end and a stranger of it are one answer', async (t) => {
    const pair = await startSplicePair(t)
    const unknown = (await makeIdentity()).did
    const codeOf = async (device: typeof unknown): Promise<string> => pair.laptop.node.openSplice(device, pair.relayId).then(() => 'a socket', errorCode)
    assert.equal(await codeOf(unknown), 'ERR_NOT_AVAILABLE')
    assert.equal(await codeOf(pair.laptop.did), 'ERR_NOT_AVAILABLE')
    pair.isAdmitting.value = false
    assert.equal(await codeOf(pair.office.did), 'ERR_NOT_AVAILABLE')
    pair.isAdmitting.value = true
    const askedCount = pair.asked.length
    for (const level of ['stranger', 'pending', 'blocked'] as const) {
      pair.office.levels.set(pair.laptop.did, level)
      assert.equal(await codeOf(pair.office.did), 'ERR_NOT_AVAILABLE')
    }
    assert.equal(pair.asked.length, askedCount, 'only friends come so far as to be asked about')
    pair.office.levels.set(pair.laptop.did, 'friend')
    pair.laptop.levels.set(pair.office.did, 'blocked')
    assert.equal(await codeOf(pair.office.did), 'ERR_NOT_AVAILABLE')
    pair.laptop.levels.set(pair.office.did, 'friend')
    const { caller } = await pair.splice()
    caller.destroy()
    assert.equal(await metricOf(pair.relay, 'carrier_relay_splice_requests_total{result="ticket"}'), 1)
    await waitFor('no pair to be left', async () => await metricOf(pair.relay, 'carrier_relay_splice_pairs_count') === 0, { deadlineMs: 60_000 })
  })

  test('an operator who admits no splices gives the same answer', async (t) => {
    const pair = await startSplicePair(t, {}, { admit: (request) => request.action === 'splice' ? { allow: false, status: 'PERMISSION_DENIED' } : { allow: true } })
    await assert.rejects(pair.laptop.node.openSplice(pair.office.did, pair.relayId), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
    assert.equal(pair.asked.length, 0)
  })

  test('I10: a friend cannot make an offer, and a relay that is not listed cannot be asked', async (t) => {
    const pair = await startSplicePair(t)
    await assert.rejects(pair.laptop.node.openStream(pair.office.did, '/carrier/splice/1.0.0'), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
    await assert.rejects(pair.laptop.node.openSplice(pair.office.did, (await makeIdentity()).peerId.toString()), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
    assert.equal(pair.asked.length, 0)
  })

  test('a relay with splices off is known as such', async (t) => {
    const { address, peerId, relay } = await startSpliceRelay(t, { splice: 'off' })
    assert.equal(relay.splicePort(), undefined)
    const laptop = await makeNode({ relays: [address] })
    t.after(async () => { await laptop.node.stop() })
    await laptop.node.start()
    await reserved(laptop, 30_000)
    assert.equal(laptop.node.canSplice(peerId), false)
    await assert.rejects(laptop.node.openSplice((await makeIdentity()).did, peerId), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
  })
})

test('I8: a peer has four open tickets at most; what it asks beyond is refused with a time to wait', async (t) => {
  const { address, relay } = await startSpliceRelay(t)
  const silent = await startStockPeer({ relays: [address] })
  const asker = await startStockPeer()
  t.after(stopStockPeers)
  let offerCount = 0
  await silent.handle(SPLICE_PROTOCOL, () => { offerCount++ }, { maxInboundStreams: 100 })
  const connection = await asker.dial(multiaddr(address))
  const ask = async (): Promise<Stream> => {
    const stream = await connection.newStream(SPLICE_PROTOCOL, { maxOutboundStreams: 100 })
    stream.send(encodeFrame(encodeSpliceOpen(publicKeyFromDid(didFromPeerId(silent.peerId)))))
    return stream
  }
  const held = await Promise.all(Array.from({ length: LIMITS.relaySpliceTicketsPerPeerCount }, ask))
  await waitFor('four offers', () => offerCount === 4, { deadlineMs: 30_000, intervalMs: 5 })
  assert.deepEqual(decodeSpliceResult(await firstMessage(await ask())), { t: 'refused', code: 5, retryMs: 1_000 })
  assert.equal(offerCount, 4)
  for (const stream of held) stream.abort(new Error('given up'))
  // the places are free again, so the next one is asked about once more
  await waitFor('a fifth offer', async () => {
    const stream = await ask()
    stream.addEventListener('close', () => { /* it is reset when the called end does not answer */ })
    return offerCount > 4
  }, { deadlineMs: 30_000 })
  assert.equal(await metricOf(relay, 'carrier_relay_splice_pairs_count'), 0)
})

describe('where am I seen', () => {
  test('a peer with a reservation gets a ticket, and at the data port the address of its socket', async (t) => {
    const { address, relay } = await startSpliceRelay(t)
    const asker = await startStockPeer({ relays: [address] })
    t.after(stopStockPeers)
    const connection = await asker.dial(multiaddr(address))
    const ask = async (): Promise<ReturnType<typeof decodeSpliceResult>> => {
      const stream = await connection.newStream(SPLICE_PROTOCOL)
      stream.send(encodeFrame(encodeSpliceObserve()))
      return decodeSpliceResult(await firstMessage(stream))
    }
    const answer = await ask()
    assert.ok(answer.t === 'ticket')
    const socket = await dialTicketPort(systemClock, { host: '127.0.0.1', port: answer.port, preface: SPLICE_PREFACE, ticket: answer.ticket })
    t.after(() => { socket.destroy() })
    assert.deepEqual(decodeAddress(new Uint8Array(await readBytes(socket, ADDRESS_BYTES))), { host: '127.0.0.1', port: socket.localPort })
    // one use
    const again = await dialTicketPort(systemClock, { host: '127.0.0.1', port: answer.port, preface: SPLICE_PREFACE, ticket: answer.ticket })
    assert.equal((await within('the end', 30_000, readAll(again))).byteCount, 0)
    // whoever says more than its ticket is closed
    socket.write('more')
    await within('the end', 30_000, readAll(socket))

    let left = LIMITS.relayObservePerPeerCount - 1
    while (left-- > 0) assert.equal((await ask()).t, 'ticket')
    assert.deepEqual(await ask(), { t: 'refused', code: 5, retryMs: 1_000 })
    assert.equal(await metricOf(relay, 'carrier_relay_splice_requests_total{result="observe"}'), LIMITS.relayObservePerPeerCount)
  })

  test('I3: a stranger without a reservation gets the answer that everybody gets', async (t) => {
    const { address } = await startSpliceRelay(t)
    const stranger = await startStockPeer()
    t.after(stopStockPeers)
    const connection = await stranger.dial(multiaddr(address))
    const stream = await connection.newStream(SPLICE_PROTOCOL)
    stream.send(encodeFrame(encodeSpliceObserve()))
    assert.deepEqual(decodeSpliceResult(await firstMessage(stream)), { t: 'refused', code: 3 })
  })
})

describe('the end of a splice', () => {
  test('I4: what was sent before a FIN arrives, then both legs close', async (t) => {
    const pair = await startSplicePair(t)
    const { caller, called } = await pair.splice()
    const reading = readAll(called)
    const sha256 = await writeRandom(caller, 3 * MIB)
    caller.end()
    assert.deepEqual(await within('all bytes', 60_000, reading), { sha256, byteCount: 3 * MIB, how: 'end' })
    const back = await within('the end of the other direction', 30_000, readAll(caller))
    assert.equal(back.how, 'end')
    called.end()
    await waitFor('the splice to be gone', async () => await metricOf(pair.relay, 'carrier_relay_splices_count') === 0, { deadlineMs: 30_000 })
  })

  test('a reset of one leg closes the other', async (t) => {
    const pair = await startSplicePair(t)
    const { caller, called } = await pair.splice()
    called.write('ping')
    assert.equal((await readBytes(caller, 4)).toString(), 'ping')
    const closing = readAll(called)
    caller.resetAndDestroy()
    await within('the loss', 30_000, closing)
    called.end()
    await waitFor('the splice to be gone', async () => await metricOf(pair.relay, 'carrier_relay_splices_count') === 0, { deadlineMs: 30_000 })
  })

  test('while a relay drains it refuses new splices, a busy one goes on, and the stop ends it', async (t) => {
    const pair = await startSplicePair(t)
    const { caller, called } = await pair.splice()
    const drained = pair.relay.drain()
    await assert.rejects(pair.laptop.node.openSplice(pair.office.did, pair.relayId), (err) => errorCode(err) === 'ERR_LIMIT')
    caller.write('still here')
    assert.equal((await readBytes(called, 10)).toString(), 'still here')
    const closed = Promise.all([readAll(caller), readAll(called)])
    await pair.relay.stop()
    await within('both ends', 30_000, closed)
    await within('the drain', 60_000, drained)
  })
})

for (const copy of ['auto', 'public'] as const) {
  test(`I8: a reader that does not read stops its sender and costs the relay 256 KiB at most (${copy})`, async (t) => {
    const pair = await startSplicePair(t, { spliceCopy: copy })
    const { caller, called } = await pair.splice()
    called.pause()
    const total = 48 * MIB
    const writing = writeRandom(caller, total)
    const passedBytes = await untilStill('the sender', async () => metricOf(pair.relay, 'carrier_relay_spliced_bytes_total'), 400)
    assert.ok(passedBytes < total, `${passedBytes} bytes went through`)
    const buffered = await metricOf(pair.relay, 'carrier_relay_splice_buffered_bytes')
    assert.ok(buffered > 0 && buffered <= 256 * 1024, `${buffered} bytes wait`)
    const [sha256, got] = await within('everything', 120_000, Promise.all([writing, readBytesHashed(called, total)]))
    assert.equal(got, sha256)
    caller.destroy()
    called.destroy()
  })
}
