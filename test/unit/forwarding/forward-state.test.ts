import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ERRORS } from '../../../src/base/index.ts'
import type { ErrorCode } from '../../../src/base/index.ts'
import { concernsForward, INITIAL_STATE, nextForwardState, retryPace } from '../../../src/forwarding/forward-state.ts'
import type { ForwardEvent, ForwardState } from '../../../src/forwarding/forward-state.ts'

const STATES: ForwardState[] = [
  INITIAL_STATE,
  { kind: 'active', provenAt: 1 },
  { kind: 'offline', reason: 'o' },
  { kind: 'refused', reason: 'r' },
  { kind: 'target-down', reason: 't' },
  { kind: 'error', reason: 'e' }
]
const codes = Object.keys(ERRORS) as ErrorCode[]

describe('states of a forward', () => {
  it('a proof makes it active, unless it cannot listen', () => {
    assert.deepEqual(STATES.map((state) => nextForwardState(state, { kind: 'proven', at: 7 }).kind), ['active', 'active', 'active', 'active', 'active', 'error'])
  })

  it('the loss of the session ends "active" and "target-down", and nothing else', () => {
    assert.deepEqual(STATES.map((state) => nextForwardState(state, { kind: 'lost' }).kind), ['connecting', 'connecting', 'offline', 'refused', 'connecting', 'error'])
  })

  it('an obstacle on this machine is an error until it listens again', () => {
    for (const state of STATES) assert.deepEqual(nextForwardState(state, { kind: 'blocked', reason: 'x' }), { kind: 'error', reason: 'x' })
    assert.deepEqual(STATES.map((state) => nextForwardState(state, { kind: 'listening' }).kind), ['connecting', 'active', 'offline', 'refused', 'target-down', 'connecting'])
  })

  it('each code of a failure has its state', () => {
    const stateOf = (code: ErrorCode): string => nextForwardState(INITIAL_STATE, { kind: 'failed', code, reason: 'x' }).kind
    assert.equal(stateOf('ERR_NOT_AVAILABLE'), 'refused')
    assert.equal(stateOf('ERR_REVOKED'), 'refused')
    assert.equal(stateOf('ERR_TARGET_UNREACHABLE'), 'target-down')
    assert.equal(stateOf('ERR_INTERNAL'), 'target-down')
    for (const code of ['ERR_PEER_OFFLINE', 'ERR_NO_RELAY', 'ERR_TIMEOUT', 'ERR_LINK_LOST', 'ERR_CLOSED'] as const) assert.equal(stateOf(code), 'offline')
  })

  it('a reset or a limit of one connection says nothing about the forward', () => {
    for (const code of ['ERR_RESET', 'ERR_LIMIT', 'ERR_CANCELLED', 'ERR_CLOSED', 'ERR_LINK_LOST'] as const) assert.equal(concernsForward(code), false)
    for (const code of ['ERR_NOT_AVAILABLE', 'ERR_REVOKED', 'ERR_TARGET_UNREACHABLE'] as const) assert.equal(concernsForward(code), true)
  })

  it('it is never active without a proof since the last failure or loss', () => {
    const event: fc.Arbitrary<ForwardEvent> = fc.oneof(
      fc.constant({ kind: 'listening' } as const), fc.constant({ kind: 'lost' } as const),
      fc.constant({ kind: 'blocked', reason: 'b' } as const), fc.nat().map((at) => ({ kind: 'proven', at }) as const),
      fc.constantFrom(...codes).map((code) => ({ kind: 'failed', code, reason: 'f' }) as const))
    fc.assert(fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      let state = INITIAL_STATE
      let hasProof = false
      for (const one of events) {
        if (one.kind === 'proven') hasProof = true
        if (one.kind === 'failed' || one.kind === 'lost' || one.kind === 'blocked') hasProof = false
        state = nextForwardState(state, one)
        if (state.kind === 'active') assert.ok(hasProof)
      }
    }))
  })

  it('every state but active is looked at again', () => {
    assert.deepEqual(STATES.map(retryPace), ['now', 'none', 'normal', 'slow', 'normal', 'normal'])
  })
})
