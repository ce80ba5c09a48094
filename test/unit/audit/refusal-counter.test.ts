import assert from 'node:assert/strict'
import { test } from 'node:test'
// pure and private to audit/
import { createRefusalCounter } from '../../../src/audit/refusal-counter.ts'
import type { Did } from '../../../src/identity/index.ts'

const ANNA = 'did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp' as Did
const BERT = 'did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG' as Did

test('the first refusals of a device are single, the rest of the minute is one entry with their number', () => {
  const counter = createRefusalCounter({ singlesPerMinute: 3 })
  const admitted = Array.from({ length: 10 }, () => counter.admit(ANNA))
  assert.deepEqual(admitted, [true, true, true, false, false, false, false, false, false, false])
  assert.equal(counter.admit(BERT), true, 'one device does not use up the room of another')
  assert.deepEqual(counter.summary(), [{ event: 'conn.deny', decision: 'deny', direction: 'in', device: ANNA, why: 'ERR_LIMIT', count: 7 }])
  counter.reset()
  assert.deepEqual(counter.summary(), [])
  assert.equal(counter.admit(ANNA), true)
})

test('I8: strangers are one entry with their number and at most five different keys', () => {
  const counter = createRefusalCounter()
  for (let index = 0; index < 1000; index++) counter.countStranger(`12D3KooW${index % 7}`)
  for (let index = 0; index < 3; index++) counter.countStranger('x'.repeat(1_000_000))
  const [entry, ...others] = counter.summary()
  assert.deepEqual(others, [])
  assert.equal(entry?.event, 'strangers')
  assert.equal(entry.count, 1003)
  assert.equal(entry.sample?.length, 5)
  const long = createRefusalCounter()
  long.countStranger('x'.repeat(1_000_000))
  assert.equal(long.summary()[0]?.sample?.[0]?.length, 128)
})

test('I8: more devices than there can be friends share one entry', () => {
  const counter = createRefusalCounter({ singlesPerMinute: 1, deviceCount: 2 })
  for (let index = 0; index < 10; index++) counter.admit(`did:key:z6Mk${index}` as Did)
  assert.deepEqual(counter.summary(), [{ event: 'conn.deny', decision: 'deny', direction: 'in', why: 'ERR_LIMIT', count: 8 }])
})

test('a summary that could not be written is there again, with what came since', () => {
  const counter = createRefusalCounter()
  counter.countStranger('a')
  assert.equal(counter.summary()[0]?.count, 1)
  counter.countStranger('b')
  assert.equal(counter.summary()[0]?.count, 2)
})
