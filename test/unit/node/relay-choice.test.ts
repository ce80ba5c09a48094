import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { chooseRelays, dialOrder, relayCostMs } from '../../../src/node/relay-choice.ts'
import type { RelayFacts } from '../../../src/node/relay-choice.ts'
import { createRelayTrust, judgeSelfDial } from '../../../src/node/relay-probe.ts'
import type { ProbeResult } from '../../../src/node/relay-probe.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { createFakeRelays } from '../../support/fake-relay-host.ts'
import type { FakeRelays } from '../../support/fake-relay-host.ts'

const STOP = '/libp2p/circuit/relay/0.2.0/stop'

function facts (peerId: string, change: Partial<RelayFacts> = {}): RelayFacts {
  return { peerId, isChosen: false, health: 'up', rttMs: 50, loadPermille: 0, lossCount: 0, isDraining: false, isLying: false, ...change }
}

function chosen (relays: readonly RelayFacts[], count = 2): string {
  return [...chooseRelays(relays, count)].sort().join('')
}

describe('choosing relays', () => {
  it('the nearest are chosen, and the order of the list decides between equals', () => {
    assert.equal(chosen([facts('a', { rttMs: 200 }), facts('b', { rttMs: 20 }), facts('c', { rttMs: 90 })]), 'bc')
    assert.equal(chosen([facts('a'), facts('b'), facts('c')]), 'ab')
  })

  it('what is chosen stays until another one is clearly better: equals never take turns', () => {
    const [a, b] = [facts('a', { isChosen: true }), facts('b', { isChosen: true })]
    for (const rttMs of [50, 45, 40, 35]) assert.equal(chosen([a, b, facts('c', { rttMs })]), 'ab', `${rttMs} ms`)
    assert.equal(chosen([a, b, facts('c', { rttMs: 10 })]), 'ac')
    // and the one that was left does not come back for a little
    assert.equal(chosen([facts('a', { rttMs: 12, isChosen: true }), facts('b', { rttMs: 10 }), facts('c', { rttMs: 12, isChosen: true })]), 'ac')
  })

  it('random noise of 20 % around equal round trips changes nothing', () => {
    let state = 7
    const noise = (): number => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
      return 0.8 + 0.4 * state / 2_147_483_648
    }
    const names = ['a', 'b', 'c', 'd', 'e']
    let holders = chooseRelays(names.map((name) => facts(name)), 3)
    const first = [...holders].sort().join('')
    for (let round = 0; round < 1_000; round++) holders = chooseRelays(names.map((name) => facts(name, { isChosen: holders.has(name), rttMs: 60 * noise() })), 3)
    assert.equal([...holders].sort().join(''), first)
  })

  it('a relay that is nearly full costs more, one that is half full does not', () => {
    assert.equal(relayCostMs({ rttMs: 30, loadPermille: 500, lossCount: 0 }), relayCostMs({ rttMs: 30, loadPermille: undefined, lossCount: 0 }))
    assert.ok(relayCostMs({ rttMs: 30, loadPermille: 1000, lossCount: 0 }) >= 4 * relayCostMs({ rttMs: 30, loadPermille: 0, lossCount: 0 }))
    assert.equal(chosen([facts('a', { loadPermille: 990, isChosen: true }), facts('b', { isChosen: true }), facts('c', { rttMs: 60 })]), 'bc')
  })

  it('a relay that lost us again and again gives way', () => {
    assert.equal(chosen([facts('a', { lossCount: 4, isChosen: true }), facts('b', { isChosen: true }), facts('c')]), 'bc')
  })

  it('draining, down and lying relays come last, in this order, however near they are', () => {
    const [draining, down, lying] = [facts('d', { rttMs: 1, isDraining: true, isChosen: true }), facts('e', { rttMs: 1, health: 'down', isChosen: true }), facts('f', { rttMs: 1, isLying: true, isChosen: true })]
    assert.equal(chosen([lying, down, draining, facts('a', { rttMs: 900 }), facts('b', { rttMs: 900 })]), 'ab')
    assert.equal(chosen([lying, down, draining, facts('a', { rttMs: 900 })]), 'ad')
    assert.equal(chosen([lying, down, draining]), 'de')
  })

  it('at first nothing is known: the list decides, and nobody loses its place to who is measured first', () => {
    const unknown = { health: 'unknown', rttMs: undefined } as const
    assert.equal(chosen([facts('a', unknown), facts('b', unknown), facts('c', unknown)]), 'ab')
    assert.equal(chosen([facts('a', { ...unknown, isChosen: true }), facts('b', { ...unknown, isChosen: true }), facts('c', { rttMs: 1 })]), 'ab')
  })

  it('the dial order: with a reservation first, then the nearer ones; who leaves or lies is last', () => {
    const order = (relays: Array<RelayFacts & { isReserved: boolean }>): string => dialOrder(relays).map(({ peerId }) => peerId).join('')
    const [a, b, c] = [{ ...facts('a', { rttMs: 180 }), isReserved: true }, { ...facts('b', { rttMs: 20 }), isReserved: true }, { ...facts('c', { rttMs: 1 }), isReserved: false }]
    assert.equal(order([a, b, c]), 'bac')
    assert.equal(order([a, { ...b, isDraining: true }, c]), 'acb')
    assert.equal(order([{ ...a, isLying: true }, { ...b, isDraining: true }, c]), 'cba')
    // a few milliseconds are no reason to leave the order of the list, which friends may share
    assert.equal(order([{ ...a, rttMs: 42 }, { ...b, rttMs: 40 }, c]), 'abc')
  })
})

