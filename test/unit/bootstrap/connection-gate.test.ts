/** New connections at a relay before anybody has proven a key. */
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { MultiaddrConnection, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { createMetrics, LIMITS } from '../../../src/base/index.ts'
import { createConnectionGate } from '../../../src/bootstrap/connection-gate.ts'
import { createConnectionRoom } from '../../../src/bootstrap/connection-room.ts'
import type { ConnectionGate } from '../../../src/bootstrap/connection-gate.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

type FakeConnection = MultiaddrConnection & { isAborted: boolean }

function connectionFrom (ip: string, port: number, suffix: '' | '/ws' = ''): FakeConnection {
  const connection = Object.assign(new EventTarget(), {
    remoteAddr: multiaddr(`/ip4/${ip}/tcp/${port}${suffix}`),
    isAborted: false,
    abort: () => {
      connection.isAborted = true
      connection.dispatchEvent(new Event('close'))
    }
  })
  return connection as unknown as FakeConnection
}

function socketFrom (remoteAddress: string, remotePort: number): Socket {
  const socket = Object.assign(new EventEmitter(), {
    remoteAddress,
    remotePort,
    destroyed: false,
    destroy: () => {
      socket.destroyed = true
      socket.emit('close')
    }
  })
  return socket as unknown as Socket
}

function enter ({ gater }: ConnectionGate, connection: FakeConnection): boolean { return gater.denyInboundConnection?.(connection) === false }

test('I8: who fills the places of handshakes loses them to those who have few', async () => {
  const metrics = createMetrics()
  const gate = createConnectionGate({ clock: createFakeClock(), metrics, bounds: () => ({ perSourcePerSecond: 1000, maxPending: 10 }), hasRoom: () => true })
  const greedy = Array.from({ length: 9 }, (_, index) => connectionFrom('192.0.2.1', 1000 + index))
  for (const connection of greedy) assert.ok(enter(gate, connection))
  const [modest, honest] = [connectionFrom('192.0.2.2', 1), connectionFrom('192.0.2.3', 1)]
  assert.ok(enter(gate, modest))
  assert.equal(gate.pendingCount, 10)
  assert.ok(enter(gate, honest))
  assert.equal(gate.pendingCount, 10)
  assert.deepEqual(greedy.map(({ isAborted }) => isAborted), [true, ...Array.from({ length: 8 }, () => false)], 'its oldest, and no more than needed')
  assert.deepEqual([modest.isAborted, honest.isAborted], [false, false])
  assert.equal(await gate.gater.denyInboundUpgradedConnection?.({} as PeerId, honest), false)
  assert.equal(gate.pendingCount, 9)
  assert.match(await metrics.text(), /^carrier_relay_refused_connections_total\{reason="pending"\} 1$/m)
})

test('I8: a further connection from the same port takes over neither the time limit nor the place of the first one', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const gate = createConnectionGate({ clock, metrics, bounds: () => ({ perSourcePerSecond: 1000, maxPending: 10 }), hasRoom: () => true })
  const [silent, twin] = [socketFrom('192.0.2.1', 7), socketFrom('192.0.2.1', 7)]
  gate.enterSocket(silent)
  const [plain, samePlain] = [connectionFrom('192.0.2.1', 7), connectionFrom('192.0.2.1', 7)]
  assert.ok(enter(gate, plain), 'another transport is another connection')
  assert.ok(!enter(gate, samePlain))
  gate.enterSocket(twin)
  assert.deepEqual([silent.destroyed, twin.destroyed], [false, true])
  assert.equal(gate.pendingCount, 2)
  assert.match(await metrics.text(), /^carrier_relay_refused_connections_total\{reason="same_port"\} 2$/m)
  await gate.gater.denyInboundUpgradedConnection?.({} as PeerId, plain)
  assert.equal(gate.pendingCount, 1)
  await clock.advance(LIMITS.relayUpgradeTimeoutMs)
  assert.ok(silent.destroyed, 'it has said nothing')
  assert.deepEqual([gate.pendingCount, clock.pendingTimerCount()], [0, 0])
})

test('I8: a connection that ends after its handshake leaves the place of the next one from the same port', async () => {
  const clock = createFakeClock()
  const gate = createConnectionGate({ clock, metrics: createMetrics(), bounds: () => ({ perSourcePerSecond: 1000, maxPending: 10 }), hasRoom: () => true })
  const [first, next] = [socketFrom('192.0.2.1', 7), socketFrom('192.0.2.1', 7)]
  gate.enterSocket(first)
  const upgraded = connectionFrom('192.0.2.1', 7, '/ws')
  assert.ok(enter(gate, upgraded))
  assert.equal(gate.pendingCount, 1, 'the socket is known')
  assert.equal(clock.pendingTimerCount(), 0, 'libp2p has a time for the rest')
  await gate.gater.denyInboundUpgradedConnection?.({} as PeerId, upgraded)
  gate.enterSocket(next)
  first.destroy()
  assert.equal(gate.pendingCount, 1)
  await clock.advance(LIMITS.relayUpgradeTimeoutMs)
  assert.ok(next.destroyed)
})

