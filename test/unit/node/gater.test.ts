import assert from 'node:assert/strict'
import test from 'node:test'
import type { MultiaddrConnection, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../../../src/base/index.ts'
import { createGater } from '../../../src/node/gater.ts'
import { createInboundLimits } from '../../../src/node/inbound-limits.ts'
import { createPeerDirectory } from '../../../src/node/peer-directory.ts'
import { parseRelayAddresses } from '../../../src/node/relay-address.ts'
import type { PeerLevel } from '../../../src/node/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'

const RELAY = '12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'
const DNS_RELAY = '12D3KooWL3XJ9EMCyZvmmGXL2LMiVBtrVa2BuESsJiXkSj7333Jw'
const PEER = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'
const none = {} as unknown as MultiaddrConnection

function makeGater (level: PeerLevel): { gater: ReturnType<typeof createGater>, refused: string[], clock: FakeClock } {
  const relays = parseRelayAddresses([`/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}`, `/ip6/2001:db8::7/tcp/443/p2p/${RELAY}`, `/dnsaddr/relay.example/p2p/${DNS_RELAY}`])
  const refused: string[] = []
  const clock = createFakeClock()
  const gater = createGater({ clock, relays, peers: createPeerDirectory(relays), levelOf: () => level, limits: createInboundLimits(), onRefused: (_peer: PeerId, reason: string) => { refused.push(reason) } })
  return { gater, refused, clock }
}

test('I10: libp2p itself may dial the listed relays at their listed addresses and nothing else', async () => {
  const { gater } = makeGater('friend')
  const denies = async (text: string): Promise<boolean> => await gater.denyDialMultiaddr?.(multiaddr(text)) === true
  assert.equal(await denies(`/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}`), false)
  assert.equal(await denies(`/ip6/2001:db8::7/tcp/443/p2p/${RELAY}`), false)
  assert.equal(await denies(`/ip4/198.51.100.1/tcp/443/p2p/${DNS_RELAY}`), false)
  for (const text of [
    `/ip4/192.0.2.8/tcp/4001/p2p/${RELAY}`, '/ip4/192.0.2.7/tcp/4001', `/ip4/192.0.2.7/tcp/4001/p2p/${PEER}`,
    `/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`, `/ip4/198.51.100.1/tcp/443/p2p/${DNS_RELAY}/p2p-circuit/p2p/${DNS_RELAY}`
  ]) assert.equal(await denies(text), true, text)
  assert.equal(await gater.denyDialPeer?.(peerIdFromString(PEER)), true)
  assert.equal(await gater.denyDialPeer?.(peerIdFromString(RELAY)), false)
  assert.equal(await gater.filterMultiaddrForPeer?.(peerIdFromString(PEER), multiaddr('/ip4/203.0.113.1/tcp/1')), false)
})

test('blocked devices are refused in both directions, friends and strangers are let in', async () => {
  const peer = peerIdFromString(PEER)
  const blocked = makeGater('blocked')
  assert.equal(await blocked.gater.denyInboundEncryptedConnection?.(peer, none), true)
  assert.equal(await blocked.gater.denyOutboundEncryptedConnection?.(peer, none), true)
  assert.deepEqual(blocked.refused, ['blocked', 'blocked'])
  for (const level of ['friend', 'pending', 'stranger'] as const) {
    const { gater, refused } = makeGater(level)
    assert.equal(await gater.denyInboundEncryptedConnection?.(peer, none), false)
    assert.equal(await gater.denyInboundRelayedConnection?.(peerIdFromString(RELAY), peer), false)
    assert.deepEqual(refused, [])
  }
})

test('circuits come from listed relays only, and we are nobody\'s relay', async () => {
  const { gater, refused } = makeGater('friend')
  assert.equal(await gater.denyInboundRelayedConnection?.(peerIdFromString(PEER), peerIdFromString(PEER)), true)
  assert.deepEqual(refused, ['unlisted-relay'])
  assert.equal(await gater.denyInboundRelayReservation?.(peerIdFromString(PEER)), true)
})

test('I9: non-friends who knock through a relay too often are refused before the handshake; friends never, and the second after is free', async () => {
  const calls = async (gater: ReturnType<typeof createGater>, count: number): Promise<boolean[]> => Promise.all(Array.from({ length: count }, async () => await gater.denyInboundRelayedConnection?.(peerIdFromString(RELAY), peerIdFromString(PEER)) === true))
  const limit = LIMITS.strangerKnocksPerSecondCount
  for (const level of ['stranger', 'pending'] as const) {
    const { gater, refused, clock } = makeGater(level)
    const denied = await calls(gater, limit + 2)
    assert.equal(denied.indexOf(true), limit)
    assert.deepEqual(refused, ['rate-limit', 'rate-limit'])
    await clock.advance(1000)
    assert.deepEqual(await calls(gater, 1), [false])
  }
  const { gater } = makeGater('friend')
  assert.equal((await calls(gater, 10 * limit)).includes(true), false)
})

test('I9: one host may connect so often a second; circuits, which all come from the relay, are not counted as one host', async () => {
  const { gater } = makeGater('friend')
  const from = async (text: string): Promise<boolean> => await gater.denyInboundConnection?.({ remoteAddr: multiaddr(text) } as unknown as MultiaddrConnection) === true
  for (let count = 0; count < LIMITS.inboundPerHostPerSecondCount; count++) assert.equal(await from('/ip4/203.0.113.1/tcp/1000'), false)
  assert.equal(await from('/ip4/203.0.113.1/tcp/1001'), true)
  assert.equal(await from('/ip4/203.0.113.2/tcp/1000'), false)
  for (let count = 0; count < 2 * LIMITS.inboundPerHostPerSecondCount; count++) assert.equal(await from(`/ip4/192.0.2.7/tcp/4001/p2p/${RELAY}/p2p-circuit/p2p/${PEER}`), false)
})
