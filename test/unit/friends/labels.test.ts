/** Short names and labels. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isPrefixOf, isShortNameOf, matchDids, parseFriendLabel, shortName } from '../../../src/friends/labels.ts'
import { didNumber } from '../../support/friends-world.ts'

const did = didNumber(1)
const tail = did.slice(-6).toLowerCase()

test('a short name is friend- and six characters, and more when it is taken', () => {
  assert.equal(shortName(did, () => false), `friend-${tail}`)
  assert.equal(shortName(did, (name) => name === `friend-${tail}`), `friend-${did.slice(-7).toLowerCase()}`)
  assert.equal(parseFriendLabel(shortName(did, () => true)), shortName(did, () => true), 'even the longest is a label')
  assert.ok(isShortNameOf(`FRIEND-${tail}`, did))
  assert.ok(isShortNameOf(`friend-${did.slice(-9)}`, did))
  assert.ok(!isShortNameOf(`friend-${tail.slice(1)}`, did), 'five characters are too few')
  assert.ok(!isShortNameOf(tail, did))
})

test('the beginning of a DID means it only when it says more than that it is a DID', () => {
  assert.ok(isPrefixOf(did.slice(0, 16), did))
  assert.ok(!isPrefixOf('did:key:z6Mk', did))
  assert.ok(!isPrefixOf('did:key:z6Mkxxxx', did))
})

test('a whole DID is never ambiguous', () => {
  assert.deepEqual(matchDids(did, [didNumber(2), did]), [did])
  assert.deepEqual(matchDids('nobody', [did]), [])
})
