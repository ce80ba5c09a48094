import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { yamux } from '@chainsafe/libp2p-yamux'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { limitAnswers } from '../../../src/node/answer-limit.ts'

test('a stream that is opened when its connection has ended, and the muxer does not know, ends nothing else', async (t) => {
  const uncaught: unknown[] = []
  const note = (err: unknown): void => { uncaught.push(err) }
  process.on('uncaughtException', note)
  t.after(() => { process.off('uncaughtException', note) })
  const [connection] = multiaddrConnectionPair()
  const muxer = limitAnswers(connection, () => yamux()().createStreamMuxer(connection))
  // what a dead socket does first; the event that tells of it comes later
  Object.assign(connection, { writeStatus: 'closed' })
  // yamux sends the opening frame in a microtask of its own
  const stream = await muxer.createStream()
  await turn()
  assert.deepEqual(uncaught, [])
  connection.abort(new Error('the relay died'))
  await turn()
  assert.notEqual(stream.status, 'open')
})
