import assert from 'node:assert/strict'
import test from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Peer, PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createPeerSweep } from '../../../src/node/peer-sweep.ts'
import type { PeerSweepComponents } from '../../../src/node/peer-sweep.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

test('I8: what libp2p noted of peers that left is forgotten, also when it was noted after they left; friends, relays and the connected stay', async () => {
  const [self, gone, late, friend, connected] = await Promise.all([1, 2, 3, 4, 5].map(async (seed) => peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed))))) as [PeerId, PeerId, PeerId, PeerId, PeerId]
  const stored = new Set([self, gone, friend, connected])
  const clock = createFakeClock()
  const node = {
    peerId: self,
    getConnections: (peer?: PeerId) => peer === connected ? [{}] : [],
    peerStore: { all: async () => [...stored].map((id) => ({ id }) as Peer), delete: async (peer: PeerId) => { stored.delete(peer) } }
  }
  const sweep = createPeerSweep({ node: () => node as unknown as ReturnType<PeerSweepComponents['node']>, clock, log: silentLogger, isKept: (peer) => peer === friend })
  await sweep.start()
  await clock.advance(LIMITS.peerStoreSweepMs)
  assert.deepEqual(stored, new Set([self, friend, connected]))
  stored.add(late)
  await clock.advance(LIMITS.peerStoreSweepMs)
  assert.deepEqual(stored, new Set([self, friend, connected]))
  await sweep.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
