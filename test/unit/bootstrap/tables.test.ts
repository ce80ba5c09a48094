import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { Circuit, CircuitEnd } from '../../../src/bootstrap/circuit.ts'
import { createCircuitTable } from '../../../src/bootstrap/circuit-table.ts'
import { createQuotaBook } from '../../../src/bootstrap/quota-book.ts'
import { createUsageTable } from '../../../src/bootstrap/peer-usage.ts'
import { createReservationTable, peerKey } from '../../../src/bootstrap/reservation-table.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

async function peer (seed: number): Promise<PeerId> {
  return peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(seed)))
}

describe('reservations', () => {
  const book = createQuotaBook(createFakeClock(), { friend: {}, member: {}, stranger: {}, strangers: {} })
  const account = book.accountOf({ key: 'x', class: 'stranger', source: '192.0.2.1' })
  const counted = { account, hold: () => book.hold(account, 'reservations') }

  test('a full table has room for holders only', async () => {
    const table = createReservationTable(() => ({ maxReservations: 1, ttlMs: 1000 }))
    const [office, laptop] = [await peer(1), await peer(2)]
    table.reserve({ peerId: office, nowMs: 0, ...counted })
    assert.equal(table.hasRoomFor(peerKey(office.toMultihash().bytes)), true)
    assert.equal(table.hasRoomFor(peerKey(laptop.toMultihash().bytes)), false)
    table.clear()
    assert.equal(account.held.reservations, 0)
  })

  test('one ends at its time, a refresh moves the time', async () => {
    const table = createReservationTable(() => ({ maxReservations: 5, ttlMs: 1000 }))
    const office = await peer(1)
    const key = peerKey(office.toMultihash().bytes)
    table.reserve({ peerId: office, nowMs: 0, ...counted })
    assert.equal(table.get(key, 999)?.expiresAt, 1000)
    assert.equal(table.get(key, 1000), undefined)
    table.reserve({ peerId: office, nowMs: 900, ...counted })
    assert.equal(table.get(key, 1000)?.expiresAt, 1900)
    assert.equal(account.held.reservations, 1, 'a refresh is not counted again')
    table.sweep(1899)
    assert.equal(table.size, 1)
    table.sweep(1900)
    assert.equal(table.size, 0)
    assert.equal(account.held.reservations, 0)
  })
})

describe('usage by identity', () => {
  test('I8: an entry exists only while something is in use', () => {
    const usage = createUsageTable()
    usage.add('x', 'callerCircuits', 1)
    usage.add('x', 'pendingHandshakes', 1)
    assert.deepEqual({ ...usage.get('x') }, { pendingHandshakes: 1, callerCircuits: 1, calledCircuits: 0, callerTickets: 0, calledTickets: 0 })
    usage.add('x', 'pendingHandshakes', -1)
    usage.add('x', 'callerCircuits', -1)
    assert.equal(usage.size, 0)
    assert.equal(usage.get('x').callerCircuits, 0)
  })
})

describe('circuits', () => {
  interface FakeCircuit extends Circuit { buffered: number, forwarded: bigint, reason: CircuitEnd | undefined }

  function fakeCircuit (buffered: number): FakeCircuit {
    const { promise: ended, resolve } = Promise.withResolvers<CircuitEnd>()
    const circuit: FakeCircuit = {
      buffered,
      forwarded: 0n,
      reason: undefined,
      ended,
      bufferedBytes: () => circuit.buffered,
      forwardedBytes: () => circuit.forwarded,
      abort: (reason) => {
        circuit.reason ??= reason
        resolve(reason)
      }
    }
    return circuit
  }

  test('I8: over the budget those that hold most are reset, and no more than needed', () => {
    const table = createCircuitTable({ maxBufferedBytes: () => 100 })
    const circuits = [10, 70, 40, 30].map(fakeCircuit)
    for (const circuit of circuits) table.add(circuit, () => false)
    table.enforceBudget()
    assert.deepEqual(circuits.map(({ reason }) => reason), [undefined, 'memory', undefined, undefined])
  })

  test('a drain ends quiet circuits after the quiet time and leaves busy ones', () => {
    const table = createCircuitTable({ maxBufferedBytes: () => 100 })
    const [idle, busy] = [fakeCircuit(0), fakeCircuit(0)]
    table.add(idle, () => false)
    table.add(busy, () => false)
    for (let nowMs = 0; nowMs <= 5000; nowMs += 1000) {
      idle.forwarded += 200n
      busy.forwarded += 100_000n
      table.endQuiet(nowMs, 5000)
      assert.equal(idle.reason, nowMs < 5000 ? undefined : 'shutdown')
    }
    assert.equal(busy.reason, undefined)
  })

  test('those that their ends may not have any more are reset when asked for, and at once when that happened while they were made', () => {
    const table = createCircuitTable({ maxBufferedBytes: () => 100 })
    const [kept, removed, late] = [fakeCircuit(0), fakeCircuit(0), fakeCircuit(0)]
    let isBarred = false
    table.add(kept, () => false)
    table.add(removed, () => isBarred)
    table.endBarred()
    assert.equal(removed.reason, undefined)
    isBarred = true
    table.endBarred()
    table.add(late, () => isBarred)
    assert.deepEqual([kept.reason, removed.reason, late.reason], [undefined, 'admission', 'admission'])
  })

  test('whenEmpty waits for circuits that are still being made', async () => {
    const table = createCircuitTable({ maxBufferedBytes: () => 100 })
    table.claim()
    let isEmpty = false
    const waiting = table.whenEmpty(new AbortController().signal).then(() => { isEmpty = true })
    await Promise.resolve()
    assert.equal(isEmpty, false)
    table.release()
    await waiting
    assert.equal(isEmpty, true)
    await table.whenEmpty(AbortSignal.abort())
  })
})
