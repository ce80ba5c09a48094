import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fromHex, toHex } from '../../../src/base/index.ts'
import { deriveNospam, verifyNospam } from '../../../src/identity/index.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors {
  publicKey: string
  nospamSecret: string
  nospams: Array<{ number: number, nospam: string }>
  refused: Array<{ about: string, nospam: string }>
}
const vectors = readVectors<Vectors>('nospam')
const keys = { publicKey: fromHex(vectors.publicKey), nospamSecret: fromHex(vectors.nospamSecret) }

for (const row of vectors.nospams) {
  test(`the nospam of label number ${row.number} is derived and recognised`, () => {
    assert.equal(toHex(deriveNospam(keys, row.number)), row.nospam)
    assert.equal(verifyNospam(keys, fromHex(row.nospam)), row.number)
  })
}

for (const row of vectors.refused) {
  test(`I3: a nospam that this device did not make is not recognised: ${row.about}`, () => {
    assert.equal(verifyNospam(keys, fromHex(row.nospam)), undefined)
  })
}

test('I3: every single changed bit makes a nospam worthless', () => {
  const nospam = deriveNospam(keys, 1)
  for (let bit = 0; bit < 64; bit++) {
    const changed = nospam.slice()
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.equal(verifyNospam(keys, changed), undefined, `bit ${bit}`)
  }
})

test('I3: the nospam of one device is worthless at another, and under another secret', () => {
  const nospam = deriveNospam(keys, 1)
  assert.equal(verifyNospam({ ...keys, nospamSecret: new Uint8Array(32).fill(8) }, nospam), undefined)
  assert.equal(verifyNospam({ ...keys, publicKey: new Uint8Array(32).fill(9) }, nospam), undefined)
})

test('a label number outside 1 to 65535 has no nospam', () => {
  for (const number of [0, -1, 65_536, 1.5, NaN]) assert.throws(() => deriveNospam(keys, number), { code: 'ERR_INVALID_ARGUMENT' })
})
