import assert from 'node:assert/strict'
import test from 'node:test'
import { TypedEventEmitter } from '@libp2p/interface'
import type { MessageStreamEvents, MessageStreamStatus, Stream } from '@libp2p/interface'
import fc from 'fast-check'
import { CarrierError, concatBytes, errorCode } from '../../../src/base/index.ts'
import { createPeerStream } from '../../../src/node/stream-adapter.ts'

/** As much of a libp2p stream as the adapter uses, with its habits: pause keeps data, abort throws it away, loss is no FIN. */
class FakeStream extends TypedEventEmitter<MessageStreamEvents> {
  status: MessageStreamStatus = 'open'
  readStatus = 'readable'
  writeStatus = 'writable'
  remoteWriteStatus = 'writable'
  writableNeedsDrain = false
  sent: Uint8Array[] = []
  waiting: Uint8Array[] = []
  isFull = false
  pauseCount = 0
  hasReadClosed = false

  get readBufferLength (): number { return this.waiting.reduce((total, chunk) => total + chunk.length, 0) }

  send (data: Uint8Array): boolean {
    if (this.writeStatus !== 'writable') throw new Error('not writable')
    this.sent.push(data)
    this.writableNeedsDrain = this.isFull
    return !this.isFull
  }

  drain (): void {
    this.isFull = false
    this.writableNeedsDrain = false
    this.dispatchEvent(new Event('drain'))
  }

  pause (): void {
    this.readStatus = 'paused'
    this.pauseCount++
  }

  resume (): void {
    this.readStatus = 'readable'
    const chunks = this.waiting.splice(0)
    if (chunks.length > 0) this.#emit(concatBytes(chunks))
  }

  receive (bytes: Uint8Array): void {
    if (this.readStatus === 'paused') this.waiting.push(bytes)
    else this.#emit(bytes)
  }

  fin (): void {
    this.remoteWriteStatus = 'closed'
    this.dispatchEvent(new Event('remoteCloseWrite'))
  }

  /** The transport below is gone. */
  lose (): void {
    this.status = 'closed'
    this.writeStatus = this.remoteWriteStatus = 'closed'
    this.dispatchEvent(new Event('end'))
    this.dispatchEvent(new Event('close'))
  }

  abort (error: Error): void {
    if (this.status !== 'open') return
    this.status = 'aborted'
    this.waiting = []
    this.writeStatus = this.remoteWriteStatus = this.readStatus = 'closed'
    this.dispatchEvent(new Event('end'))
    this.dispatchEvent(Object.assign(new Event('close'), { error }))
  }

  async close (): Promise<void> {
    this.writeStatus = 'closed'
    if (this.remoteWriteStatus !== 'closed') return
    this.status = 'closed'
    this.dispatchEvent(new Event('close'))
  }

  async closeRead (): Promise<void> { this.hasReadClosed = true }

  #emit (data: Uint8Array): void { this.dispatchEvent(Object.assign(new Event('message'), { data })) }
}

function wrap (fake: FakeStream, init = {}): ReturnType<typeof createPeerStream> {
  return createPeerStream(fake as unknown as Stream, init)
}

async function readAll (source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return concatBytes(chunks)
}

const isLost = (err: unknown): boolean => errorCode(err) === 'ERR_LINK_LOST'

test('bytes come in order and the end comes after the FIN', async () => {
  const fake = new FakeStream()
  const { source } = wrap(fake)
  fake.receive(Uint8Array.of(1, 2))
  fake.receive(Uint8Array.of(3))
  fake.fin()
  assert.deepEqual(await readAll(source), Uint8Array.of(1, 2, 3))
})

test('I4: a lost link is never a clean end, whatever was read before', async () => {
  const fake = new FakeStream()
  const { source, closed } = wrap(fake)
  fake.receive(Uint8Array.of(1))
  assert.deepEqual((await source.next()).value, Uint8Array.of(1))
  fake.lose()
  await assert.rejects(source.next(), isLost)
  await closed
})

test('I4: a FIN before the adapter existed counts, a loss before it does not', async () => {
  const early = new FakeStream()
  early.remoteWriteStatus = 'closed'
  assert.equal((await wrap(early).source.next()).done, true)
  const dead = new FakeStream()
  dead.lose()
  await assert.rejects(wrap(dead).source.next(), isLost)
})

test('I4: an abort that throws away bytes before a FIN is no end', async () => {
  const fake = new FakeStream()
  const { source } = wrap(fake, { pauseAboveBytes: 1, resumeBelowBytes: 1 })
  fake.receive(Uint8Array.of(1, 2))
  assert.equal(fake.readStatus, 'paused')
  fake.receive(Uint8Array.of(3))
  fake.fin()
  fake.abort(new Error('connection gone'))
  assert.deepEqual((await source.next()).value, Uint8Array.of(1, 2))
  await assert.rejects(source.next(), isLost)
})

