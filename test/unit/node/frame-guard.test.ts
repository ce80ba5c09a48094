/** A peer that announces frames no muxer may send, at the muxer of a node. The muxer is a real one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { MessageStream, PeerId, Stream } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { errorCode, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createStreamMuxers } from '../../../src/node/stream-muxer.ts'
import type { StreamClass } from '../../../src/node/stream-muxer.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { PATIENT, waitFor } from '../../support/wait.ts'
import { yamuxHeader } from '../../support/yamux-header.ts'

const [DATA, WINDOW, SYN] = [0, 1, 1]
const SOMEBODY = { toString: () => 'somebody' } as unknown as PeerId

/** A connection of a node to a peer of the class, and the peer's end of it. */
function connect (classOf: () => StreamClass, isDialled: boolean): { ours: MessageStream, theirs: MessageStream, error: () => Error | undefined, streams: () => Stream[] } {
  const [dialling, dialled] = multiaddrConnectionPair()
  const [ours, theirs] = isDialled ? [dialling, dialled] : [dialled, dialling]
  let error: Error | undefined
  ours.addEventListener('close', (event) => { error = event.error })
  const policy = { classOf, judge: () => 'wait' as never, route: (_stream: Stream, protocol: string) => protocol, onRefused: () => { /* counted by the node */ } }
  const muxers = createStreamMuxers({ policy, peerOf: () => SOMEBODY, clock: createFakeClock(), log: silentLogger })
  const muxer = muxers.factory().createStreamMuxer(ours)
  return { ours, theirs, error: () => error, streams: () => muxer.streams }
}

for (const [name, level, isDialled, bytes] of [
  ['longer than the window of a stranger', 'stranger', false, [yamuxHeader(WINDOW, SYN, 1, 0), yamuxHeader(DATA, 0, 1, LIMITS.strangerWindowBytes + 1)]],
  ['longer than the window of a friend', 'friend', false, [yamuxHeader(WINDOW, SYN, 1, 0), yamuxHeader(DATA, 0, 1, LIMITS.streamWindowBytes + 1)]],
  ['of 4 GiB, from a relay that the node dialled', 'relay', true, [yamuxHeader(WINDOW, SYN, 2, 0), yamuxHeader(DATA, 0, 2, 0xffff_ffff)]],
  ['for a stream that was never opened', 'friend', false, [yamuxHeader(DATA, 0, 1, 1000)]],
  ['for a stream that was never opened, where the node dialled', 'friend', true, [yamuxHeader(DATA, 0, 2, 1000)]]
] as const) {
  test(`I8: a frame ${name} ends the connection before anything of it is kept`, async () => {
    const { ours, theirs, error } = connect(() => level, isDialled)
    for (const piece of bytes) theirs.send(piece)
    for (let count = 0; count < 10; count++) await turn()
    assert.equal(ours.status, 'aborted')
    assert.equal(errorCode(error()), 'ERR_PROTOCOL')
  })
}

test('a whole window in one frame is taken, also on a stream of one who is no friend any more', async () => {
  let level: StreamClass = 'friend'
  const { ours, theirs, streams } = connect(() => level, false)
  theirs.send(yamuxHeader(WINDOW, SYN, 1, 0))
  await waitFor('the stream', () => streams().length === 1, PATIENT)
  level = 'stranger'
  theirs.send(yamuxHeader(DATA, 0, 1, LIMITS.streamWindowBytes))
  for (let count = 0; count < 10; count++) await turn()
  assert.equal(ours.status, 'open')
  ours.abort(new Error('done'))
})

test('a stock muxer at the other end is understood, whoever dialled and whoever opens', async () => {
  for (const isDialled of [false, true]) {
    const { ours, theirs } = connect(() => 'friend', isDialled)
    const stock = yamux({ enableKeepAlive: false })().createStreamMuxer(theirs)
    for (let count = 0; count < 5; count++) {
      const stream = await stock.createStream()
      stream.send(new Uint8Array(100_000))
      if (count % 2 === 0) stream.abort(new Error('no longer wanted'))
      else await stream.close()
    }
    for (let count = 0; count < 10; count++) await turn()
    assert.equal(ours.status, 'open')
    ours.abort(new Error('done'))
  }
})
