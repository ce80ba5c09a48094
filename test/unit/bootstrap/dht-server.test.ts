import assert from 'node:assert/strict'
import test from 'node:test'
import type { PeerId } from '@libp2p/interface'
import { LIMITS, createMetrics, silentLogger } from '../../../src/base/index.ts'
import { createDhtServer } from '../../../src/bootstrap/dht-server.ts'
import type { DhtServer, DhtServerComponents } from '../../../src/bootstrap/dht-server.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

/** A server on a host that has no network: `meet` and `lose` are what the host tells of peers that serve the DHT. */
async function startServer (peers: readonly string[] = []): Promise<{ server: DhtServer, clock: FakeClock, meet: (peerId: PeerId) => void, lose: (peerId: PeerId) => void }> {
  const clock = createFakeClock()
  let topology: Parameters<DhtServerComponents['node']['register']>[1] | undefined
  const node: DhtServerComponents['node'] = {
    peerId: (await makeIdentity()).peerId,
    getConnections: () => [],
    getMultiaddrs: () => [],
    peerStore: {} as DhtServerComponents['node']['peerStore'],
    register: async (_protocol, given) => {
      topology = given
      return 'one'
    },
    unregister: () => {},
    handle: async () => {},
    unhandle: async () => {}
  }
  const server = createDhtServer({ node, clock, log: silentLogger, metrics: createMetrics(), peers: () => peers })
  await server.start()
  return {
    server,
    clock,
    meet: (peerId) => { void topology?.onConnect?.(peerId, undefined as never) },
    lose: (peerId) => { void topology?.onDisconnect?.(peerId) }
  }
}

test('I8: keys that anybody makes fill the table, and a listed server has its place still', async () => {
  const listed = (await makeIdentity()).peerId
  const { server, clock, meet, lose } = await startServer([`/ip4/198.51.100.7/tcp/4001/p2p/${listed.toString()}`])
  const strangers: PeerId[] = []
  for (let count = 0; count <= LIMITS.dhtServerCount; count++) strangers.push((await makeIdentity()).peerId)
  for (const stranger of strangers) meet(stranger)
  const last = strangers.at(-1)
  assert.ok(last !== undefined && !server.isServer(last))
  meet(listed)
  assert.equal(server.isServer(listed), true)
  lose(listed)
  assert.equal(server.isServer(listed), false)
  await server.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('what has expired is looked for again and again until the server stops', async () => {
  const { server, clock } = await startServer()
  for (let turn = 0; turn < 3; turn++) {
    assert.equal(clock.pendingTimerCount(), 1)
    await clock.advance(LIMITS.dhtSweepMs)
  }
  await server.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
