import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { encodeCbor, fromHex, LIMITS, toHex } from '../../../src/base/index.ts'
import { checkServicesOpening, decodeServicesAnswer, decodeTcpOpening, encodeServicesAnswer, encodeServicesOpening, encodeTcpOpening } from '../../../src/forwarding/wire.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  tcp: Array<{ decoded: { service: string, probe: boolean }, hex: string }>
  services: Array<{ hex: string }>
  answer: Array<{ names: string[], hex: string }>
  refused: Array<{ why: string, hex: string, code: string }>
}

describe('messages of forwarding', () => {
  it('the bytes are those of the vectors, both ways', () => {
    const vectors = readVectors<Vectors>('forwarding')
    for (const { decoded, hex } of vectors.tcp) {
      assert.equal(toHex(encodeTcpOpening(decoded)), hex)
      assert.deepEqual(decodeTcpOpening(fromHex(hex)), decoded)
    }
    for (const { hex } of vectors.services) {
      assert.equal(toHex(encodeServicesOpening()), hex)
      checkServicesOpening(fromHex(hex))
    }
    for (const { names, hex } of vectors.answer) {
      assert.equal(toHex(encodeServicesAnswer(names)), hex)
      assert.deepEqual(decodeServicesAnswer(fromHex(hex)), names)
    }
    for (const { why, hex, code } of vectors.refused) assert.throws(() => decodeTcpOpening(fromHex(hex)), { code }, why)
  })

  it('what was encoded decodes to the same', () => {
    const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
    fc.assert(fc.property(name, fc.boolean(), (service, probe) => {
      assert.deepEqual(decodeTcpOpening(encodeTcpOpening({ service, probe })), { service, probe })
    }))
    fc.assert(fc.property(fc.array(name, { maxLength: 20 }), (names) => {
      assert.deepEqual(decodeServicesAnswer(encodeServicesAnswer(names)), names)
    }))
    checkServicesOpening(encodeServicesOpening())
  })

  it('any bytes decode or are refused with a code, and nothing else happens', () => {
    for (const decode of [decodeTcpOpening, checkServicesOpening, decodeServicesAnswer]) {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          decode(bytes)
        } catch (err) {
          assert.match(String((err as { code?: string }).code), /^ERR_(PROTOCOL|UNSUPPORTED_VERSION)$/)
        }
      }))
    }
  })

  it('a newer version is told apart from a malformed message', () => {
    for (const message of [{ v: 2 }, { v: 2, service: 'x', anything: 'else' }, { v: 0 }]) {
      assert.throws(() => decodeTcpOpening(encodeCbor(message)), { code: 'ERR_UNSUPPORTED_VERSION' })
    }
    for (const message of [{}, { v: '1' }, { v: 1.5 }, 1, 'x', [], { v: 1 }, { v: 1, service: 5 }, { v: 1, service: 'a_b' }, { v: 1, service: 'x', probe: 'yes' }, { v: 1, service: 'x', more: 1 }]) {
      assert.throws(() => decodeTcpOpening(encodeCbor(message)), { code: 'ERR_PROTOCOL' }, JSON.stringify(message))
    }
  })

  it('more names than a friend can offer are refused', () => {
    assert.throws(() => decodeServicesAnswer(encodeServicesAnswer(Array.from({ length: LIMITS.serviceCount + 1 }, (_, index) => `s${index}`))), { code: 'ERR_PROTOCOL' })
    assert.throws(() => decodeServicesAnswer(encodeServicesAnswer(['\u001b[31m'])), { code: 'ERR_PROTOCOL' })
  })
})