test('I4: bytes that wait in the paused stream behind a FIN are delivered before the end', async () => {
  const fake = new FakeStream()
  const { source } = wrap(fake, { pauseAboveBytes: 1, resumeBelowBytes: 1 })
  fake.receive(Uint8Array.of(1, 2))
  fake.receive(Uint8Array.of(3))
  fake.fin()
  assert.deepEqual(await readAll(source), Uint8Array.of(1, 2, 3))
})

test('I8: a reader that does not read pauses the stream and one that does resumes it', async () => {
  const fake = new FakeStream()
  const { source } = wrap(fake, { pauseAboveBytes: 10, resumeBelowBytes: 4 })
  for (let index = 0; index < 5; index++) fake.receive(new Uint8Array(4))
  assert.equal(fake.pauseCount, 1)
  assert.equal(fake.readBufferLength, 8)
  await source.next()
  await source.next()
  assert.equal(fake.readStatus, 'paused')
  await source.next()
  assert.equal(fake.readStatus, 'readable')
})

test('I8: a writer waits for drain, every time', async () => {
  const fake = new FakeStream()
  const { sink } = wrap(fake)
  let takenCount = 0
  fake.isFull = true
  const written = sink((async function * () {
    for (let index = 0; index < 3; index++) {
      takenCount++
      fake.isFull = true
      yield Uint8Array.of(index)
    }
  })())
  for (let count = 1; count <= 3; count++) {
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(takenCount, count)
    fake.drain()
  }
  await written
  assert.equal(fake.writeStatus, 'closed')
  assert.equal(fake.sent.length, 3)
})

test('a source that fails resets the stream and says why', async () => {
  const fake = new FakeStream()
  const { sink, source } = wrap(fake)
  await assert.rejects(sink((async function * () {
    yield Uint8Array.of(1)
    throw new CarrierError('ERR_LIMIT', 'too much')
  })()), (err) => errorCode(err) === 'ERR_LIMIT')
  assert.equal(fake.status, 'aborted')
  await assert.rejects(source.next(), (err) => errorCode(err) === 'ERR_LIMIT')
})

test('a writer whose source is idle learns of the loss at once', async () => {
  const fake = new FakeStream()
  const { sink } = wrap(fake)
  const written = assert.rejects(sink((async function * () {
    yield Uint8Array.of(1)
    await new Promise(() => {})
  })()), isLost)
  await new Promise((resolve) => setImmediate(resolve))
  fake.lose()
  await written
})

test('a writer that waits for drain learns of the loss at once', async () => {
  const fake = new FakeStream()
  fake.isFull = true
  const { sink } = wrap(fake)
  const written = assert.rejects(sink((async function * () { yield Uint8Array.of(1) })()), isLost)
  await new Promise((resolve) => setImmediate(resolve))
  fake.lose()
  await written
})

test('a reader that stops early throws away what still comes and leaves the write side alone', async () => {
  const fake = new FakeStream()
  const { source, sink } = wrap(fake)
  fake.receive(Uint8Array.of(1))
  assert.equal((await source.next()).done, false)
  await source.return(undefined)
  assert.equal(fake.hasReadClosed, true)
  await sink((async function * () { yield Uint8Array.of(9) })())
  assert.equal(fake.sent.length, 1)
})

test('I4: whatever the order of data, FIN, loss and abort: all bytes and an end, or an error', async () => {
  const event = fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.constantFrom('fin', 'lose', 'abort', 'read'))
  await fc.assert(fc.asyncProperty(fc.array(event, { maxLength: 20 }), fc.integer({ min: 0, max: 30 }), async (events, pauseAboveBytes) => {
    const fake = new FakeStream()
    const { source } = wrap(fake, { pauseAboveBytes, resumeBelowBytes: pauseAboveBytes })
    const sent: Uint8Array[] = []
    const received: Uint8Array[] = []
    let hasFin = false
    for (const step of events) {
      if (step === 'fin' && fake.status === 'open') {
        hasFin = true
        fake.fin()
      } else if (step === 'lose' && fake.status === 'open') fake.lose()
      else if (step === 'abort') fake.abort(new Error('cut'))
      // what waited while the stream was paused comes in one piece
      else if (step === 'read' && concatBytes(received).length < concatBytes(sent).length) {
        const next = await source.next().catch(() => undefined)
        if (next?.done === false) received.push(next.value)
      } else if (typeof step !== 'string' && fake.status === 'open' && !hasFin) {
        sent.push(step)
        fake.receive(step)
      }
    }
    if (fake.status === 'open' && !hasFin) fake.lose()
    let hasEnded = true
    try {
      for await (const chunk of source) received.push(chunk)
    } catch {
      hasEnded = false
    }
    const all = concatBytes(sent)
    const got = concatBytes(received)
    assert.deepEqual(got, all.slice(0, got.length))
    if (hasEnded) assert.ok(hasFin && got.length === all.length, 'an end without FIN or with bytes missing')
  }), { numRuns: 500 })
})
