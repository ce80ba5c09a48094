/** Why a relay refused us: bytes as PROTOCOL.md has them, and the words and codes that come of them. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { CarrierError, createTaskOwner, fromHex, silentLogger, toHex } from '../../../src/base/index.ts'
import { dialError } from '../../../src/node/dialer.ts'
import { planDial } from '../../../src/node/dial-plan.ts'
import { parseRelayAddress } from '../../../src/node/relay-address.ts'
import { explainRelayFailure } from '../../../src/node/relay-plan.ts'
import { createRelayQuota, describeQuota, quotaError } from '../../../src/node/relay-quota.ts'
import { decodeQuotaAnswer, decodeQuotaAsk, encodeQuotaAnswer, encodeQuotaAsk } from '../../../src/node/relay-quota-messages.ts'
import type { UsedQuotas } from '../../../src/node/relay-quota-messages.ts'
import { createKeptRelay, factsOf, isSpent, noteUsedUp, stateWhileReserved } from '../../../src/node/relay-supervisor-record.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { readVectors } from '../../support/vectors.ts'

const RELAY = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
const OTHER = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
const DEVICE = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
const DAY = { quota: 'bytes_per_day', retryMs: 3_600_000, shared: false }
const AT_22_30 = Date.UTC(2026, 10, 21, 22, 30)
const refused = (): Error => new Error('failed to connect via relay with status RESOURCE_LIMIT_EXCEEDED')
const relayAt = (peerId: string): ReturnType<typeof parseRelayAddress> => parseRelayAddress(`/ip4/192.0.2.1/tcp/4001/p2p/${peerId}`)

test('the bytes are those of PROTOCOL.md; unknown members of an answer are skipped, all else is refused', () => {
  const vectors = readVectors<{
    ask: string
    answers: Array<{ answer: UsedQuotas, bytes: string }>
    skipped: Array<{ answer: UsedQuotas, bytes: string }>
    refused: Array<{ why: string, bytes: string }>
  }>('relay-quota')
  assert.equal(toHex(encodeQuotaAsk()), vectors.ask)
  decodeQuotaAsk(fromHex(vectors.ask))
  for (const { answer, bytes } of vectors.answers) assert.equal(toHex(encodeQuotaAnswer(answer)), bytes)
  for (const { answer, bytes } of [...vectors.answers, ...vectors.skipped]) assert.deepEqual(decodeQuotaAnswer(fromHex(bytes)), answer)
  for (const { why, bytes } of vectors.refused) for (const decode of [decodeQuotaAnswer, decodeQuotaAsk]) assert.throws(() => { decode(fromHex(bytes)) }, { code: 'ERR_PROTOCOL' }, why)
})

describe('words', () => {
  test('a quota of the day names the instant at which it is free again, one of places what frees it, a new one its name', () => {
    assert.equal(describeQuota(DAY, AT_22_30), 'what you may send in a day is used up at this relay; it is free again at 23:30 UTC')
    assert.equal(describeQuota({ ...DAY, retryMs: 90 * 60_000 - 1, shared: true }, AT_22_30), 'what strangers together may send in a day is used up at this relay; it is free again at 00:00 UTC')
    assert.equal(describeQuota({ quota: 'reservations', retryMs: 1000, shared: false }, AT_22_30), 'the number of reservations that you may have is used up at this relay; it is free again when one of them ends')
    assert.equal(describeQuota({ ...DAY, quota: 'bytes_per_week' }, AT_22_30), 'the quota "bytes_per_week" is used up at this relay; it is free again at 23:30 UTC')
  })

  test('a relay that refused a reservation for a quota is shown with the words of the quota', () => {
    const error = quotaError(RELAY, DAY, AT_22_30, refused())
    assert.deepEqual(error.detail, { quota: 'bytes_per_day', retryMs: 3_600_000, relay: RELAY })
    assert.deepEqual(explainRelayFailure(error), { state: 'refused', reason: 'what you may send in a day is used up at this relay; it is free again at 23:30 UTC, or use another relay' })
  })

  test('the error of a dial: ERR_QUOTA when quotas stood in every way over a relay, else ERR_PEER_OFFLINE that still tells of them', () => {
    const planOver = (...peerIds: string[]): ReturnType<typeof planDial> => planDial({ peerId: DEVICE, level: 'friend', remembered: [], relays: peerIds.map(relayAt), isReserved: () => true, mayUseLan: false, mayUseLoopback: false })
    const over = quotaError(RELAY, DAY, AT_22_30, refused())
    const only = dialError(new AggregateError([over]), planOver(RELAY))
    assert.deepEqual([only.code, only.detail?.['quota'], only.detail?.['relay']], ['ERR_QUOTA', 'bytes_per_day', RELAY])
    assert.match(only.message, /what you may send in a day is used up at this relay; it is free again at 23:30 UTC/)
    const mixed = dialError(new AggregateError([over, new Error('failed to connect via relay with status NO_RESERVATION')]), planOver(RELAY, OTHER))
    assert.deepEqual([mixed.code, mixed.detail?.['quota']], ['ERR_PEER_OFFLINE', 'bytes_per_day'])
    assert.match(mixed.message, /what you may send in a day/)
    const none = dialError(new AggregateError([new Error('failed to connect via relay with status NO_RESERVATION')]), planOver(RELAY))
    assert.deepEqual([none.code, none.detail], ['ERR_PEER_OFFLINE', undefined])
  })
})

describe('what is kept of a relay that forwards nothing for us today', () => {
  test('it is shown as reserved with the reason, is chosen last, and only until the day is over', () => {
    const item = createKeptRelay(relayAt(RELAY))
    item.status = { ...item.status, state: 'reserved' }
    noteUsedUp(item, DAY, 1_000, AT_22_30)
    assert.deepEqual(stateWhileReserved(item), { state: 'reserved', reason: 'what you may send in a day is used up at this relay; it is free again at 23:30 UTC' })
    assert.ok(isSpent(item, 1_000) && factsOf(item, 1_000).isDraining)
    // told again half a minute later by a clock that runs a little differently: no news
    noteUsedUp(item, { ...DAY, retryMs: DAY.retryMs - 29_000 }, 31_000, AT_22_30 + 31_000)
    assert.match(stateWhileReserved(item).reason ?? '', /23:30 UTC/)
    assert.ok(!isSpent(item, 1_000 + DAY.retryMs + 60_000) && !factsOf(item, 1_000 + DAY.retryMs + 60_000).isDraining)
    noteUsedUp(item, undefined, 32_000, AT_22_30 + 32_000)
    assert.deepEqual([stateWhileReserved(item).reason, isSpent(item, 32_000)], [undefined, false])
  })

  test('a number of circuits that is used up is told, but makes it no worse: one of them may end at any moment', () => {
    const item = createKeptRelay(relayAt(RELAY))
    noteUsedUp(item, { quota: 'circuits', retryMs: 1000, shared: false }, 0, AT_22_30)
    assert.match(stateWhileReserved(item).reason ?? '', /number of circuits and splices that you may have at once is used up/)
    assert.equal(isSpent(item, 0), false)
  })
})

test('a relay is asked only after a refusal for want of places, and one that is not connected or does not know the question changes nothing', async () => {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  let askedCount = 0
  const connection = {
    remotePeer: { toString: () => RELAY },
    remoteAddr: { toString: () => '/ip4/192.0.2.1/tcp/4001' },
    direction: 'outbound',
    status: 'open',
    newStream: async () => {
      askedCount++
      throw new Error('UnsupportedProtocolError')
    }
  }
  const quota = createRelayQuota({ libp2p: () => ({ getConnections: () => [connection] as never }), clock, log: silentLogger, tasks: () => tasks, isRelay: (peerId) => peerId === RELAY })
  const { signal } = new AbortController()
  const offline = new Error('failed to connect via relay with status NO_RESERVATION')
  assert.equal(await quota.explain(RELAY, 'circuits', offline, signal), offline)
  assert.equal(askedCount, 0)
  const full = new AggregateError([refused()], 'all attempts failed')
  assert.equal(await quota.explain(RELAY, 'circuits', full, signal), full)
  assert.equal(askedCount, 1)
  assert.equal(await quota.explain(OTHER, 'circuits', full, signal), full)
  assert.equal(askedCount, 1)
  assert.equal(await quota.explain(RELAY, 'circuits', full, AbortSignal.abort(new CarrierError('ERR_CANCELLED', 'enough'))), full)
  assert.equal(askedCount, 1)
  await tasks.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
