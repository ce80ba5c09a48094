import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fromHex, LIMITS, openDatabase } from '../../../src/base/index.ts'
import type { Database } from '../../../src/base/index.ts'
import { ADDRESS_MIGRATIONS, createAddressBook, deriveNospam, didFromPublicKey, parseAddress } from '../../../src/identity/index.ts'
import type { AddressBook } from '../../../src/identity/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'

const publicKey = fromHex('4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29')
const identity = { did: didFromPublicKey(publicKey), publicKey, nospamSecret: new Uint8Array(32).fill(7) }

function makeBook (): { book: AddressBook, database: Database, clock: FakeClock } {
  const database = openDatabase({ path: ':memory:', migrations: ADDRESS_MIGRATIONS, name: 'state' })
  const clock = createFakeClock()
  return { book: createAddressBook({ identity, database, clock }), database, clock }
}

test('address 1 exists from the start and is the one of the vector', () => {
  const { book, clock } = makeBook()
  const first = { label: '1', number: 1, address: 'cr1q9xtt2lk44ulhadthn90esnfmpwdyeg76jugtdvxnujp4m0s5kazjqqp86k20rj57sr6uqmy', createdAt: clock.now(), revokedAt: undefined }
  assert.deepEqual(book.list(), [first])
  assert.deepEqual(book.current(), first)
})

test('opening the book again makes no second first address', () => {
  const { book, database, clock } = makeBook()
  book.revoke('1')
  const again = createAddressBook({ identity, database, clock })
  assert.equal(again.list().length, 1)
  assert.equal(again.current(), undefined)
})

test('a new address gets the next number as its name, or the name that was asked for in lower case', () => {
  const { book } = makeBook()
  assert.equal(book.create().label, '2')
  const shop = book.create('Shop')
  assert.deepEqual([shop.label, shop.number], ['shop', 3])
  assert.equal(book.create('4').number, 4)
  assert.equal(new Set(book.list().map((item) => item.address)).size, 4)
})

test('a name that is taken, reserved or no DNS label is refused', () => {
  const { book } = makeBook()
  book.create('shop')
  assert.throws(() => book.create('SHOP'), { code: 'ERR_ALREADY_EXISTS', message: /there is an address "shop"/ })
  book.revoke('shop')
  assert.throws(() => book.create('shop'), { code: 'ERR_ALREADY_EXISTS', message: /revoked/ })
  assert.throws(() => book.create('99'), { code: 'ERR_INVALID_ARGUMENT', message: /digits only/ })
  assert.throws(() => book.create('a_b'), { code: 'ERR_INVALID_ARGUMENT' })
  assert.throws(() => book.create('cr1x'), { code: 'ERR_INVALID_ARGUMENT' })
  assert.equal(book.list().length, 2)
})

test('I3: only the nospam of an address that exists and is not revoked is accepted', () => {
  const { book } = makeBook()
  const shop = parseAddress(book.create('shop').address)
  assert.equal(book.accepts(shop.nospam), true)
  assert.equal(book.accepts(deriveNospam(identity, 3)), false, 'genuine, but never handed out')
  assert.equal(book.accepts(new Uint8Array(8)), false)
  assert.equal(book.accepts(new Uint8Array(0)), false)
  assert.equal(book.accepts(shop.nospam.subarray(0, 7)), false)
})

test('I3: a revoked address is dead, alone, and for ever', async () => {
  const { book, database, clock } = makeBook()
  const shop = parseAddress(book.create('shop').address)
  const first = parseAddress(book.current()?.address ?? '')
  await clock.advance(1000)
  const revoked = book.revoke('Shop')
  assert.equal(revoked.revokedAt, clock.now())
  assert.equal(book.accepts(shop.nospam), false)
  assert.equal(book.accepts(first.nospam), true)
  await clock.advance(1000)
  assert.equal(book.revoke('shop').revokedAt, revoked.revokedAt, 'revoking again changes nothing')
  assert.equal(createAddressBook({ identity, database, clock }).accepts(shop.nospam), false)
  assert.equal(book.create().number, 3, 'the number is not used again')
})

test('the current address is the oldest one that is not revoked', () => {
  const { book } = makeBook()
  book.create('two')
  book.revoke('1')
  assert.equal(book.current()?.label, 'two')
  book.revoke('two')
  assert.equal(book.current(), undefined)
})

test('an unknown label cannot be revoked', () => {
  assert.throws(() => makeBook().book.revoke('nowhere'), { code: 'ERR_NOT_FOUND', message: /"nowhere"/ })
})

test('I8: when all numbers were used, no further address is made', () => {
  const { book, database } = makeBook()
  database.run('INSERT INTO address_label (number, label, created_at) VALUES (?, ?, 0)', LIMITS.addressLabelCount, 'last')
  assert.throws(() => book.create(), { code: 'ERR_LIMIT' })
})

test('state that was made for another key is refused instead of handing out dead addresses', () => {
  const { database, clock } = makeBook()
  const otherKey = fromHex('7422b9887598068e32c4448a949adb290d0f4e35b9e01b0ee5f1a1e600fe2674')
  const other = { did: didFromPublicKey(otherKey), publicKey: otherKey, nospamSecret: identity.nospamSecret }
  assert.throws(() => createAddressBook({ identity: other, database, clock }), { code: 'ERR_KEYSTORE', message: /put the old key file back/ })
})
