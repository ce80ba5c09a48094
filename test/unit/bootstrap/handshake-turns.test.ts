/** Whose handshake a relay does next, and which sources it knows. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerId } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { createMetrics, LIMITS } from '../../../src/base/index.ts'
import { createConnectionGate } from '../../../src/bootstrap/connection-gate.ts'
import { createHandshakeTurns } from '../../../src/bootstrap/handshake-turns.ts'
import { createKnownSources } from '../../../src/bootstrap/known-sources.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const PER_SECOND = 8

function makeTurns (known: readonly string[] = []) {
  const clock = createFakeClock()
  const turns = createHandshakeTurns({ clock, perSecond: () => PER_SECOND, isKnown: (source) => known.includes(source) })
  const order: string[] = []
  const take = (source: string) => {
    const turn = turns.take(source)
    if (turn === undefined) order.push(source)
    else void turn.whenDue.then((isDue) => { order.push(isDue ? source : `not ${source}`) })
    return turn
  }
  return { clock, turns, order, take }
}

test('I8: a few handshakes begin at once, further ones so many a second, and no time is saved up', async () => {
  const { clock, turns, order, take } = makeTurns()
  for (let index = 0; index < 20; index++) take('a')
  assert.equal(order.length, PER_SECOND / 4)
  await clock.advance(1000)
  assert.equal(order.length, PER_SECOND / 4 + PER_SECOND)
  await clock.advance(10_000)
  assert.equal(order.length, 20)
  assert.equal(turns.waitingCount, 0)
  assert.equal(clock.pendingTimerCount(), 0, 'nobody waits, nothing is timed')
  for (let index = 0; index < 5; index++) take('a')
  assert.equal(order.length, 20 + PER_SECOND / 4)
})

test('I9: who has not been served passes those who flood, however many wait before it', async () => {
  const { clock, order, take } = makeTurns()
  for (let index = 0; index < 60; index++) take(`flood ${index % 3}`)
  await clock.advance(500)
  const before = order.length
  take('somebody new')
  await clock.advance(1000 / PER_SECOND)
  assert.deepEqual(order.slice(before), ['somebody new'])
  // and the flood's sources take turns
  await clock.advance(3000 / PER_SECOND)
  assert.deepEqual(new Set(order.slice(-3)).size, 3)
})

test('I9: known sources go before any others in every second turn, also when they were served of late', async () => {
  const { clock, order, take } = makeTurns(['known'])
  for (let index = 0; index < PER_SECOND / 4; index++) take('known')
  for (let index = 0; index < 50; index++) take(`fresh ${index}`)
  take('known')
  take('known')
  await clock.advance(4000 / PER_SECOND)
  assert.deepEqual(order.slice(PER_SECOND / 4), ['known', 'fresh 49', 'known', 'fresh 48'])
})

test('I9: a known source that floods holds up nobody new for longer than a turn', async () => {
  const { clock, order, take } = makeTurns(['known'])
  for (let index = 0; index < 50; index++) take('known')
  take('somebody new')
  await clock.advance(2000 / PER_SECOND)
  assert.deepEqual(order.slice(PER_SECOND / 4).toSorted(), ['known', 'somebody new'])
})

test('I9: when more come than can be served, the newest are: the others have no time left', async () => {
  const { clock, turns, order, take } = makeTurns()
  for (let index = 0; index < PER_SECOND / 4; index++) take('first')
  take('early')
  take('late')
  await clock.advance(1000 / PER_SECOND)
  assert.deepEqual(order.slice(PER_SECOND / 4), ['late'])
  // and of one source
  const told: string[] = []
  for (const name of ['older', 'newer']) void turns.take('another')?.whenDue.then(() => { told.push(name) })
  await clock.advance(1000 / PER_SECOND)
  assert.deepEqual(told, ['newer'])
})

test('who gives up leaves the queue and takes nobody\'s turn', async () => {
  const { clock, turns, order, take } = makeTurns()
  take('a')
  take('a')
  const gone = take('b')
  take('c')
  gone?.cancel()
  gone?.cancel()
  assert.equal(turns.waitingCount, 1)
  await clock.advance(1000 / PER_SECOND)
  assert.deepEqual(order, ['a', 'a', 'not b', 'c'])
})

test('a source is known after its connection was there for a minute, and until its last one ends', async () => {
  const clock = createFakeClock()
  const known = createKnownSources(clock)
  const end = known.add('a')
  await clock.advance(LIMITS.relayKnownSourceMs - 1)
  assert.equal(known.has('a'), false)
  await clock.advance(1)
  assert.ok(known.has('a'))
  const endLater = known.add('a')
  end()
  assert.equal(known.has('a'), false, 'the one that is left is young')
  await clock.advance(LIMITS.relayKnownSourceMs)
  assert.ok(known.has('a'))
  endLater()
  assert.equal(known.has('a'), false)
  assert.equal(known.has('b'), false)
})

test('I8: the gate lets handshakes wait, tells them from each other, and counts those that go without a turn', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const { gater } = createConnectionGate({ clock, metrics, bounds: () => ({ perSourcePerSecond: 1000, maxPending: 100, handshakesPerSecond: 4 }), hasRoom: () => true })
  const connect = (ip: string, port: number) => {
    const connection = Object.assign(new EventTarget(), { remoteAddr: multiaddr(`/ip4/${ip}/tcp/${port}`), abort: () => {} })
    return { connection, verdict: gater.denyInboundConnection?.(connection as never) }
  }
  const device = connect('192.0.2.1', 1)
  assert.equal(device.verdict, false, 'it goes on at once')
  assert.equal(gater.denyInboundUpgradedConnection?.({} as PeerId, device.connection as never), false)
  await clock.advance(LIMITS.relayKnownSourceMs)
  const flood = Array.from({ length: 4 }, (_, index) => connect(`198.51.100.${index}`, 1))
  const back = connect('192.0.2.1', 2)
  assert.equal(flood[0]?.verdict, false)
  const told: string[] = []
  for (const [name, verdict] of [['flood', flood[1]?.verdict], ['flood', flood[2]?.verdict], ['flood that left', flood[3]?.verdict], ['back', back.verdict]] as const) {
    assert.ok(verdict instanceof Promise)
    void verdict.then((isDenied) => { told.push(`${name}: ${isDenied ? 'denied' : 'goes on'}`) })
  }
  flood[3]?.connection.dispatchEvent(new Event('close'))
  assert.match(await metrics.text(), /^carrier_relay_waiting_handshakes_count 3$/m)
  await clock.advance(250)
  assert.deepEqual(told, ['flood that left: denied', 'back: goes on'])
  await clock.advance(500)
  assert.deepEqual(told.slice(2), ['flood: goes on', 'flood: goes on'])
  assert.match(await metrics.text(), /^carrier_relay_refused_connections_total\{reason="turn"\} 1$/m)
})

test('I8: who waits for its turn can fill no buffers', async () => {
  const clock = createFakeClock()
  const { gater } = createConnectionGate({ clock, metrics: createMetrics(), bounds: () => ({ perSourcePerSecond: 1000, maxPending: 100, handshakesPerSecond: 4 }), hasRoom: () => true })
  const connect = (port: number) => {
    const [outboundConnection, inboundConnection] = multiaddrConnectionPair()
    inboundConnection.remoteAddr = multiaddr(`/ip4/192.0.2.1/tcp/${port}`)
    return { here: inboundConnection, there: outboundConnection, verdict: gater.denyInboundConnection?.(inboundConnection) }
  }
  connect(1)
  const [modest, greedy] = [connect(2), connect(3)]
  assert.ok(modest.verdict instanceof Promise && greedy.verdict instanceof Promise)
  modest.there.send(new Uint8Array(LIMITS.relayWaitingHandshakeBytes))
  greedy.there.send(new Uint8Array(LIMITS.relayWaitingHandshakeBytes + 1))
  assert.equal(await greedy.verdict, true)
  assert.deepEqual([greedy.here.status, modest.here.status], ['aborted', 'open'])
  await clock.advance(1000)
  assert.equal(await modest.verdict, false)
  // once it is read it has the bound of libp2p again
  assert.ok(modest.here.maxReadBufferLength > LIMITS.relayWaitingHandshakeBytes)
})
