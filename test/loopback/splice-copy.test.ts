/** The copy loop by itself: both ways to read give the same bytes, whatever the ends do. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import { createBufferPool, createSlotReader, LIMITS, readInto, systemClock } from '../../src/base/index.ts'
import type { BufferPool } from '../../src/base/index.ts'
import { createByteRate } from '../../src/bootstrap/byte-rate.ts'
import { joinSplice } from '../../src/bootstrap/splice-copy.ts'
import type { Splice, SpliceCopyInit } from '../../src/bootstrap/splice-copy.ts'
import { LARGE_BUFFER_BYTES } from '../../src/bootstrap/splice-leg.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import { readAll, readBytes, tcpPair, writeRandom } from '../support/splice-pair.ts'
import { untilStill, waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024

interface Joined { splice: Splice, caller: Socket, called: Socket, pool: BufferPool, relaySockets: Socket[] }

async function join (t: TestContext, copy: 'auto' | 'public', init: Partial<SpliceCopyInit> & { clock?: typeof systemClock } = {}): Promise<Joined> {
  const { clock = systemClock, ...rest } = init
  const pool = createBufferPool({ bufferBytes: LARGE_BUFFER_BYTES, maxBytes: 64 * MIB })
  const [one, other] = [await tcpPair(t), await tcpPair(t)]
  const splice = joinSplice({ clock, pool, onBytes: () => {} }, { caller: { socket: one.accepted }, called: { socket: other.accepted }, copy, ...rest })
  assert.equal(splice.isReusing, copy === 'auto', 'the handle of this Node has the shape that is expected')
  return { splice, caller: one.outside, called: other.outside, pool, relaySockets: [one.accepted, other.accepted] }
}

for (const copy of ['auto', 'public'] as const) {
  describe(`copying, ${copy}`, () => {
    test('I4: readers and writers of random speed get every byte in order, both directions busy', async (t) => {
      const { splice, caller, called, pool } = await join(t, copy)
      const total = 24 * MIB
      const slowRead = async (socket: Socket): Promise<string> => {
        const hash = createHash('sha256')
        let left = total
        while (left > 0) {
          const bytes = await readBytes(socket, Math.min(left, 1 + randomBytes(3).readUIntBE(0, 3) % 900_000))
          hash.update(bytes)
          left -= bytes.length
          if (left % 3 === 0) await new Promise((resolve) => { setImmediate(resolve) })
        }
        return hash.digest('hex')
      }
      const reading = Promise.all([slowRead(called), slowRead(caller)])
      const written = await within('the writers', 120_000, Promise.all([writeRandom(caller, total), writeRandom(called, total)]))
      assert.deepEqual(await within('the readers', 120_000, reading), written)
      assert.equal(splice.forwardedBytes(), 2n * BigInt(total))
      caller.end()
      await readAll(called)
      called.end()
      assert.equal(await within('the end', 30_000, splice.ended), 'finished')
      await waitFor('the buffers', () => pool.usedBytes === 0, { deadlineMs: 30_000, intervalMs: 5 })
    })

    test('I8: at most 256 KiB of a direction wait; the source is not read meanwhile', async (t) => {
      const { splice, caller, called } = await join(t, copy)
      called.pause()
      let isAll = false
      const writing = writeRandom(caller, 32 * MIB).then((hash) => {
        isAll = true
        return hash
      })
      await untilStill('the splice', () => Number(splice.forwardedBytes()), 300)
      assert.equal(isAll, false)
      assert.ok(splice.bufferedBytes() > 0 && splice.bufferedBytes() <= LIMITS.relaySpliceBufferBytes, `${splice.bufferedBytes()} bytes wait`)
      // the other direction does not suffer
      called.write('back')
      assert.equal((await readBytes(caller, 4)).toString(), 'back')
      const read = createHash('sha256').update(await readBytes(called, 32 * MIB)).digest('hex')
      assert.equal(read, await writing)
    })

    test('I4: a FIN flushes what was read, then closes both; a leg that takes nothing is cut in the end', async (t) => {
      const clock = createFakeClock()
      const { splice, caller, called } = await join(t, copy, { clock })
      const sha256 = await (async () => {
        const reading = readAll(called)
        const hash = await writeRandom(caller, 2 * MIB)
        caller.end()
        const got = await within('all bytes and the end', 60_000, reading)
        assert.deepEqual(got, { sha256: hash, byteCount: 2 * MIB, how: 'end' })
        return hash
      })()
      assert.ok(sha256.length > 0)
      assert.equal((await within('the end of the other direction', 30_000, readAll(caller))).how, 'end')
      // the called end does not close
      assert.equal(clock.pendingTimerCount(), 1)
      await clock.advance(LIMITS.relaySpliceFlushMs)
      assert.equal(await within('the end', 30_000, splice.ended), 'finished')
      assert.equal(clock.pendingTimerCount(), 0)
    })

    test('a reset of one leg: what was read is flushed, then the other is closed', async (t) => {
      const { splice, caller, called } = await join(t, copy)
      caller.write('last words')
      await waitFor('the words to be read', () => splice.forwardedBytes() === 10n, { deadlineMs: 30_000, intervalMs: 5 })
      caller.resetAndDestroy()
      const got = await within('the words and the end', 30_000, readAll(called))
      assert.equal(got.byteCount, 10)
      called.end()
      assert.equal(await within('the end', 30_000, splice.ended), 'reset')
    })

    test('limits of bytes and of time reset both legs', async (t) => {
      const small = await join(t, copy, { limits: { dataBytes: 1000n } })
      small.caller.write(new Uint8Array(1001))
      assert.equal(await within('the end', 30_000, small.splice.ended), 'data-limit')
      await within('both ends', 30_000, Promise.all([readAll(small.caller), readAll(small.called)]))
      const clock = createFakeClock()
      const short = await join(t, copy, { limits: { durationSeconds: 7 }, clock })
      await clock.advance(6_999)
      assert.equal(short.splice.bufferedBytes(), 0)
      await clock.advance(1)
      assert.equal(await within('the end', 30_000, short.splice.ended), 'duration-limit')
    })

    test('the rate of a peer holds for all it sends together and keeps nobody busy', async (t) => {
      const clock = createFakeClock()
      const rate = createByteRate(clock, { bytesPerSecond: () => 1_000_000 })
      const pairs = [await tcpPair(t), await tcpPair(t)]
      const pool = createBufferPool({ bufferBytes: LARGE_BUFFER_BYTES, maxBytes: 64 * MIB })
      const one = joinSplice({ clock, pool, onBytes: () => {} }, { caller: { socket: (pairs[0] as { accepted: Socket }).accepted, flow: () => ({ charge: rate.charge, end: () => {} }) }, called: { socket: (pairs[1] as { accepted: Socket }).accepted }, copy })
      const total = 3 * MIB
      const reading = readAll((pairs[1] as { outside: Socket }).outside)
      const { outside } = pairs[0] as { outside: Socket }
      const writing = writeRandom(outside, total)
      await waitFor('the first bytes', () => one.forwardedBytes() > 0n, { deadlineMs: 30_000, intervalMs: 5 })
      let elapsedMs = 0
      while (one.forwardedBytes() < BigInt(total)) {
        const before = one.forwardedBytes()
        // never more than the rate allows, the burst, and the piece that overdrew it
        assert.ok(Number(before) <= elapsedMs * 1000 + 100_000 + 2 * LARGE_BUFFER_BYTES, `${before} bytes after ${elapsedMs} ms`)
        await clock.advance(50)
        elapsedMs += 50
        await new Promise((resolve) => { setImmediate(resolve) })
        assert.ok(elapsedMs < 600_000)
      }
      const hash = await writing
      outside.end()
      // a peer that is over its rate is not read, so its end waits for the clock too
      let got: Awaited<typeof reading> | undefined
      void reading.then((value) => { got = value })
      await waitFor('all bytes', async () => {
        await clock.advance(50)
        return got
      }, { deadlineMs: 30_000, intervalMs: 1 })
      assert.equal(got?.sha256, hash)
      ;(pairs[1] as { outside: Socket }).outside.end()
      await within('the end', 30_000, one.ended)
      assert.equal(clock.pendingTimerCount(), 0)
    })

    test('an abort resets both legs and gives all buffers back', async (t) => {
      const { splice, caller, called, pool, relaySockets } = await join(t, copy)
      await writeRandom(caller, MIB)
      splice.abort('shutdown')
      assert.equal(await splice.ended, 'shutdown')
      await within('both ends', 30_000, Promise.all([readAll(caller), readAll(called)]))
      await waitFor('the buffers', () => pool.usedBytes === 0 && relaySockets.every((socket) => socket.destroyed), { deadlineMs: 30_000, intervalMs: 5 })
    })
  })
}

test('copying, public: memory goes back when its bytes were written, and not before', async (t) => {
  const { splice, caller, called, relaySockets: [source] } = await join(t, 'public')
  assert.ok(source !== undefined)
  const pieces: Array<{ bytes: Buffer, byteCount: number, isAll: boolean }> = []
  // of a read that brought a little less than it could, Node keeps the rest too: it looks like a piece of a pool, and is left to the collector
  source.on('data', (bytes: Buffer) => { pieces.push({ bytes, byteCount: bytes.length, isAll: bytes.length === bytes.buffer.byteLength }) })
  called.pause()
  const writing = writeRandom(caller, 32 * MIB)
  await waitFor('bytes that wait', () => source.isPaused() && splice.bufferedBytes() > source.readableLength, { deadlineMs: 60_000, intervalMs: 5 })
  const keptBytes = pieces.filter(({ bytes }) => bytes.length > 0).reduce((sum, { byteCount }) => sum + byteCount, 0)
  const waitingBytes = splice.bufferedBytes() - source.readableLength
  assert.ok(waitingBytes > 0 && keptBytes >= waitingBytes, `${keptBytes} of ${waitingBytes} bytes that wait are there`)
  const read = createHash('sha256').update(await readBytes(called, 32 * MIB)).digest('hex')
  assert.equal(read, await writing)
  const large = pieces.filter(({ byteCount, isAll }) => isAll && byteCount >= 4096)
  await waitFor('the memory', () => large.length > 0 && large.every(({ bytes }) => bytes.length === 0), { deadlineMs: 30_000, intervalMs: 5 })
})

test('a handle of another shape is left alone, and a pool that is used up means small buffers, not an error', async (t) => {
  const { accepted } = await tcpPair(t)
  const before = (accepted as unknown as { _handle: object })._handle
  ;(accepted as unknown as { _handle: object })._handle = { reading: false }
  assert.equal(readInto(accepted, { buffer: () => new Uint8Array(1), onRead: () => true }, () => {}), false)
  ;(accepted as unknown as { _handle: object })._handle = before

  const [one, other] = [await tcpPair(t), await tcpPair(t)]
  const pool = createBufferPool({ bufferBytes: LARGE_BUFFER_BYTES, maxBytes: 0 })
  const splice = joinSplice({ clock: systemClock, pool, onBytes: () => {} }, { caller: { socket: one.accepted }, called: { socket: other.accepted }, copy: 'auto' })
  const reading = readAll(other.outside)
  const hash = await writeRandom(one.outside, 4 * MIB)
  one.outside.end()
  assert.equal((await within('all bytes', 60_000, reading)).sha256, hash)
  other.outside.end()
  await splice.ended
})

test('a leg whose end came before the join brings its bytes and its end', async (t) => {
  for (const copy of ['auto', 'public'] as const) {
    const [one, other] = [await tcpPair(t), await tcpPair(t)]
    one.accepted.resume()
    const first = once(one.accepted, 'data')
    one.outside.write('a')
    await first
    one.accepted.pause()
    one.outside.end('hello')
    await waitFor('the bytes', () => one.accepted.readableLength === 5, { deadlineMs: 30_000, intervalMs: 5 })
    const splice = joinSplice({ clock: systemClock, pool: createBufferPool({ bufferBytes: 1024, maxBytes: 4096 }), onBytes: () => {} }, { caller: { socket: one.accepted }, called: { socket: other.accepted }, copy })
    const got = await within('bytes and end', 30_000, readAll(other.outside))
    assert.equal(got.byteCount, 5)
    other.outside.end()
    assert.equal(await within('the end', 30_000, splice.ended), 'finished')
  }
})

test('a reader that gave its buffers back takes nothing more, and gives none back twice', async (t) => {
  const { accepted, outside } = await tcpPair(t)
  const pool = createBufferPool({ bufferBytes: 64 * 1024, maxBytes: MIB })
  let seenBytes = 0
  const reader = createSlotReader(pool, accepted, (bytes, onTaken) => {
    seenBytes += bytes.length
    onTaken()
    return true
  })
  assert.ok(reader !== undefined)
  accepted.resume()
  outside.write(Buffer.alloc(256 * 1024))
  await waitFor('a large buffer', () => pool.usedBytes > 0 && seenBytes === 256 * 1024, { deadlineMs: 30_000, intervalMs: 2 })
  reader.dispose()
  assert.equal(pool.usedBytes, 0)
  const other = pool.take()
  other?.fill(7)
  outside.write(Buffer.alloc(64 * 1024, 1))
  await waitFor('the bytes', () => accepted.bytesRead > 256 * 1024, { deadlineMs: 30_000, intervalMs: 2 })
  assert.equal(seenBytes, 256 * 1024)
  assert.equal(pool.usedBytes, 64 * 1024)
  reader.dispose()
  assert.equal(pool.usedBytes, 64 * 1024)
})
