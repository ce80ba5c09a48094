/** Bytes through many channels in both directions at once, each direction compared by count and hash. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Channel, ChannelHandler, Session } from '../../src/session/index.ts'
import { ByteMeter, createByteSource, createChance } from './byte-stream.ts'

/** What one end of a channel did and saw. `failure` is undefined after a clean end. */
interface ChannelSide { sent: ByteMeter, received: ByteMeter, failure: string | undefined }

/** Traffic under way. */
export interface Traffic {
  /** Bytes that arrived so far, over all channels and directions. */
  receivedBytes: () => number
  /** Writers end after what they have in hand, and at least `leastBytes` each. */
  finish: () => void
  /** Resolves when every channel is over; then {@link assertSame}. */
  done: Promise<void>
  /** I4, I5: each side has exactly what the other sent, and a clean end. */
  assertSame: () => void
}

const KIND = 'traffic'
const MAX_PIECE_BYTES = 48 * 1024
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

/** Opens `channelCount` channels from each of the two sessions; both sides of each write at once until `finish`. */
export function startTraffic (sessions: readonly [Session, Session], handlers: Map<string, ChannelHandler>, init: { channelCount: number, leastBytes: number, seed: string }): Traffic {
  const sides = new Map<string, ChannelSide[]>()
  const state = { isOver: false }
  let receivedBytes = 0
  const running: Array<Promise<void>> = []

  const run = (name: string, role: string, channel: Channel): void => {
    const side: ChannelSide = { sent: new ByteMeter(), received: new ByteMeter(), failure: undefined }
    sides.set(name, [...sides.get(name) ?? [], side])
    running.push(carry(channel, side, `${init.seed} ${name} ${role}`))
  }

  async function carry (channel: Channel, side: ChannelSide, seed: string): Promise<void> {
    channel.on('error', (err) => { side.failure = String(err) })
    let hasEnded = false
    channel.once('end', () => { hasEnded = true })
    channel.on('data', (chunk: Buffer) => {
      side.received.note(chunk)
      receivedBytes += chunk.length
    })
    const closed = new Promise<void>((resolve) => { channel.once('close', () => { resolve() }) })
    const next = createByteSource(seed)
    const chance = createChance(seed.length + Buffer.from(seed).reduce((sum, byte) => sum * 31 + byte | 0, 7))
    while (!channel.destroyed && !(state.isOver && side.sent.bytes >= init.leastBytes)) {
      const piece = next(1 + Math.floor(chance() * MAX_PIECE_BYTES))
      side.sent.note(piece)
      if (!channel.write(piece)) await Promise.race([once(channel, 'drain').catch(() => { /* the close tells */ }), closed])
      else if (chance() < 0.1) await new Promise<void>((resolve) => { setImmediate(resolve) })
    }
    if (!channel.destroyed) channel.end()
    await closed
    if (!hasEnded) side.failure ??= 'closed without an end'
  }

  handlers.set(KIND, async (request) => { run(textOf(request.message), 'answers', request.accept()) })
  for (const [index, session] of sessions.entries()) {
    for (let count = 0; count < init.channelCount; count++) {
      const name = `${index}/${count}`
      run(name, 'opens', session.openChannel(KIND, Buffer.from(name)))
    }
  }
  const expectedCount = 2 * sessions.length * init.channelCount
  return {
    receivedBytes: () => receivedBytes,
    finish: () => { state.isOver = true },
    done: (async () => {
      // the answering sides join when their open arrives
      for (let settled = 0; settled < expectedCount; settled = running.length) {
        await Promise.all([...running])
        assert.equal(running.length, expectedCount, 'a channel ended before its other side began')
      }
    })(),
    assertSame: () => {
      for (const [name, [one, other]] of sides) {
        assert.ok(one !== undefined && other !== undefined, `channel ${name} has one side only`)
        assert.deepEqual([one.failure, other.failure], [undefined, undefined], `channel ${name}`)
        const [sent, received] = [[one, other], [other, one]].map(([from, to]) => [from?.sent.bytes, to?.received.bytes])
        assert.deepEqual(sent?.[0], sent?.[1], `channel ${name} lost or doubled bytes`)
        assert.deepEqual(received?.[0], received?.[1], `channel ${name} lost or doubled bytes`)
        const hashes = [one.sent, other.received, other.sent, one.received].map((meter) => meter.sha256())
        assert.equal(hashes[0], hashes[1], `channel ${name} delivered other bytes`)
        assert.equal(hashes[2], hashes[3], `channel ${name} delivered other bytes`)
      }
      assert.equal(sides.size, expectedCount / 2)
    }
  }
}