describe('the verdict about a relay', () => {
  it('only a circuit whose far end proved our key is a proof', () => {
    assert.equal(judgeSelfDial('InvalidPeerIdError: Can not dial self', true), 'forwards')
    assert.equal(judgeSelfDial('failed to connect via relay with status NO_RESERVATION', false), 'forgotten')
    assert.equal(judgeSelfDial('failed to connect via relay with status CONNECTION_FAILED', false), 'silent')
    assert.equal(judgeSelfDial('no answer from the relay', false), 'silent')
    assert.equal(judgeSelfDial('no answer from the relay', true), 'broken')
    for (const status of ['RESOURCE_LIMIT_EXCEEDED', 'PERMISSION_DENIED']) assert.equal(judgeSelfDial(`failed to connect via relay with status ${status}`, false), 'unknown')
  })

  function verdict (...results: ProbeResult[]): string | undefined {
    const trust = createRelayTrust()
    for (const result of results) trust.note(result)
    return trust.lie
  }

  it('three probes in a row that failed make a liar, fewer do not', () => {
    assert.equal(verdict('silent', 'silent'), undefined)
    assert.match(verdict('silent', 'silent', 'silent') ?? '', /does not forward/)
    assert.match(verdict('forgotten', 'silent', 'broken') ?? '', /does not forward/)
    assert.equal(verdict('broken', 'broken'), undefined)
    assert.match(verdict('broken', 'broken', 'broken') ?? '', /does not forward/)
    assert.equal(verdict('silent', 'silent', 'forwards', 'silent', 'silent'), undefined)
    assert.equal(verdict('forgotten', 'forgotten'), undefined)
    assert.match(verdict('forgotten', 'forgotten', 'forgotten') ?? '', /forgets/)
    assert.equal(verdict('unknown', 'unknown', 'unknown', 'unknown'), undefined)
    assert.equal(verdict('silent', 'silent', 'silent', 'forwards'), undefined, 'it is believed again')
  })
})

