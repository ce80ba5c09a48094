/** What a relay makes of the answers of others that look whether it can be reached. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { multiaddr } from '@multiformats/multiaddr'
import { createMetrics, encodeFrame, silentLogger } from '../../../src/base/index.ts'
import { createReachCheck } from '../../../src/bootstrap/reach-check.ts'
import type { ReachCheckComponents } from '../../../src/bootstrap/reach-check.ts'
import { encodeReachAnswer } from '../../../src/bootstrap/reach-messages.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const PEER = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

/** A connection to the other relay, which answers at once; what `end` does is done when the stream is closed. */
function connectionTo (result: 'reachable' | 'unreachable', end: () => Promise<void>) {
  const asked: string[] = []
  const connection = {
    remotePeer: { toString: () => PEER },
    remoteAddr: multiaddr('/ip4/192.0.2.2/tcp/1'),
    status: 'open',
    newStream: async () => {
      asked.push(result)
      const stream = Object.assign(new EventTarget(), {
        readStatus: 'readable',
        readBufferLength: 0,
        status: 'open',
        isAborted: false,
        send: () => {
          queueMicrotask(() => { stream.dispatchEvent(Object.assign(new Event('message'), { data: encodeFrame(encodeReachAnswer({ t: 'checked', results: [result] })) })) })
          return true
        },
        pause: () => {},
        resume: () => {},
        abort: () => { stream.isAborted = true },
        close: end
      })
      return stream
    }
  }
  return { connection, asked }
}

function makeCheck (connections: readonly object[]) {
  const node = { getConnections: () => connections, getMultiaddrs: () => [multiaddr('/ip4/192.0.2.1/tcp/1')], peerId: { toString: () => 'me' } } as unknown as ReachCheckComponents['node']
  return createReachCheck({ node, clock: createFakeClock(), log: silentLogger, metrics: createMetrics(), peers: () => [`/ip4/192.0.2.2/tcp/1/p2p/${PEER}`] })
}

test('an answer that came counts, also when its stream cannot be closed any more', async () => {
  const { connection } = connectionTo('reachable', async () => { throw new Error('the stream is gone') })
  const check = makeCheck([connection])
  await check.check(new AbortController().signal)
  assert.deepEqual(check.report().addresses.map(({ result }) => result), ['reachable'])
  assert.equal(check.report().reason, undefined)
})

test('it is asked on the connection that is there for longest: a younger one may be the other relay\'s look at us, which ends soon', async () => {
  const [own, look] = [connectionTo('reachable', async () => {}), connectionTo('unreachable', async () => {})]
  await makeCheck([own.connection, look.connection]).check(new AbortController().signal)
  assert.deepEqual([own.asked.length, look.asked.length], [1, 0])
})
