/** More relays than hold reservations: three are taken, the others stand by, take over, and can still be dialled through. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import { startLyingRelay } from '../support/lying-relay.ts'
import type { LyingRelay } from '../support/lying-relay.ts'
import { PATIENT, timed, waitFor, within } from '../support/wait.ts'

const HOLD = '/carrier/test-hold/1.0.0'

test('of five relays three hold a reservation; one ends and another takes its place; friends are dialled over those that stand by', async (t) => {
  const relays: LyingRelay[] = []
  for (let index = 0; index < 5; index++) relays.push(await startLyingRelay())
  const office = await makeNode({ relays: relays.map(({ address }) => address) })
  const states = (state: string): string[] => office.node.relays().filter((relay) => relay.state === state).map(({ peerId }) => peerId)
  t.after(async () => {
    await office.node.stop()
    await Promise.all(relays.map(async (relay) => { await relay.stop() }))
  })
  await office.node.start()
  await waitFor('three reservations, and the others measured', () => states('reserved').length === LIMITS.relayReservedCount && states('standby').length === 2, PATIENT)
  await waitFor('each to be measured', () => office.node.relays().every(({ rttMs }) => rttMs !== undefined), PATIENT)
  for (const relay of office.node.relays()) assert.equal(relay.isChosen, relay.state === 'reserved')
  for (const relay of relays) await waitFor(`relay ${relays.indexOf(relay)} to hold what the office says`, () => relay.reservationCount() === Number(states('reserved').includes(relay.peerId)), PATIENT)

  // a friend who is only on a relay that stands by
  const waiting = relays.find(({ peerId }) => states('standby').includes(peerId))
  assert.ok(waiting !== undefined)
  const laptop = await makeNode({ relays: [waiting.address] })
  befriend(office, laptop)
  laptop.node.handle(HOLD, async (stream) => { await stream.closed }, { levels: ['friend'], maxStreamsPerPeer: 4 })
  t.after(async () => { await laptop.node.stop() })
  await laptop.node.start()
  await reserved(laptop, PATIENT.deadlineMs)
  const { stream, peer } = await within('a stream', PATIENT.deadlineMs, office.node.openStream(laptop.did, HOLD))
  assert.equal(peer.relayPeerId, waiting.peerId)
  assert.equal(waiting.reservationCount(), 1, 'the laptop only')
  stream.abort(new Error('done'))

  const lost = relays.find(({ peerId }) => states('reserved').includes(peerId))
  assert.ok(lost !== undefined)
  const { elapsedMs } = await timed(async () => {
    await lost.stop()
    await waitFor('another one in its place', () => states('reserved').length === LIMITS.relayReservedCount && !states('reserved').includes(lost.peerId), PATIENT)
  })
  console.log(`another relay held the reservation ${Math.round(elapsedMs)} ms after one of three ended`)
  assert.equal(office.node.relays().filter(({ isChosen }) => isChosen).length, LIMITS.relayReservedCount)
})
