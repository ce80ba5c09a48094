import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LIMITS } from '../../../src/base/index.ts'
import { MessagePacker } from '../../../src/session/message-packer.ts'
import { createStreamLink } from '../../../src/session/stream-link.ts'
import { createStreamPair } from './fake-node.ts'
import { pattern } from './support.ts'

const WAY = { path: 'relayed', relayPeerId: undefined } as const

async function turns (): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise<void>((resolve) => { setImmediate(resolve) })
}

describe('stream link', () => {
  it('I4: what was written may be overwritten at once: the other end gets the bytes of the moment of writing', async () => {
    const { ends: [near, far], lose } = createStreamPair()
    const link = createStreamLink(near, WAY)
    link.open({ onBytes: () => {}, onDrain: () => {}, onClosed: () => {} })
    const buffer = Buffer.alloc(10_000)
    for (let round = 0; round < 20; round++) {
      buffer.fill(round)
      link.write([buffer], buffer.length)
    }
    buffer.fill(0xff)
    const received: Uint8Array[] = []
    const reading = (async () => { for await (const chunk of far.source) received.push(chunk) })().catch(() => { /* lost below */ })
    await turns()
    lose()
    await reading
    const all = Buffer.concat(received)
    assert.equal(all.length, 200_000)
    for (let round = 0; round < 20; round++) assert.ok(all.subarray(round * 10_000, (round + 1) * 10_000).every((byte) => byte === round))
  })

  it('says when it has enough, and once when it takes more again', async () => {
    const { ends: [near, far], lose } = createStreamPair()
    let drainCount = 0
    const link = createStreamLink(near, WAY)
    link.open({ onBytes: () => {}, onDrain: () => { drainCount++ }, onClosed: () => {} })
    const chunk = new Uint8Array(64 * 1024)
    let writtenBytes = 0
    let isReady = true
    while (isReady) {
      isReady = link.write([chunk], chunk.length)
      writtenBytes += chunk.length
      assert.ok(writtenBytes <= LIMITS.sessionLinkBufferBytes)
    }
    const reading = (async () => { for await (const bytes of far.source) assert.ok(bytes.length > 0) })().catch(() => { /* lost below */ })
    await turns()
    assert.equal(drainCount, 1)
    lose()
    await reading
  })
})

describe('message packer', () => {
  it('gives the bytes back in order, in messages that are full but for the first and the last', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.array(fc.nat(300), { maxLength: 5 }), fc.constant(undefined)), { maxLength: 60 }), (steps) => {
      const packer = new MessagePacker(256)
      const expected: Uint8Array[] = []
      const got: Uint8Array[] = []
      let seed = 0
      for (const step of steps) {
        if (step === undefined) {
          const message = packer.shift()
          if (message !== undefined) got.push(message)
        } else {
          const pieces = step.map((size) => pattern(size, ++seed))
          expected.push(...pieces.map((piece) => piece.slice()))
          packer.add(pieces, pieces.reduce((sum, piece) => sum + piece.length, 0))
          for (const piece of pieces) piece.fill(0)
        }
      }
      const rest: Uint8Array[] = []
      for (let message = packer.shift(); message !== undefined; message = packer.shift()) rest.push(message)
      for (const message of rest.slice(1, -1)) assert.equal(message.length, 256)
      got.push(...rest)
      for (const message of got) assert.ok(message.length > 0 && message.length <= 256)
      assert.equal(packer.byteCount, 0)
      assert.equal(Buffer.compare(Buffer.concat(got), Buffer.concat(expected)), 0)
    }))
  })
})
