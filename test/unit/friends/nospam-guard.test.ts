/** Quotas of requests. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { createNospamGuard } from '../../../src/friends/nospam-guard.ts'
import { didNumber } from '../../support/friends-world.ts'

const HOUR_MS = 3_600_000
const peers = Array.from({ length: 60 }, (_, index) => didNumber(index))
const peer = peers[0] as typeof peers[number]

test('a right request is admitted, a wrong one is not', () => {
  const guard = createNospamGuard()
  assert.deepEqual(guard.judge(peer, true, 0), { isAdmitted: true })
  assert.deepEqual(guard.judge(peer, false, 0), { isAdmitted: false, reason: 'wrong-nospam' })
})

test('after its wrong attempts of the day a peer is refused even with the right secret', () => {
  const guard = createNospamGuard()
  for (let count = 0; count < LIMITS.wrongNospamPerDay; count++) assert.deepEqual(guard.judge(peer, false, count), { isAdmitted: false, reason: 'wrong-nospam' })
  assert.deepEqual(guard.judge(peer, true, 10), { isAdmitted: false, reason: 'peer-quota' })
  assert.deepEqual(guard.judge(peer, true, 24 * HOUR_MS - 1), { isAdmitted: false, reason: 'peer-quota' })
  assert.deepEqual(guard.judge(peer, true, 24 * HOUR_MS), { isAdmitted: true })
})

test('right requests of one peer are limited too', () => {
  const guard = createNospamGuard()
  for (let count = 0; count < LIMITS.requestsPerPeerPerDay; count++) assert.deepEqual(guard.judge(peer, true, 0), { isAdmitted: true })
  assert.deepEqual(guard.judge(peer, true, 0), { isAdmitted: false, reason: 'peer-quota' })
})

test('when many peers guess, all new peers wait for the next hour', () => {
  const guard = createNospamGuard()
  for (let count = 0; count < LIMITS.wrongNospamGlobalPerHour; count++) guard.judge(peers[count % 50] as typeof peer, false, count)
  assert.deepEqual(guard.judge(peers[55] as typeof peer, true, HOUR_MS - 1), { isAdmitted: false, reason: 'hour-quota' })
  assert.deepEqual(guard.judge(peers[55] as typeof peer, true, HOUR_MS), { isAdmitted: true })
})

test('a clock that goes back starts a new count instead of an endless one', () => {
  const guard = createNospamGuard()
  for (let count = 0; count < LIMITS.wrongNospamPerDay; count++) guard.judge(peer, false, 1000 * HOUR_MS)
  assert.deepEqual(guard.judge(peer, true, 5), { isAdmitted: true })
})

test('I8: what a quota refused is not remembered, and old peers are forgotten', () => {
  const guard = createNospamGuard()
  for (let number = 0; number < LIMITS.wrongNospamGlobalPerHour + 50; number++) guard.judge(didNumber(number), false, 0)
  assert.equal(guard.peerCount, LIMITS.wrongNospamGlobalPerHour)
  guard.judge(peer, true, 25 * HOUR_MS)
  assert.equal(guard.peerCount, 1)
})
