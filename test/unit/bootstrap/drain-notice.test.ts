/** Whom a relay tells that it drains, in which order, when many do not listen. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS, createMetrics, silentLogger } from '../../../src/base/index.ts'
import { tellDrain } from '../../../src/bootstrap/drain-notice.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

/** A peer that takes a stream after `answersAfterMs`, or never. */
interface FakePeer { name: string, answersAfterMs: number }

test('more deaf peers than are told at once do not keep the word from the others; who holds its reservation for longest comes first, and a slow one still gets it', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const asked: string[] = []
  const told: string[] = []
  const deaf = (index: number): FakePeer => ({ name: `deaf ${index}`, answersAfterMs: Infinity })
  const peers: FakePeer[] = [
    { name: 'oldest', answersAfterMs: 50 },
    ...Array.from({ length: 2 * LIMITS.relayDrainNoticeCount }, (_, index) => deaf(index)),
    { name: 'slow', answersAfterMs: 2 * LIMITS.relayDrainNoticePeerMs },
    { name: 'newest', answersAfterMs: 0 }
  ]
  function connectionTo ({ name, answersAfterMs }: FakePeer): Connection {
    return {
      status: 'open',
      remoteAddr: multiaddr('/ip4/203.0.113.1/tcp/1'),
      newStream: async (_protocol: string, { signal }: { signal: AbortSignal }) => {
        asked.push(name)
        await new Promise<void>((resolve, reject) => {
          signal.addEventListener('abort', () => { reject(signal.reason as Error) })
          if (answersAfterMs !== Infinity) clock.setTimer(resolve, answersAfterMs)
        })
        return { send: () => true, close: async () => { told.push(name) }, abort: () => {} } as unknown as Stream
      }
    } as unknown as Connection
  }
  const telling = tellDrain({
    node: { getConnections: (peerId?: PeerId) => [connectionTo(peerId as unknown as FakePeer)] },
    clock,
    log: silentLogger,
    notices: metrics.counter('notices', 'x', ['result'])
  }, peers as unknown as PeerId[], 1000)
  await clock.advance(LIMITS.relayDrainNoticeMs)
  await telling
  assert.equal(asked[0], 'oldest')
  assert.deepEqual(told, ['oldest', 'newest', 'slow'])
  assert.match(await metrics.text(), /notices\{result="failed"\} 1024/)
  assert.equal(clock.pendingTimerCount(), 0)
})
