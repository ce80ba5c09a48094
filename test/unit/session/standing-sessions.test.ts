import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { CarrierError, createEmitter, LIMITS, silentLogger } from '../../../src/base/index.ts'
import type { ErrorCode } from '../../../src/base/index.ts'
import { didFromPublicKey } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { NodeEvents, RelayStatus } from '../../../src/node/index.ts'
import { createStandingSessions } from '../../../src/session/index.ts'
import type { Session, SessionEvents, StandingSessions } from '../../../src/session/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'

const DIDS = keys(140)
const SELF = DIDS[70] as Did
const SMALLER = DIDS[3] as Did
const LARGER = DIDS[100] as Did

function keys (count: number): Did[] {
  const found: Did[] = []
  for (let index = 0; found.length < count; index++) {
    const key = new Uint8Array(32).fill(7)
    key[0] = index >> 8
    key[1] = index & 255
    try {
      found.push(didFromPublicKey(key))
    } catch { /* not a point of the curve: the next one */ }
  }
  return found
}

describe('standing sessions', () => {
  let clock: FakeClock
  let standing: StandingSessions
  let friends: Did[]
  let attempts: Array<{ device: Did, atMs: number }>
  let answer: (device: Did) => ErrorCode | 'live' | 'hang'
  const live = new Set<Did>()
  const sessionEvents = createEmitter<SessionEvents>(silentLogger)
  const nodeEvents = createEmitter<NodeEvents>(silentLogger)

  function lose (device: Did, code: ErrorCode = 'ERR_LINK_LOST'): void {
    live.delete(device)
    sessionEvents.emit('session:closed', { peer: { device, owner: device }, error: new CarrierError(code, 'lost') })
  }

  function relayReserved (): void {
    nodeEvents.emit('relay:state', { state: 'reserved' } as RelayStatus)
  }

  beforeEach(async () => {
    clock = createFakeClock()
    friends = []
    attempts = []
    live.clear()
    answer = () => 'ERR_PEER_OFFLINE'
    standing = createStandingSessions({
      sessions: {
        on: sessionEvents.on,
        get: (device) => live.has(device) ? { peer: { device, owner: device } } as Session : undefined,
        open: async (device, options = {}) => {
          attempts.push({ device, atMs: clock.monotonicMs() })
          const result = answer(device)
          if (result === 'hang') {
            await new Promise((_resolve, reject) => { options.signal?.addEventListener('abort', () => { reject(options.signal?.reason as Error) }) })
          }
          if (result !== 'live' && result !== 'hang') throw new CarrierError(result, 'as the test wants')
          live.add(device)
          const session = { peer: { device, owner: device } } as Session
          sessionEvents.emit('session:opened', { session })
          return session
        }
      },
      node: { on: nodeEvents.on, device: SELF },
      clock,
      random: () => 0.5,
      log: silentLogger
    }, { friends: () => friends })
    await standing.start()
  })

  afterEach(async () => {
    await standing.stop()
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('tries a friend again and again, from one second up to at most fifteen apart, for ever', async () => {
    friends = [LARGER]
    standing.refresh()
    await clock.advance(600_000)
    const gaps = attempts.slice(1).map(({ atMs }, index) => atMs - (attempts[index]?.atMs ?? 0))
    assert.equal(attempts[0]?.atMs, 0)
    assert.equal(gaps[0], LIMITS.standingSessionRetryFirstMs)
    assert.ok(gaps.every((gap) => gap <= LIMITS.standingSessionRetryMaxMs))
    assert.ok(attempts.length > 40)
  })

  it('the end that does not begin waits a moment first, and both try', async () => {
    friends = [SMALLER]
    standing.refresh()
    await clock.advance(100)
    assert.equal(attempts.length, 0)
    await clock.advance(400)
    assert.equal(attempts.length, 1)
  })

  it('a relay that becomes reserved, or the peer itself, cuts the wait short', async () => {
    friends = [LARGER]
    standing.refresh()
    await clock.advance(60_000)
    const before = attempts.length
    relayReserved()
    await clock.advance(0)
    assert.equal(attempts.length, before + 1)
    nodeEvents.emit('peer:authenticated', { peer: { device: LARGER, owner: LARGER, level: 'friend', instanceId: undefined, path: 'relayed', relayPeerId: undefined }, direction: 'inbound' })
    await clock.advance(0)
    assert.equal(attempts.length, before + 2)
  })

  it('a session that is lost is made again at once if it was a good one, slower if it dies young', async () => {
    answer = () => 'live'
    friends = [LARGER]
    standing.refresh()
    await clock.advance(60_000)
    assert.equal(attempts.length, 1)
    lose(LARGER)
    await clock.advance(0)
    assert.equal(attempts.length, 2)
    for (let round = 0; round < 30; round++) {
      if (live.has(LARGER)) lose(LARGER)
      await clock.advance(1000)
    }
    assert.ok(attempts.length < 12, 'sessions that die at once do not make it busy')
  })

  it('refusals that do not pass quickly are asked about rarely', async () => {
    answer = () => 'ERR_NOT_AVAILABLE'
    friends = [LARGER]
    standing.refresh()
    await clock.advance(60_000)
    assert.ok(attempts.length <= 6)
  })

  it('a session that the other side ended for want of room is not asked for again at once: nobody takes turns in a hurry', async () => {
    answer = () => 'live'
    friends = [LARGER]
    standing.refresh()
    for (let round = 0; round < 30; round++) {
      await clock.advance(20_000)
      if (live.has(LARGER)) lose(LARGER, 'ERR_LIMIT')
      await clock.advance(0)
      assert.equal(live.has(LARGER), false)
    }
    assert.ok(attempts.length <= 31)
  })

  it('an inbound session stops the attempts; a removed friend is left alone', async () => {
    friends = [LARGER, SMALLER]
    standing.refresh()
    await clock.advance(5_000)
    live.add(LARGER)
    sessionEvents.emit('session:opened', { session: { peer: { device: LARGER, owner: LARGER } } as Session })
    friends = [LARGER]
    standing.refresh()
    const before = attempts.length
    await clock.advance(120_000)
    assert.equal(attempts.length, before)
    lose(LARGER)
    friends = []
    standing.refresh()
    await clock.advance(120_000)
    assert.equal(attempts.length, before)
  })

  it('I8: at most 128 friends have one, and few are dialled at the same time', async () => {
    answer = () => 'hang'
    friends = DIDS.filter((did) => did !== SELF)
    standing.refresh()
    await clock.advance(5_000)
    assert.equal(attempts.length, LIMITS.standingSessionDialCount)
    answer = () => 'ERR_PEER_OFFLINE'
    await standing.stop()
    attempts = []
    await standing.start()
    await clock.advance(30_000)
    assert.equal(new Set(attempts.map(({ device }) => device)).size, LIMITS.sessionCount)
  })
})
