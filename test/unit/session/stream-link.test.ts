import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createStreamLink } from '../../../src/session/stream-link.ts'
import { waitFor } from '../../support/wait.ts'
import { createStreamPair } from './fake-node.ts'

const DEADLINE = { deadlineMs: 10_000, intervalMs: 1 }
const WAY = { path: 'relayed', relayPeerId: undefined } as const

describe('stream link', () => {
  it('says when it has enough, and once when it takes more again', async () => {
    const { ends: [near, far], lose } = createStreamPair()
    let drainCount = 0
    const link = createStreamLink(near, WAY)
    link.open({ onBytes: () => {}, onDrain: () => { drainCount++ }, onClosed: () => {} })
    let writtenCount = 0
    for (let isReady = true; isReady; writtenCount++) isReady = link.write(new Uint8Array(link.messageBytes))
    assert.ok(writtenCount <= 3, `${writtenCount} messages wait in the link`)
    let readBytes = 0
    const reading = (async () => { for await (const bytes of far.source) readBytes += bytes.length })().catch(() => { /* lost below */ })
    await waitFor('all messages', () => readBytes === writtenCount * link.messageBytes, DEADLINE)
    assert.equal(drainCount, 1)
    lose()
    await reading
  })

  it('reads nothing while it is paused, and loses nothing by it', async () => {
    const { ends: [near, far], lose } = createStreamPair()
    const received: Uint8Array[] = []
    const link = createStreamLink(near, WAY)
    link.open({
      onBytes: (chunk) => {
        received.push(chunk)
        link.pause()
      },
      onDrain: () => {},
      onClosed: () => {}
    })
    const over = Promise.withResolvers<undefined>()
    const writing = far.sink((async function * () {
      for (let index = 0; index < 10; index++) yield new Uint8Array([index])
      await over.promise
    })()).catch(() => { /* lost below */ })
    for (let count = 1; count <= 10; count++) {
      await waitFor(`chunk ${count}`, () => received.length === count, DEADLINE)
      for (let turn = 0; turn < 20; turn++) await new Promise<void>((resolve) => { setImmediate(resolve) })
      assert.equal(received.length, count)
      link.resume()
    }
    assert.deepEqual(received.map(([byte]) => byte), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    over.resolve(undefined)
    lose()
    await writing
  })
})