test('a source has its rate per second; one that has gone before it proved a key is counted', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const isRoomy = { value: true }
  const gate = createConnectionGate({ clock, metrics, bounds: () => ({ perSourcePerSecond: 2, maxPending: 10 }), hasRoom: () => isRoomy.value })
  const [first, second, third, other] = [connectionFrom('192.0.2.1', 1), connectionFrom('192.0.2.1', 2), connectionFrom('192.0.2.1', 3), connectionFrom('192.0.2.2', 1)]
  assert.deepEqual([first, second, third, other].map((connection) => enter(gate, connection)), [true, true, false, true])
  first.abort(new Error('gone'))
  assert.equal(gate.pendingCount, 2)
  await clock.advance(1000)
  assert.ok(enter(gate, connectionFrom('192.0.2.1', 4)))
  isRoomy.value = false
  assert.ok(!enter(gate, connectionFrom('192.0.2.3', 1)))
  const text = await metrics.text()
  assert.match(text, /^carrier_relay_refused_connections_total\{reason="full"\} 1$/m)
  assert.match(text, /^carrier_relay_refused_connections_total\{reason="rate"\} 1$/m)
  assert.match(text, /^carrier_relay_refused_connections_total\{reason="handshake"\} 1$/m)
})

test('I8: at a full relay those that use nothing make room, of the source that has most of them, the oldest first', async () => {
  const clock = createFakeClock({ nowMs: 100_000 })
  const closed: string[] = []
  const connections: Array<{ remotePeer: PeerId, remoteAddr: ReturnType<typeof multiaddr>, timeline: { open: number }, close: () => Promise<void>, abort: () => void }> = []
  const add = (name: string, ip: string, openedAtMs: number): void => {
    connections.push({ remotePeer: { toString: () => name } as PeerId, remoteAddr: multiaddr(`/ip4/${ip}/tcp/1`), timeline: { open: openedAtMs }, close: async () => { closed.push(name) }, abort: () => {} })
  }
  let evictedCount = 0
  let lookCount = 0
  const gone = new EventTarget()
  const node = {
    getConnections: () => {
      lookCount++
      return connections
    },
    addEventListener: (type: 'connection:close', listener: () => void) => { gone.addEventListener(type, listener) }
  }
  const hasRoom = createConnectionRoom({ node, clock, isInUse: (peerId) => peerId.toString().startsWith('busy'), maxConnections: () => 6, onEvicted: (count) => { evictedCount += count } })
  add('busy 1', '192.0.2.1', 0)
  add('many b', '192.0.2.1', 2000)
  add('many a', '192.0.2.1', 1000)
  add('many young', '192.0.2.1', 99_000)
  add('one', '192.0.2.2', 0)
  assert.ok(hasRoom())
  assert.deepEqual(closed, [])
  add('two', '192.0.2.3', 500)
  assert.ok(hasRoom())
  assert.deepEqual(closed, ['many a'])
  assert.ok(hasRoom(), 'the one that leaves has made room')
  assert.deepEqual(closed, ['many a'])
  add('three', '192.0.2.4', 600)
  for (let index = 0; index < 4; index++) {
    assert.ok(hasRoom())
    add('busy again', '192.0.2.5', 100_000)
  }
  assert.deepEqual(closed.toSorted(), ['many a', 'many b', 'one', 'three', 'two'])
  assert.equal(evictedCount, 5)
  add('busy last', '192.0.2.5', 100_000)
  assert.equal(hasRoom(), false, 'nobody is idle and not young')
  const before = lookCount
  for (let index = 0; index < 100; index++) assert.equal(hasRoom(), false)
  assert.equal(lookCount, before, 'refusing is cheap')
  connections.splice(-2)
  gone.dispatchEvent(new Event('connection:close'))
  assert.ok(hasRoom(), 'one has gone')
  add('busy last', '192.0.2.5', 100_000)
  assert.equal(hasRoom(), false)
  await clock.advance(3_000)
  assert.ok(hasRoom(), 'after a moment it looks again: one is not young any more')
  assert.match(closed.join(), /many young/)
})
