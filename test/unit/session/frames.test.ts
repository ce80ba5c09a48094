import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CarrierError, ERRORS, fromHex, LIMITS, toHex } from '../../../src/base/index.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import { encodeSessionFrame, MAX_BODY_BYTES, writeDataHeader } from '../../../src/session/frames.ts'
import type { Frame } from '../../../src/session/frames.ts'
import { decodeHello, decodeWelcome, encodeHello, OWN_LIMITS } from '../../../src/session/hello.ts'

interface DataSeen { type: 'data', channelId: number, offsetBytes: number, payload: string }
interface Vectors {
  bodies: { hello: unknown, welcome: unknown }
  frames: Array<{ name: string, frame: unknown, hex: string }>
  data: Array<{ name: string, channelId: number, offsetBytes: number, payload: { hex: string }, hex: string }>
  skipped: Array<{ name: string, hex: string }>
  refused: Array<{ name: string, hex: string, code: string }>
}

const vectors = JSON.parse(readFileSync(new URL('../../vectors/PROTOCOL/session.json', import.meta.url), 'utf8'), (_key, value: unknown) =>
  typeof value === 'object' && value !== null && Object.keys(value).join() === 'hex' ? fromHex((value as { hex: string }).hex) : value) as Vectors

/** Everything a decoder says about `bytes`, cut into chunks of the given sizes. */
function decode (bytes: Uint8Array, cuts: readonly number[] = []): Array<Frame | DataSeen> {
  const seen: Array<Frame | DataSeen> = []
  const decoder = new FrameDecoder({
    onFrame: (frame) => { seen.push(frame) },
    onData: (channelId, offsetBytes) => { seen.push({ type: 'data', channelId, offsetBytes, payload: '' }) },
    onDataBytes: (part) => { (seen.at(-1) as DataSeen).payload += toHex(part) }
  })
  let at = 0
  for (const size of [...cuts, bytes.length]) {
    decoder.push(bytes.slice(at, at + size))
    at += size
    assert.ok(decoder.bufferedBytes <= MAX_BODY_BYTES)
  }
  return seen
}

const id = fc.integer({ min: 1, max: 0xffff_ffff })
const u64 = fc.maxSafeNat()
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const u16 = fc.integer({ min: 0, max: 0xffff })
const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength, maxLength })
const kind = fc.stringMatching(/^[a-z0-9][a-z0-9./-]{0,63}$/)
const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ type: fc.constant('hello' as const), body: bytes(1, 300) }),
  fc.record({ type: fc.constant('welcome' as const), body: bytes(1, 300) }),
  fc.record({ type: fc.constantFrom('confirm' as const, 'ping' as const, 'pong' as const), sequence: u64 }),
  fc.record({ type: fc.constant('goaway' as const), code: u16 }),
  fc.record({ type: fc.constant('openCredit' as const), channelCount: u32 }),
  fc.record({ type: fc.constant('auth' as const), isLast: fc.boolean(), body: bytes(1, 300) }),
  fc.record({ type: fc.constantFrom('switch' as const, 'lost' as const), epoch: u32 }),
  fc.record({ type: fc.constant('linkAsk' as const) }),
  fc.record({ type: fc.constant('linkTicket' as const), port: u16, ticket: bytes(32, 32) }),
  fc.record({ type: fc.constant('punch' as const), what: fc.constantFrom('ask' as const, 'answer' as const, 'no' as const, 'hard' as const), round: u32, candidates: fc.array(fc.record({ host: fc.ipV4(), port: u16 }), { maxLength: 4 }) }),
  fc.record({ type: fc.constant('resume' as const), sessionId: bytes(16, 16), token: bytes(32, 32), epoch: u32 }),
  fc.record({
    type: fc.constant('resumed' as const),
    isLast: fc.boolean(),
    epoch: u32,
    highestId: u32,
    entries: fc.array(fc.record({ id: u32, isFinReceived: fc.boolean(), receivedBytes: u64, limitBytes: u64 }), { maxLength: 20 })
  }),
  fc.record({ type: fc.constant('open' as const), channelId: id, kind, message: bytes(0, 300) }),
  fc.record({ type: fc.constant('ack' as const), channelId: id, receivedBytes: u64, limitBytes: u64, isFinReceived: fc.boolean() }),
  fc.record({ type: fc.constant('fin' as const), channelId: id, finalBytes: u64 }),
  fc.record({ type: fc.constant('reset' as const), channelId: id, code: u16 }),
  fc.record({ type: fc.constant('datagram' as const), channelId: id, body: bytes(1, 300) })
)

