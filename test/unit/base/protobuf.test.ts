import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { decodeProtobuf, encodeProtobuf, errorCode, fromHex, toHex } from '../../../src/base/index.ts'

const MAX_FIELDS = 64
const isProtocolError = (err: unknown): boolean => errorCode(err) === 'ERR_PROTOCOL'

describe('protobuf', () => {
  test('what was encoded is decoded', () => {
    const field = fc.tuple(fc.integer({ min: 1, max: 2 ** 29 - 1 }), fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.uint8Array({ maxLength: 200 })))
    fc.assert(fc.property(fc.uniqueArray(field, { maxLength: MAX_FIELDS, selector: ([number]) => number }), (fields) => {
      const message = decodeProtobuf(encodeProtobuf(fields), MAX_FIELDS)
      for (const [number, value] of fields) {
        if (typeof value === 'bigint') assert.equal(message.varint(number), value)
        else assert.deepEqual(toHex(message.bytes(number) ?? new Uint8Array(1)), toHex(value))
      }
    }))
  })

  test('any bytes are decoded or refused with ERR_PROTOCOL, never anything else', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        const message = decodeProtobuf(bytes, MAX_FIELDS)
        for (let number = 1; number < 16; number++) {
          for (const read of [message.varint, message.bytes, message.repeated]) {
            try {
              read(number)
            } catch (err) {
              assert.ok(isProtocolError(err))
            }
          }
        }
      } catch (err) {
        assert.ok(isProtocolError(err), String(err))
      }
    }), { numRuns: 2000 })
  })

  test('a truncated message is refused or is a shorter message, never read past its end', () => {
    const whole = encodeProtobuf([[1, 2], [3, new Uint8Array(40).fill(9)], [5, 100]])
    for (let length = 0; length < whole.length; length++) {
      try {
        const message = decodeProtobuf(whole.subarray(0, length), MAX_FIELDS)
        assert.ok((message.bytes(3)?.length ?? 40) === 40)
      } catch (err) {
        assert.ok(isProtocolError(err))
      }
    }
  })

  test('unknown fields of the four known wire types are skipped', () => {
    // field 9 varint, field 10 64-bit, field 11 bytes, field 12 32-bit, then field 1 = 7
    const message = decodeProtobuf(fromHex('4801' + '510102030405060708' + '5a02aabb' + '6501020304' + '0807'), MAX_FIELDS)
    assert.equal(message.varint(1), 7n)
  })

  test('the last of a doubled field counts, and repeated gives all', () => {
    const bytes = encodeProtobuf([[1, 1], [2, Uint8Array.of(1)], [1, 2], [2, Uint8Array.of(2)]])
    const message = decodeProtobuf(bytes, MAX_FIELDS)
    assert.equal(message.varint(1), 2n)
    assert.deepEqual([...message.bytes(2) ?? []], [2])
    assert.deepEqual(message.repeated(2).map((value) => value[0]), [1, 2])
  })

  for (const [what, hex] of [
    ['a group', '0b'], ['an end of group', '0c'], ['wire type 6', '0e'], ['field number 0', '0001'], ['a number over 64 bits', '08ffffffffffffffffff02'],
    ['a number of 11 bytes', '088080808080808080808001'], ['a length past the end', '0a05aa'], ['a length near 2^64', '0affffffffffffffffff01'], ['a lone tag', '08']
  ] as const) {
    test(`${what} is refused`, () => { assert.throws(() => decodeProtobuf(fromHex(hex), MAX_FIELDS), isProtocolError) })
  }

  test('I8: more fields than allowed are refused', () => {
    assert.throws(() => decodeProtobuf(new Uint8Array(2 * 65).fill(0).map((_, index) => index % 2 === 0 ? 8 : 0), MAX_FIELDS), isProtocolError)
  })

  test('a field of another wire type is refused when it is read', () => {
    const message = decodeProtobuf(encodeProtobuf([[1, Uint8Array.of(1)], [2, 3]]), MAX_FIELDS)
    assert.throws(() => message.varint(1), isProtocolError)
    assert.throws(() => message.bytes(2), isProtocolError)
    assert.throws(() => message.repeated(2), isProtocolError)
  })
})
