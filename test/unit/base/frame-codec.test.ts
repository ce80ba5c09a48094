import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { z } from 'zod'
import { createFrameReader, decodeCbor, encodeCbor, encodeFrame, encodeVarint, LIMITS, toHex } from '../../../src/base/index.ts'

async function * chunksOf (chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield * chunks
}

/** Cuts bytes at the given places. */
function cut (bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end))
}

test('a varint is unsigned LEB128', () => {
  const known: Array<[number, string]> = [[0, '00'], [1, '01'], [127, '7f'], [128, '8001'], [300, 'ac02'], [16_383, 'ff7f'], [16_384, '808001'], [2 ** 31 - 1, 'ffffffff07']]
  for (const [value, hex] of known) assert.equal(toHex(encodeVarint(value)), hex)
})

test('frames come out as they went in, however the bytes are cut', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 12 }), async (bodies, places) => {
    const reader = createFrameReader(chunksOf(cut(new Uint8Array(Buffer.concat(bodies.map(encodeFrame))), places)))
    for (const body of bodies) assert.deepEqual(Buffer.from(await reader.read(400) ?? assert.fail('a frame is missing')), Buffer.from(body))
    assert.equal(await reader.read(400), undefined)
    assert.equal(await reader.read(400), undefined)
  }))
})

test('raw bytes after a frame are handed on whole', async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 50 }), fc.uint8Array({ maxLength: 300 }), fc.array(fc.nat(), { maxLength: 6 }), async (body, raw, places) => {
    const reader = createFrameReader(chunksOf(cut(new Uint8Array(Buffer.concat([encodeFrame(body), raw])), places)))
    await reader.read(50)
    const rest: Uint8Array[] = []
    for await (const chunk of reader.rest()) rest.push(chunk)
    assert.deepEqual(Buffer.concat(rest), Buffer.from(raw))
  }))
})

test('I8: a frame over its limit is refused before any of it is buffered', async () => {
  let pulled = 0
  async function * endless (): AsyncGenerator<Uint8Array> {
    yield encodeVarint(4097)
    for (;;) {
      pulled++
      yield new Uint8Array(1024)
    }
  }
  await assert.rejects(createFrameReader(endless()).read(4096), { code: 'ERR_PROTOCOL', message: /4097 bytes is over the limit of 4096/ })
  assert.equal(pulled, 0)
})

test('I8: each frame has the limit of its read', async () => {
  const reader = createFrameReader(chunksOf([encodeFrame(new Uint8Array(100)), encodeFrame(new Uint8Array(100))]))
  assert.equal((await reader.read(100))?.length, 100)
  await assert.rejects(reader.read(99), { code: 'ERR_PROTOCOL' })
})

test('a length of 2^31 or more, or one that never ends, is malformed', async () => {
  for (const prefix of [[0xff, 0xff, 0xff, 0xff, 0x08], [0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Array<number>(100).fill(0xff), Array<number>(100).fill(0x80)]) {
    await assert.rejects(createFrameReader(chunksOf([Uint8Array.from(prefix)])).read(2 ** 32), { code: 'ERR_PROTOCOL', message: /malformed/ })
  }
})

test('I4: an end inside a frame is an error, an end between frames is a clean end', async () => {
  const frame = encodeFrame(new Uint8Array(300).fill(1))
  for (let length = 1; length < frame.length; length++) {
    await assert.rejects(createFrameReader(chunksOf([frame.subarray(0, length)])).read(300), { code: 'ERR_PROTOCOL', message: /ended inside a frame/ }, `${length} bytes`)
  }
  assert.equal(await createFrameReader(chunksOf([])).read(300), undefined)
  assert.deepEqual(await createFrameReader(chunksOf([Uint8Array.of(0)])).read(0), new Uint8Array())
})

test('a source that fails makes the read fail with its error', async () => {
  async function * failing (): AsyncGenerator<Uint8Array> {
    yield Uint8Array.of(5, 1)
    throw new Error('the line broke')
  }
  await assert.rejects(createFrameReader(failing()).read(100), /the line broke/)
})

test('any bytes are a frame, an end, or ERR_PROTOCOL', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 6 }), async (chunks) => {
    const reader = createFrameReader(chunksOf(chunks))
    try {
      for (;;) {
        const body = await reader.read(64)
        if (body === undefined) return
        assert.ok(body.length <= 64)
      }
    } catch (err) {
      assert.equal((err as { code: string }).code, 'ERR_PROTOCOL')
    }
  }))
})

const schema = z.strictObject({ v: z.literal(1), n: z.instanceof(Uint8Array), more: z.string().optional() })

test('CBOR is canonical, leaves out what is undefined, and validates what it reads', () => {
  const bytes = encodeCbor({ n: Uint8Array.of(1, 2), v: 1, more: undefined })
  assert.equal(toHex(bytes), 'a2616e420102617601')
  assert.deepEqual(decodeCbor(schema, bytes), { v: 1, n: Uint8Array.of(1, 2) })
  assert.equal(toHex(encodeCbor([{ a: undefined }])), '81a0')
})

