/** What stands before the muxers of a relay. Connections and muxers are the test's. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MessageStream, Stream, StreamMuxer } from '@libp2p/interface'
import { CarrierError, createMetrics, LIMITS } from '../../../src/base/index.ts'
import type { Metrics } from '../../../src/base/index.ts'
import { createMuxerGuard } from '../../../src/bootstrap/muxer-guard.ts'
import type { MuxerGuard } from '../../../src/bootstrap/muxer-guard.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { yamuxHeader } from '../../support/yamux-header.ts'

const [DATA, WINDOW, PING, SYN] = [0, 1, 2, 1]
const HEADER_BYTES = 12

function repeated (frame: Uint8Array, count: number): Uint8Array {
  const bytes = new Uint8Array(frame.length * count)
  for (let index = 0; index < count; index++) bytes.set(frame, index * frame.length)
  return bytes
}

class FakeConnection extends EventTarget {
  readonly direction = 'inbound'
  readonly writableNeedsDrain = false
  status = 'open'
  readStatus: 'readable' | 'paused' = 'readable'
  isSocketPaused = false
  rest: Uint8Array | undefined
  readonly sent: Uint8Array[] = []
  error: Error | undefined
  seenBytes = 0

  /** A piece arrives. */
  say (data: Uint8Array): void { this.dispatchEvent(Object.assign(new Event('message', { cancelable: true }), { data })) }
  pause (): void {
    this.readStatus = 'paused'
    this.isSocketPaused = true
  }

  /** As libp2p does it: what waits is handed over before the socket below is told to go on. */
  resume (): void {
    this.readStatus = 'readable'
    this.turn()
    this.isSocketPaused = false
  }

  unshift (data: Uint8Array): void { this.rest = data }
  /** What libp2p does in a later turn with what was put back. */
  turn (): boolean {
    const { rest } = this
    if (rest === undefined || this.readStatus !== 'readable' || this.status !== 'open') return false
    this.rest = undefined
    this.say(rest)
    return true
  }

  send (data: Uint8Array): boolean {
    this.sent.push(data)
    return true
  }

  abort (error: Error): void {
    this.status = 'aborted'
    this.error = error
    this.dispatchEvent(Object.assign(new Event('close'), { local: true, error }))
  }
}

/** A muxer that answers each frame header with as many bytes, and opens a stream for each that it is told of. */
function guardConnection (guard: MuxerGuard): { connection: FakeConnection, streams: Array<Stream & { isAborted: boolean }> } {
  const connection = new FakeConnection()
  const streams: Array<Stream & { isAborted: boolean }> = []
  guard.guard(connection as unknown as MessageStream, () => {
    connection.addEventListener('message', (event) => {
      const { data } = event as Event & { data: Uint8Array }
      connection.seenBytes += data.length
      for (let offset = 0; offset + HEADER_BYTES <= data.length; offset += HEADER_BYTES) {
        if (data[offset + 1] === PING) connection.send(new Uint8Array(HEADER_BYTES))
        if (data[offset + 1] !== WINDOW) continue
        const stream = { direction: 'inbound', protocol: '', status: 'open', isAborted: false, abort: () => { stream.isAborted = true } }
        streams.push(stream as unknown as Stream & { isAborted: boolean })
      }
    })
    return { streams } as unknown as StreamMuxer
  })
  return { connection, streams }
}

async function counted (metrics: Metrics, line: string): Promise<number> {
  const found = (await metrics.text()).split('\n').find((candidate) => candidate.startsWith(`${line} `))
  return Number(found?.split(' ').at(-1) ?? 0)
}

test('I9: a flood of frames waits for its turn, and who sends little never waits', async () => {
  const clock = createFakeClock()
  const metrics = createMetrics()
  const guard = createMuxerGuard({ clock, metrics })
  const { connection: flooder } = guardConnection(guard)
  const { connection: honest } = guardConnection(guard)
  const pings = repeated(yamuxHeader(PING, SYN, 0, 1), 5_000)
  flooder.say(pings)
  assert.ok(flooder.seenBytes <= 500 * HEADER_BYTES, 'one turn is 500 frames at most')
  let turns = 1
  for (let chunks = 0; chunks < 10 && flooder.readStatus === 'readable'; chunks++) {
    while (flooder.turn()) turns++
    if (flooder.readStatus === 'readable') flooder.say(pings)
  }
  assert.ok(flooder.readStatus as string === 'paused')
  assert.ok(turns > 5)
  assert.ok(await counted(metrics, 'carrier_relay_slowed_reads_total') >= 1)
  for (let count = 0; count < 50; count++) honest.say(repeated(yamuxHeader(PING, SYN, 0, 1), 10))
  assert.equal(honest.readStatus, 'readable')
  assert.equal(honest.seenBytes, 500 * HEADER_BYTES)
  // a second is worth a quarter of a second of work for all, and what is the flooder's own
  const before = flooder.seenBytes
  for (let step = 0; step < 1000; step++) {
    await clock.advance(1)
    assert.equal(flooder.isSocketPaused, flooder.readStatus === 'paused', 'a connection that waits does not go on to read its socket')
    if (flooder.readStatus === 'readable' && !flooder.turn()) flooder.say(pings)
  }
  const frames = (flooder.seenBytes - before) / HEADER_BYTES
  assert.ok(frames > 8_000 && frames < 20_000, `${frames} frames in a second`)
  flooder.abort(new Error('done'))
  honest.abort(new Error('done'))
})

