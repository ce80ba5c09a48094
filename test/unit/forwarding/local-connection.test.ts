import assert from 'node:assert/strict'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import type { Socket } from 'node:net'
import { systemClock } from '../../../src/base/index.ts'
import { carryLocalConnection } from '../../../src/forwarding/local-connection.ts'
import type { Channel, Session } from '../../../src/session/index.ts'
import { connectTo, startTarget } from '../../support/target-server.ts'

test('the open frame of a connection leaves before its socket is joined: the friend can begin meanwhile', async () => {
  const order: string[] = []
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => { done() } })
  const channel = Object.assign(stream, {
    bytesRead: 0,
    bytesWritten: 0,
    readTo: () => { order.push('joined') },
    readMore: () => {}
  }) as unknown as Channel
  // as a session does it: what is opened in one go leaves in one message
  const openChannel = (): Channel => {
    order.push('opened')
    queueMicrotask(() => { order.push('left') })
    return channel
  }
  const accepted = Promise.withResolvers<Socket>()
  const target = await startTarget(accepted.resolve)
  const client = await connectTo(target.port)
  const carried = carryLocalConnection({
    socket: await accepted.promise,
    opening: new Uint8Array(1),
    clock: systemClock,
    liveSession: () => ({ openChannel }) as unknown as Session,
    openSession: async () => { throw new Error('there is one') },
    signal: new AbortController().signal,
    onAnswer: () => {}
  })
  client.destroy()
  channel.destroy()
  const { kind } = await carried
  await target.close()
  assert.equal(kind, 'ended')
  assert.deepEqual(order, ['opened', 'left', 'joined'])
})