test('a message of the wrong shape is refused with the place where it is wrong', () => {
  assert.throws(() => decodeCbor(schema, encodeCbor({ v: 2, n: new Uint8Array() })), { code: 'ERR_PROTOCOL', message: /at "v"/ })
  assert.throws(() => decodeCbor(schema, encodeCbor({ v: 1, n: 'text' })), { code: 'ERR_PROTOCOL', message: /at "n"/ })
  assert.throws(() => decodeCbor(schema, encodeCbor({ v: 1, n: new Uint8Array(), other: 1 })), { code: 'ERR_PROTOCOL' })
})

test('hostile CBOR is refused: duplicate keys, trailing bytes, deep nesting, absurd lengths', () => {
  const cases: Array<[what: string, bytes: Uint8Array]> = [
    ['empty', new Uint8Array()],
    ['a second value', Uint8Array.of(0x01, 0x01)],
    ['duplicate keys', Uint8Array.from([0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02])],
    ['indefinite length', Uint8Array.of(0x5f, 0x41, 0x01, 0xff)],
    ['a number that is not in its shortest form', Uint8Array.of(0x18, 0x01)],
    ['nesting to the stack\'s end', new Uint8Array(64 * 1024).fill(0x81)],
    ['a list of 2^40 items', Uint8Array.of(0x9b, 0, 0, 1, 0, 0, 0, 0, 0)],
    ['bytes longer than the message', Uint8Array.of(0x5a, 0x7f, 0xff, 0xff, 0xff)],
    ['not a number', Uint8Array.of(0xf9, 0x7e, 0x00)]
  ]
  for (const [what, bytes] of cases) assert.throws(() => decodeCbor(z.unknown(), bytes), { code: 'ERR_PROTOCOL' }, what)
})

test('hostile CBOR that a lax decoder would take is refused: only canonical bytes are read', () => {
  const cases: Array<[what: string, hex: string]> = [
    ['a member that is there but undefined', 'a3616e40617601646d6f7265f7'],
    ['keys in another order', 'a2617601616e40'],
    ['text that is no UTF-8', 'a3616e40617601646d6f726562c328']
  ]
  for (const [what, hex] of cases) assert.throws(() => decodeCbor(schema, Buffer.from(hex, 'hex')), { code: 'ERR_PROTOCOL' }, what)
})

test('I8: nesting of any depth that fits into a frame ends in a value or ERR_PROTOCOL, never in another error', () => {
  for (let depth = 500; depth < 64 * 1024; depth = Math.ceil(depth * 1.1)) {
    const bytes = new Uint8Array(depth + 1).fill(0x81)
    bytes[depth] = 0x01
    try {
      decodeCbor(z.unknown(), bytes)
    } catch (err) {
      assert.equal((err as { code?: string }).code, 'ERR_PROTOCOL', `${depth} levels: ${String(err)}`)
    }
  }
})

test('I8: lists and maps may be nested to a limit that is far above what messages have and far below the end of the stack', () => {
  const lists = (levels: number): Uint8Array => Uint8Array.from([...new Array<number>(levels).fill(0x81), 0x01])
  // each a map with one member "a"
  const maps = (levels: number): Uint8Array => Uint8Array.from([...new Array<number[]>(levels).fill([0xa1, 0x61, 0x61]).flat(), 0x01])
  for (const nested of [lists, maps]) {
    assert.doesNotThrow(() => decodeCbor(z.unknown(), nested(LIMITS.messageNestingLevels)))
    assert.throws(() => decodeCbor(z.unknown(), nested(LIMITS.messageNestingLevels + 1)), { code: 'ERR_PROTOCOL', message: /more than 32 levels/ })
  }
  // beside each other is not inside each other
  const wide = new Uint8Array([0x98, 100, ...new Array<number[]>(100).fill([0x81, 0xa1, 0x61, 0x61, 0x40]).flat()])
  assert.doesNotThrow(() => decodeCbor(z.unknown(), wide))
})

test('any bytes decode to a valid value or ERR_PROTOCOL', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    try {
      decodeCbor(schema, bytes)
    } catch (err) {
      assert.equal((err as { code: string }).code, 'ERR_PROTOCOL')
    }
  }))
})

test('what is encoded reads back equal', () => {
  const value = fc.letrec((tie) => ({
    any: fc.oneof({ maxDepth: 3 }, fc.string(), fc.maxSafeInteger(), fc.boolean(), fc.uint8Array({ maxLength: 20 }), fc.array(tie('any'), { maxLength: 4 }), fc.dictionary(fc.string().filter((key) => key !== '__proto__' && key !== '/'), tie('any'), { maxKeys: 4, noNullPrototype: true }))
  })).any
  fc.assert(fc.property(value, (input) => {
    assert.deepEqual(decodeCbor(z.unknown(), encodeCbor(input)), input)
  }))
})
