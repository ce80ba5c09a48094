import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, toHex } from '../../../src/base/index.ts'
import { ADDRESS_CHARACTERS, formatAddress, parseAddress } from '../../../src/identity/index.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  valid: Array<{ publicKey: string, nospam: string, did: string, address: string }>
  refused: Array<{ about: string, address: string, code: string, says: string }>
}
const vectors = readVectors<Vectors>('address')
const good = vectors.valid[0] ?? assert.fail('no vector')

for (const row of vectors.valid) {
  test(`an address decodes to its key and nospam, and back: ${row.address}`, () => {
    assert.equal(formatAddress({ publicKey: fromHex(row.publicKey), nospam: fromHex(row.nospam) }), row.address)
    assert.equal(row.address.length, ADDRESS_CHARACTERS)
    for (const spelling of [row.address, row.address.toUpperCase(), ` ${row.address}\n`, row.address.replaceAll(/(.{4})/g, '$1 ')]) {
      const parsed = parseAddress(spelling)
      assert.equal(parsed.did, row.did)
      assert.equal(toHex(parsed.publicKey), row.publicKey)
      assert.equal(toHex(parsed.nospam), row.nospam)
    }
  })
}

for (const row of vectors.refused) {
  test(`an address that cannot be used is refused and the message says why: ${row.about}`, () => {
    assert.throws(() => parseAddress(row.address), (err: Error & { code?: string }) => {
      assert.equal(err.code, row.code, err.message)
      assert.ok(err.message.includes(row.says), err.message)
      assert.ok(err.message.length < 400)
      return true
    })
  })
}

test('up to four wrong characters are always noticed', () => {
  const alphabet = [...'qpzry9x8gf2tvdw0s3jn54khce6mua7l']
  const change = fc.tuple(fc.integer({ min: 3, max: ADDRESS_CHARACTERS - 1 }), fc.constantFrom(...alphabet))
  fc.assert(fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
    const characters = [...good.address]
    for (const [index, character] of changes) characters[index] = character
    const changed = characters.join('')
    if (changed === good.address) return
    assert.throws(() => parseAddress(changed), { code: 'ERR_INVALID_ADDRESS' })
  }), { numRuns: 2000 })
})

test('two neighbours that changed places are always noticed', () => {
  for (let index = 3; index < ADDRESS_CHARACTERS - 1; index++) {
    const [a, b] = [good.address[index] ?? '', good.address[index + 1] ?? '']
    if (a === b) continue
    const swapped = good.address.slice(0, index) + b + a + good.address.slice(index + 2)
    assert.throws(() => parseAddress(swapped), { code: 'ERR_INVALID_ADDRESS' }, `position ${index}`)
  }
})

test('any text is either an address or refused with a Carrier code', () => {
  const codes = ['ERR_INVALID_ADDRESS', 'ERR_UNSUPPORTED_ADDRESS', 'ERR_WEAK_KEY']
  fc.assert(fc.property(fc.oneof(fc.string({ maxLength: 200 }), fc.string({ unit: fc.constantFrom(...'qpzry9x8gf2tvdw0s3jn54khce6mua7lQ1 '), maxLength: 80 }).map((text) => `cr1${text}`)), (text) => {
    try {
      parseAddress(text)
      assert.fail('a random text was taken as an address')
    } catch (err) {
      assert.ok(codes.includes((err as { code: string }).code), String(err))
    }
  }))
})

test('an address is never made of a weak key or a nospam of the wrong length', () => {
  assert.throws(() => formatAddress({ publicKey: new Uint8Array(32), nospam: new Uint8Array(8) }), { code: 'ERR_WEAK_KEY' })
  assert.throws(() => formatAddress({ publicKey: fromHex(good.publicKey), nospam: new Uint8Array(7) }), { code: 'ERR_INVALID_ARGUMENT' })
})