test('I8: a frame of 4 GiB ends its connection before the muxer sees it', async () => {
  const metrics = createMetrics()
  const { connection } = guardConnection(createMuxerGuard({ clock: createFakeClock(), metrics }))
  connection.say(Uint8Array.from([...yamuxHeader(WINDOW, SYN, 1, 0), ...yamuxHeader(DATA, 0, 1, 0xffff_ffff)]))
  assert.equal(connection.status, 'aborted')
  assert.equal(connection.seenBytes, 0)
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="frame_too_long"}'), 1)
})

test('what was read before the end of a connection, and comes after it, reaches no muxer', () => {
  const { connection, streams } = guardConnection(createMuxerGuard({ clock: createFakeClock(), metrics: createMetrics() }))
  connection.say(repeated(yamuxHeader(WINDOW, SYN, 1, 0), 100))
  const seenBytes = connection.seenBytes
  assert.ok(seenBytes < 100 * HEADER_BYTES, 'some of it waits for a later turn')
  connection.dispatchEvent(new Event('close'))
  connection.readStatus = 'readable'
  connection.turn()
  assert.equal(connection.seenBytes, seenBytes)
  assert.ok(streams.length > 0)
})

test('I8: incomplete frames of all connections are bounded: who has most of them goes', async () => {
  const metrics = createMetrics()
  const guard = createMuxerGuard({ clock: createFakeClock(), metrics })
  const most = LIMITS.relayStreamWindowBytes - 1
  const fits = Math.floor(LIMITS.relayIncompleteFrameBytes / (most + HEADER_BYTES))
  const block = new Uint8Array(most)
  const connections = Array.from({ length: fits + 1 }, () => guardConnection(guard).connection)
  for (const [index, connection] of connections.entries()) {
    connection.say(yamuxHeader(WINDOW, SYN, 1, 0))
    connection.say(yamuxHeader(DATA, 0, 1, LIMITS.relayStreamWindowBytes))
    connection.say(index === 3 ? block : block.subarray(1))
  }
  assert.deepEqual(connections.flatMap(({ status }, index) => status === 'open' ? [] : [index]), [3])
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="incomplete_frame"}'), 1)
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="unread_answers"}'), 0, 'it is counted once')
})

test('I8: streams that do not say what they want make room, oldest first; those that have said it stay', async () => {
  const metrics = createMetrics()
  const { connection, streams } = guardConnection(createMuxerGuard({ clock: createFakeClock(), metrics }))
  const most = LIMITS.relayOpeningStreamsPerPeerCount
  const open = (index: number): void => {
    connection.say(yamuxHeader(WINDOW, SYN, 2 * index + 1, 0))
    connection.readStatus = 'readable'
  }
  for (let index = 0; index < most; index++) open(index)
  assert.equal(streams.filter(({ isAborted }) => isAborted).length, 0)
  const [first] = streams
  assert.ok(first !== undefined)
  first.protocol = '/libp2p/circuit/relay/0.2.0/hop'
  open(most)
  assert.equal(streams.filter(({ isAborted }) => isAborted).length, 0, 'one that is in use is no longer counted')
  open(most + 1)
  assert.deepEqual(streams.flatMap(({ isAborted }, index) => isAborted ? [index] : []), [1])
  assert.equal(await counted(metrics, 'carrier_relay_refused_streams_total'), 1)
})

test('answers to one chunk go out as one piece, in their order; later ones at once', () => {
  const { connection } = guardConnection(createMuxerGuard({ clock: createFakeClock(), metrics: createMetrics() }))
  connection.say(repeated(yamuxHeader(PING, SYN, 0, 1), 20))
  assert.deepEqual(connection.sent.map(({ length }) => length), [20 * HEADER_BYTES])
  connection.send(new Uint8Array(5))
  assert.deepEqual(connection.sent.map(({ length }) => length), [20 * HEADER_BYTES, 5])
})

test('a muxer that gives up because of what it was sent is counted; a socket that fails is not', async () => {
  const metrics = createMetrics()
  const guard = createMuxerGuard({ clock: createFakeClock(), metrics })
  const connection = new FakeConnection()
  guard.guard(connection as unknown as MessageStream, () => {
    connection.addEventListener('message', () => { connection.abort(new Error('invalid frame')) })
    return { streams: [] } as unknown as StreamMuxer
  })
  connection.say(yamuxHeader(9, 0, 0, 0))
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="protocol"}'), 1)
  const { connection: other } = guardConnection(guard)
  other.say(yamuxHeader(PING, SYN, 0, 1))
  other.abort(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="protocol"}'), 1)
  // what stands around the guard ends who does not read its answers
  const { connection: third } = guardConnection(guard)
  third.abort(new CarrierError('ERR_LIMIT', 'the peer does not read the answers to what it asks'))
  assert.equal(await counted(metrics, 'carrier_relay_broken_connections_total{reason="unread_answers"}'), 1)
})
