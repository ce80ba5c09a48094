/** What the meter reads in frames, and what no muxer may send. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFrameMeter } from '../../../src/node/frame-meter.ts'
import { yamuxHeader } from '../../support/yamux-header.ts'

const [DATA, WINDOW, PING] = [0, 1, 2]
const [SYN, FIN, RST] = [1, 4, 8]

const opening = yamuxHeader(WINDOW, SYN, 1, 0)
const join = (...pieces: Uint8Array[]): Uint8Array => Uint8Array.from(pieces.flatMap((piece) => [...piece]))

test('frames cost the same however they are cut, and payload costs nothing here', () => {
  const bytes = join(opening, yamuxHeader(DATA, 0, 1, 1000), new Uint8Array(1000), yamuxHeader(PING, SYN, 0, 7), yamuxHeader(WINDOW, 0, 1, 5))
  const whole = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 2000 }).read(bytes, Infinity)
  assert.ok(typeof whole !== 'string')
  assert.deepEqual(whole, { byteCount: bytes.length, microseconds: 500 + 3 * 20 })
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 2000 })
  let microseconds = 0
  for (const byte of bytes) {
    const read = meter.read(Uint8Array.of(byte), Infinity)
    assert.ok(typeof read !== 'string')
    microseconds += read.microseconds
  }
  assert.equal(microseconds, whole.microseconds)
  assert.equal(meter.lastStream, 1)
})

test('it reads no further than to the work that it was given', () => {
  const pings = join(...Array.from({ length: 10 }, (_, index) => yamuxHeader(PING, SYN, 0, index)))
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1 })
  assert.deepEqual(meter.read(pings, 60), { byteCount: 36, microseconds: 60 })
  assert.deepEqual(meter.read(pings.subarray(36), Infinity), { byteCount: 84, microseconds: 140 })
})

test('I8: a frame longer than a window may ever be is a violation before its payload comes', () => {
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1000 })
  assert.equal(typeof meter.read(join(opening, yamuxHeader(DATA, 0, 1, 1000), new Uint8Array(1000)), Infinity), 'object')
  assert.equal(meter.read(yamuxHeader(DATA, 0, 1, 1001), Infinity), 'frame_too_long')
  // of other frames that number is no length
  assert.equal(typeof createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1000 }).read(yamuxHeader(PING, SYN, 0, 0xffff_ffff), Infinity), 'object')
})

test('a frame for a stream that the peer never opened is a violation; one for a stream that is over, or that we opened, is not', () => {
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1000 })
  assert.equal(typeof meter.read(join(yamuxHeader(WINDOW, SYN, 5, 0), yamuxHeader(WINDOW, 0, 3, 1), yamuxHeader(WINDOW, 0, 8, 1)), Infinity), 'object')
  assert.equal(meter.read(yamuxHeader(WINDOW, 0, 7, 1), Infinity), 'unknown_stream')
})

test('who dialled numbers its streams oddly, the other one evenly', () => {
  const meter = createFrameMeter({ direction: 'outbound', maxFrameBytes: () => 1000 })
  assert.equal(typeof meter.read(join(yamuxHeader(WINDOW, SYN, 2, 0), yamuxHeader(WINDOW, 0, 2, 1), yamuxHeader(WINDOW, 0, 7, 1)), Infinity), 'object')
  assert.equal(meter.read(yamuxHeader(DATA, 0, 4, 1), Infinity), 'unknown_stream')
})

test('a stream that its peer gives up before it announced it is no violation', () => {
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1000 })
  assert.equal(typeof meter.read(join(yamuxHeader(WINDOW, RST, 1, 0), yamuxHeader(DATA, FIN, 3, 0), yamuxHeader(WINDOW, FIN, 5, 0)), Infinity), 'object')
  assert.equal(meter.read(yamuxHeader(DATA, FIN, 7, 1), Infinity), 'unknown_stream')
})

test('what is incomplete is told until it is complete', () => {
  const meter = createFrameMeter({ direction: 'inbound', maxFrameBytes: () => 1000 })
  meter.read(join(opening, yamuxHeader(DATA, 0, 1, 100), new Uint8Array(40)), Infinity)
  assert.equal(meter.waitingBytes, 52)
  meter.read(new Uint8Array(59), Infinity)
  assert.equal(meter.waitingBytes, 111)
  meter.read(new Uint8Array(1), Infinity)
  assert.equal(meter.waitingBytes, 0)
})