describe('the supervisor of several relays', () => {
  const clock = createFakeClock

  function states (world: FakeRelays): string {
    return world.relays.map((relay) => relay.status().state).join(' ')
  }

  it('up to three relays all hold a reservation, whatever they are worth', async () => {
    const time = clock()
    const world = createFakeRelays(time, 3)
    Object.assign(world.relays[2] as object, { rttMs: 900, loadPermille: 1000 })
    await world.supervisor.start()
    await time.advance(600_000)
    assert.equal(states(world), 'reserved reserved reserved')
    assert.deepEqual(world.story.filter((line) => !line.endsWith('reserved')), [])
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('of five relays the first three are taken at once, then the best three', async () => {
    const time = clock()
    const world = createFakeRelays(time, 5)
    const [first, , , fourth, fifth] = world.relays
    Object.assign(first as object, { rttMs: 400 })
    Object.assign(fourth as object, { rttMs: 390 })
    Object.assign(fifth as object, { rttMs: 5 })
    await world.supervisor.start()
    await time.advance(100)
    assert.ok(world.story.slice(0, 3).every((line) => /^[012] reserved$/.test(line)), world.story.join())
    await time.advance(60_000)
    assert.equal(states(world), 'standby reserved reserved standby reserved')
    assert.equal(first?.connections.at(-1)?.status, 'closed', 'the place at the relay is given back')
    assert.equal(fourth?.connections.at(-1)?.status, 'closed', 'who stands by costs no connection')
    assert.match(first?.status().reason ?? '', /nearer or less busy/)
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('when one is lost the next best takes its place without a pause, and the lost one is retried', async () => {
    const time = clock()
    const world = createFakeRelays(time, 5)
    await world.supervisor.start()
    await time.advance(60_000)
    assert.equal(states(world), 'reserved reserved reserved standby standby')
    const [, second, , fourth] = world.relays
    second?.setMood('refused')
    await time.advance(0)
    assert.equal(fourth?.status().state, 'reserved')
    const count = second?.attemptsMs.length ?? 0
    await time.advance(10_000)
    assert.ok((second?.attemptsMs.length ?? 0) >= count + 3, 'it is not retried')
    second?.setMood('up')
    await time.advance(60_000)
    // 20 ms more are no reason to change again
    assert.equal(states(world), 'reserved standby reserved reserved standby')
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('a near relay that answers and takes no reservation is asked ever more rarely, tells its state once, and is taken when it has room', async () => {
    const time = clock()
    const world = createFakeRelays(time, 5)
    const [first, ...others] = world.relays
    if (first === undefined) throw new Error('there are five')
    first.isFull = true
    for (const other of others) other.rttMs = 300
    await world.supervisor.start()
    await time.advance(3_600_000)
    assert.equal(states(world), 'refused reserved reserved reserved standby')
    // 10 s, doubled up to 10 min: each time it is measured, tried, and measured again
    assert.ok(first.attemptsMs.length >= 10 && first.attemptsMs.length <= 60, `${first.attemptsMs.length} attempts in an hour`)
    assert.ok(world.story.length <= 40, world.story.join())
    first.isFull = false
    await time.advance(LIMITS.relayRefusalMaxMs * 1.3)
    assert.equal(first.status().state, 'reserved')
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('a near relay that takes reservations and drops them at once is asked ever more rarely', async () => {
    const time = clock()
    const world = createFakeRelays(time, 5)
    const [first, ...others] = world.relays
    if (first === undefined) throw new Error('there are five')
    for (const other of others) other.rttMs = 300
    await world.supervisor.start()
    for (let seconds = 0; seconds < 1_800; seconds++) {
      await time.advance(1_000)
      for (const connection of first.connections) connection.abort()
    }
    assert.ok(first.attemptsMs.length <= 60, `${first.attemptsMs.length} attempts in half an hour`)
    await world.supervisor.stop()
  })

  it('a relay that stands by and says that it drains is not taken for one that stays', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    const fourth = world.relays[3]
    if (fourth === undefined) throw new Error('there are four')
    Object.assign(fourth, { rttMs: 1, loadPermille: 0, isDraining: true })
    for (const other of world.relays.slice(0, 3)) other.rttMs = 300
    await world.supervisor.start()
    await time.advance(LIMITS.relayDrainMs)
    assert.ok(world.supervisor.isLeaving(fourth.peerId))
    assert.equal(states(world), 'reserved reserved reserved standby')
    assert.ok(!world.story.includes('3 reserved'), world.story.join())
    // the next measure finds another process
    fourth.isDraining = false
    await time.advance(LIMITS.relayMeasureMs)
    assert.equal(fourth.status().state, 'reserved')
    await world.supervisor.stop()
  })

  it('a relay that is chosen again while its connection still closes is taken at once', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    await world.supervisor.start()
    await time.advance(60_000)
    const [first, second] = world.relays
    const connection = first?.connections.at(-1)
    if (first === undefined || second === undefined || connection === undefined) throw new Error('there are four')
    const gate = Promise.withResolvers<undefined>()
    connection.close = async () => {
      await gate.promise
      connection.abort()
    }
    first.rttMs = 900
    for (let rounds = 0; rounds < 40 && first.status().isChosen; rounds++) await time.advance(LIMITS.relayProbeMs)
    assert.ok(!first.status().isChosen)
    second.setMood('refused')
    world.relays[2]?.setMood('refused')
    await time.advance(1_000)
    assert.ok(first.status().isChosen)
    gate.resolve(undefined)
    await time.advance(1_000)
    assert.equal(first.status().state, 'reserved')
    await world.supervisor.stop()
  })

  it('a relay that carries circuits is not given up before they are gone', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    await world.supervisor.start()
    await time.advance(60_000)
    const [first, , , fourth] = world.relays
    if (first === undefined || fourth === undefined) throw new Error('there are four')
    first.connections.at(-1)?.streams.push({ protocol: STOP })
    Object.assign(first, { rttMs: 900 })
    await time.advance(2 * LIMITS.relayMeasureMs)
    assert.equal(states(world), 'reserved reserved reserved reserved')
    assert.ok(!first.status().isChosen && fourth.status().isChosen)
    first.connections.at(-1)?.streams.pop()
    await time.advance(LIMITS.relayProbeMs)
    assert.equal(states(world), 'standby reserved reserved reserved')
    await world.supervisor.stop()
  })

  it('a relay that does not forward is found within a probe interval and avoided, then rarely probed, and taken back when it does', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    await world.supervisor.start()
    await time.advance(61_000)
    const [first, , , fourth] = world.relays
    if (first === undefined || fourth === undefined) throw new Error('there are four')
    first.probeResult = 'silent'
    await time.advance(LIMITS.relayProbeMs + 3 * LIMITS.relayAttemptMs + 2 * LIMITS.relayDoubtMs)
    assert.equal(first.status().state, 'unreachable')
    assert.equal(first.status().reason, 'it takes reservations but does not forward')
    assert.equal(fourth.status().state, 'reserved')
    assert.ok(world.supervisor.isLeaving(first.peerId))
    assert.equal(world.supervisor.dialOrder().at(-1)?.peerId, first.peerId)
    // its reservation is kept for the probes
    await time.advance(600_000)
    assert.equal(first.status().state, 'unreachable')
    first.probeResult = 'forwards'
    await time.advance(2 * LIMITS.relayLieRetryMaxMs)
    assert.equal(first.status().state, 'reserved')
    assert.equal(first.status().reason, undefined)
    assert.ok(first.status().isChosen, 'it is the nearest by far')
    assert.ok(!world.supervisor.isLeaving(first.peerId))
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('the only relay does not forward: it is said so, its reservation stays, and probes are rare', async () => {
    const time = clock()
    const world = createFakeRelays(time, 1)
    const [only] = world.relays
    if (only === undefined) throw new Error('there is one')
    only.probeResult = 'broken'
    await world.supervisor.start()
    await time.advance(20_000)
    assert.equal(only.status().state, 'unreachable')
    const count = only.probesMs.length
    await time.advance(3_600_000)
    assert.ok(only.probesMs.length - count <= 10, `${only.probesMs.length - count} probes in an hour`)
    assert.equal(only.attemptsMs.length, 1, 'there is nothing to gain by a new connection')
    only.probeResult = 'forwards'
    await time.advance(2 * LIMITS.relayLieRetryMaxMs)
    assert.equal(only.status().state, 'reserved')
    await world.supervisor.stop()
  })

  it('a draining relay keeps its reservation, says why, and the next best is taken at once; it is asked to stay when it does', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    await world.supervisor.start()
    await time.advance(60_000)
    const [first, , , fourth] = world.relays
    if (first === undefined || fourth === undefined) throw new Error('there are four')
    first.connections.at(-1)?.streams.push({ protocol: STOP })
    world.supervisor.noteDrain(first.peerId, 25_000)
    await time.advance(0)
    assert.equal(states(world), 'reserved reserved reserved reserved')
    assert.match(first.status().reason ?? '', /about to stop/)
    assert.ok(world.supervisor.isLeaving(first.peerId) && fourth.status().isChosen)
    assert.notEqual(world.supervisor.dialOrder()[0]?.peerId, first.peerId)
    first.setMood('refused')
    await time.advance(10_000)
    first.setMood('up')
    await time.advance(20_000)
    assert.ok(!world.supervisor.isLeaving(first.peerId))
    assert.equal(first.status().state, 'reserved', 'it is the nearest')
    await world.supervisor.stop()
  })

  it('a liar that went away is given another chance much later', async () => {
    const time = clock()
    const world = createFakeRelays(time, 4)
    const [first] = world.relays
    if (first === undefined) throw new Error('there are four')
    first.probeResult = 'silent'
    await world.supervisor.start()
    await time.advance(60_000)
    first.setMood('refused')
    await time.advance(1_000)
    first.setMood('up')
    first.probeResult = 'forwards'
    await time.advance(60_000)
    assert.equal(first.status().state, 'unreachable')
    assert.equal(first.status().reason, 'it takes reservations but does not forward')
    await time.advance(LIMITS.relayLieRetryMaxMs + 2 * LIMITS.relayMeasureMs)
    assert.equal(first.status().state, 'reserved')
    await world.supervisor.stop()
    assert.equal(time.pendingTimerCount(), 0)
  })

  it('the load that a relay tells is shown, and a draining one that only says so there is noticed too', async () => {
    const time = clock()
    const world = createFakeRelays(time, 2)
    const [first] = world.relays
    Object.assign(first as object, { loadPermille: 731 })
    await world.supervisor.start()
    await time.advance(1_000)
    assert.equal(first?.status().loadPermille, 731)
    Object.assign(first as object, { isDraining: true })
    await time.advance(LIMITS.relayProbeMs)
    assert.ok(world.supervisor.isLeaving(first?.peerId ?? ''))
    await world.supervisor.stop()
  })
})
