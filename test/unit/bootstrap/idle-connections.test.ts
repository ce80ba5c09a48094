import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createMetrics, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createIdleConnections } from '../../../src/bootstrap/idle-connections.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

test('I8: a connection that uses nothing is closed after the idle time, one in use is kept and gets the whole time afterwards', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const closed: string[] = []
  const inUse = new Set<string>()
  const connections = await Promise.all([1, 2].map(async (seed) => {
    const remotePeer = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed)))
    return { remotePeer, close: async () => { closed.push(remotePeer.toString()) }, abort: () => {} }
  }))
  const [stranger, member] = connections.map(({ remotePeer }) => remotePeer.toString())
  assert.ok(stranger !== undefined && member !== undefined)
  inUse.add(member)
  const idle = createIdleConnections({
    node: { getConnections: () => connections.filter(({ remotePeer }) => !closed.includes(remotePeer.toString())) },
    clock,
    log: silentLogger,
    metrics,
    isInUse: (peerId) => inUse.has(peerId.toString())
  })
  await idle.start()
  await clock.advance(LIMITS.relayIdleConnectionMs)
  assert.deepEqual(closed, [])
  await clock.advance(LIMITS.relayIdleConnectionMs / 4)
  assert.deepEqual(closed, [stranger])
  await clock.advance(10 * LIMITS.relayIdleConnectionMs)
  assert.deepEqual(closed, [stranger])
  inUse.clear()
  await clock.advance(LIMITS.relayIdleConnectionMs / 2)
  assert.deepEqual(closed, [stranger])
  await clock.advance(LIMITS.relayIdleConnectionMs)
  assert.deepEqual(closed, [stranger, member])
  assert.match(await metrics.text(), /closed_idle_connections_total 2/)
  await idle.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('I8: an idle connection whose peer does not let it close is reset', async () => {
  const clock = createFakeClock()
  const remotePeer = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(3)))
  let isReset = false
  const stubborn = { remotePeer, close: async () => { throw new Error('not in time') }, abort: () => { isReset = true } }
  const idle = createIdleConnections({ node: { getConnections: () => [stubborn] }, clock, log: silentLogger, metrics: createMetrics(), isInUse: () => false })
  await idle.start()
  await clock.advance(2 * LIMITS.relayIdleConnectionMs)
  assert.equal(isReset, true)
  await idle.stop()
})