describe('session frames', () => {
  it('encode and decode as the published vectors say', () => {
    assert.ok(vectors.frames.length > 15)
    for (const vector of vectors.frames) {
      assert.equal(toHex(encodeSessionFrame(vector.frame as Frame)), vector.hex, vector.name)
      assert.deepEqual(decode(fromHex(vector.hex)), [vector.frame], vector.name)
    }
    for (const vector of vectors.data) {
      assert.deepEqual(decode(fromHex(vector.hex)), [{ type: 'data', channelId: vector.channelId, offsetBytes: vector.offsetBytes, payload: toHex(vector.payload as unknown as Uint8Array) }], vector.name)
    }
    for (const vector of vectors.skipped) {
      const ping = toHex(encodeSessionFrame({ type: 'ping', sequence: 3 }))
      assert.deepEqual(decode(fromHex(vector.hex + ping)), [{ type: 'ping', sequence: 3 }], vector.name)
    }
    for (const vector of vectors.refused) assert.throws(() => decode(fromHex(vector.hex)), { code: vector.code }, vector.name)
  })

  it('look on the wire as written by hand from the specification', () => {
    assert.equal(toHex(encodeSessionFrame({ type: 'ack', channelId: 2, receivedBytes: 32_768, limitBytes: 1_081_344, isFinReceived: true })),
      '12' + '01' + '0010' + '00000002' + '0000000000008000' + '0000000000108000')
    assert.equal(toHex(encodeSessionFrame({ type: 'open', channelId: 1, kind: 'nc', message: Uint8Array.of(0xff) })), '10' + '00' + '0004' + '00000001' + '02' + '6e63' + 'ff')
    assert.equal(toHex(encodeSessionFrame({ type: 'reset', channelId: 0xfffffffe, code: ERRORS.ERR_RESET.wire })), '14' + '00' + '0002' + 'fffffffe' + '000d')
    const data = new Uint8Array(16)
    writeDataHeader(data, 0, 0x01020304, 2 ** 40 + 1, 16_384)
    assert.equal(toHex(data), '11' + '00' + '4008' + '01020304' + '0000010000000001')
  })

  it('hello and welcome bodies are what the vectors say, and wrong ones are refused', () => {
    const hello = vectors.frames[0]?.frame as { body: Uint8Array }
    assert.deepEqual(decodeHello(hello.body), vectors.bodies.hello)
    assert.deepEqual(decodeWelcome((vectors.frames[2]?.frame as { body: Uint8Array }).body), vectors.bodies.welcome)
    const good = { major: 1, features: [], limits: OWN_LIMITS, instanceId: new Uint8Array(16), sequence: 1 }
    assert.equal(decodeHello(encodeHello({ ...good, later: 'ignored' } as never)).sequence, 1)
    for (const wrong of [{ sequence: 0 }, { sequence: -1 }, { sequence: 1.5 }, { instanceId: new Uint8Array(15) }, { limits: { ...OWN_LIMITS, framePayloadBytes: 1 } },
      { sessionId: new Uint8Array(17) }, { features: 'x' }, { features: Array<string>(33).fill('f') }, { major: 'one' }]) {
      assert.throws(() => decodeHello(encodeHello({ ...good, ...wrong } as never)), { code: 'ERR_PROTOCOL' }, JSON.stringify(wrong))
    }
    assert.throws(() => decodeHello(Uint8Array.of(0xff, 0xff)), { code: 'ERR_PROTOCOL' })
    const generous = decodeHello(encodeHello({ ...good, limits: { framePayloadBytes: 1e6, openMessageBytes: 1e6, channelCreditBytes: 1e12, channelCount: 1e9 } }))
    assert.deepEqual(generous.limits, {
      framePayloadBytes: LIMITS.sessionFramePayloadBytes,
      openMessageBytes: LIMITS.sessionOpenMessageBytes,
      channelCreditBytes: LIMITS.channelMaxCreditBytes,
      channelCount: LIMITS.sessionChannelCount
    })
  })

  it('survive any cut of the byte stream', () => {
    fc.assert(fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60 }), bytes(1, 200), (frames, cuts, payload) => {
      const data = new Uint8Array(16 + payload.length)
      writeDataHeader(data, 0, 9, 77, payload.length)
      data.set(payload, 16)
      const wire = Buffer.concat([...frames.map(encodeSessionFrame), data, encodeSessionFrame({ type: 'fin', channelId: 9, finalBytes: 77 + payload.length })])
      // fast-check makes records without a prototype
      assert.deepEqual(decode(wire, cuts), [...structuredClone(frames), { type: 'data', channelId: 9, offsetBytes: 77, payload: toHex(payload) }, { type: 'fin', channelId: 9, finalBytes: 77 + payload.length }])
    }), { numRuns: 500 })
  })

  it('I8: random bytes never crash the decoder and never make it hold more than one frame', () => {
    const noise = fc.oneof(bytes(0, 2000), fc.tuple(fc.integer({ min: 0, max: 0x50 }), bytes(0, 600)).map(([type, rest]) => Uint8Array.of(type, 0, 0, rest.length & 255, 0, 0, 0, rest.length & 1, ...rest)))
    fc.assert(fc.property(noise, fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 40 }), (input, cuts) => {
      try {
        decode(input, cuts)
      } catch (err) {
        assert.ok(err instanceof CarrierError && (err.code === 'ERR_PROTOCOL' || err.code === 'ERR_UNSUPPORTED_VERSION'), String(err))
      }
    }), { numRuns: 2000 })
  })

  it('I8: a length is refused on the header alone', () => {
    for (const [type, length] of [[1, 4097], [0x10, 4162], [0x11, 16_393], [0x0b, 12_297], [0x08, 16_385]] as const) {
      assert.throws(() => decode(Uint8Array.of(type, 0, length >> 8, length & 255, 0, 0, 0, type >= 0x10 ? 1 : 0)), { code: 'ERR_PROTOCOL' })
    }
  })
})
