import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createLinkCare, forgetFailures, noteFailure, notBeforeMs, noteSuccess } from '../../../src/session/link-care.ts'
import { avoidedRelays, bestLink, isSecondLink, nextWays, spliceRelay, uselessLinks } from '../../../src/session/link-choice.ts'
import type { HeldLink, NextLinkFacts } from '../../../src/session/link-choice.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import { LIMITS } from '../../../src/base/index.ts'

/** `splice A` is a splice at relay A, `direct` has no relay. */
function held (text: string): HeldLink & { text: string } {
  const [kind, relayPeerId] = text.split(' ')
  return { link: { kind: kind as LinkKind, relayPeerId }, text }
}

/** Links by their names, the one in use first. */
function world (texts: string, leaving = ''): { links: Array<ReturnType<typeof held>>, sending: ReturnType<typeof held>, isIdle: boolean, isLeaving: (relayPeerId: string) => boolean } {
  const links = texts.split(', ').map(held)
  return { links, sending: links[0] as ReturnType<typeof held>, isIdle: false, isLeaving: (relayPeerId) => leaving.includes(relayPeerId) }
}

function next (texts: string, change: Partial<NextLinkFacts<HeldLink>> & { leaving?: string, relays?: string } = {}): string {
  const { leaving = '', relays = 'AB', ...facts } = change
  return nextWays({
    ...world(texts, leaving),
    isController: true,
    isInUse: true,
    hasChannels: true,
    mayDial: false,
    canSplice: () => true,
    canAvoid: (relayPeerId) => [...relays].some((relay) => relay !== relayPeerId && !leaving.includes(relay)),
    ...facts
  }).join(' ')
}

describe('the link that carries a session', () => {
  it('the better kind wins, equals never change, and nothing is better than a relay that stays', () => {
    const best = (texts: string, leaving = '', isIdle = false): string => bestLink({ ...world(texts, leaving), isIdle }).text
    assert.equal(best('stream A, splice A, direct'), 'direct')
    assert.equal(best('stream A, splice B'), 'splice B')
    assert.equal(best('stream A, stream B'), 'stream A')
    assert.equal(best('splice A, stream B', 'A'), 'stream B')
    assert.equal(best('splice A, stream A', 'A'), 'splice A')
    assert.equal(best('splice A, stream A, splice B', 'A'), 'splice B')
    assert.equal(best('splice A, stream A, stream B', 'AB'), 'splice A')
    assert.equal(best('direct, stream A', 'A'), 'direct')
  })

  it('an idle session goes back to a stream, if it has one that stays', () => {
    const best = (texts: string, leaving = ''): string => bestLink({ ...world(texts, leaving), isIdle: true }).text
    assert.equal(best('splice A, stream B'), 'stream B')
    assert.equal(best('direct, stream A'), 'stream A')
    assert.equal(best('splice A'), 'splice A')
    assert.equal(best('stream A, stream B', 'A'), 'stream B')
  })
})

describe('links of no use', () => {
  function useless (texts: string, leaving = '', isIdle = false): string {
    return uselessLinks({ ...world(texts, leaving), isIdle }).map(({ text }) => text).join(', ')
  }

  it('one spare stream is kept, over another relay where there is one', () => {
    assert.equal(useless('splice A, stream A'), '')
    assert.equal(useless('splice A, stream A, stream B'), 'stream A')
    assert.equal(useless('splice A, stream B, stream A'), 'stream A')
    assert.equal(useless('direct, splice A, stream A'), 'splice A')
    assert.equal(useless('direct, stream A, stream B'), 'stream B')
    assert.equal(useless('stream A, stream B'), '')
  })

  it('a session that moved keeps nothing over a relay that leaves; one that cannot move keeps all', () => {
    assert.equal(useless('stream B, splice A, stream A', 'A'), 'splice A, stream A')
    assert.equal(useless('splice A, stream A', 'A'), '')
    assert.equal(useless('splice A, stream A, stream B', 'AB'), '')
    // beside a direct link, or a splice elsewhere, the old spare is better than none
    assert.equal(useless('splice A, stream B', 'B'), '')
    assert.equal(useless('direct, stream A', 'A'), '')
    assert.equal(useless('direct, stream A, stream B', 'A'), 'stream A')
  })

  it('an idle session keeps one stream', () => {
    assert.equal(useless('stream A, stream B, splice A', '', true), 'stream B, splice A')
  })
})

describe('what is opened next', () => {
  it('stream, dial, splice, and then a spare over another relay; nothing when nobody uses the session', () => {
    assert.equal(next('stream A'), 'splice spare')
    assert.equal(next('stream A', { mayDial: true }), 'dial splice spare')
    assert.equal(next('splice A'), 'stream spare')
    assert.equal(next('splice A, stream A'), 'spare')
    assert.equal(next('splice A, stream B'), '')
    assert.equal(next('direct, stream A'), '')
    assert.equal(next('direct'), 'stream')
    assert.equal(next('stream A', { hasChannels: false }), 'splice')
    assert.equal(next('stream A', { isInUse: false }), '')
  })

  it('no second relay, no spare; and only the controller opens streams and splices', () => {
    assert.equal(next('splice A, stream A', { relays: 'A' }), '')
    assert.equal(next('stream A', { isController: false, mayDial: true }), 'dial')
    assert.equal(next('splice A, stream A', { isController: false }), '')
  })

  it('everything runs over a relay that leaves: another stream comes before all else, whoever sees it, in use or not', () => {
    assert.equal(next('splice A, stream A', { leaving: 'A' }), 'spare')
    assert.equal(next('stream A', { leaving: 'A', isInUse: false }), 'spare')
    assert.equal(next('stream A', { leaving: 'A', isInUse: false, isController: false }), 'spare')
    assert.equal(next('stream A', { leaving: 'A', relays: 'A' }), '')
    assert.equal(next('splice A, stream A', { leaving: 'AB' }), '')
    assert.equal(next('splice A, stream B', { leaving: 'B' }), '', 'there are only two: the spare is kept until it ends')
    assert.equal(next('splice A, stream B', { leaving: 'B', relays: 'ABC' }), 'spare')
    // after the move
    assert.equal(next('stream B', { leaving: 'A' }), 'splice')
    assert.equal(next('direct, stream A', { leaving: 'A' }), 'spare')
  })

  it('a splice goes to the relay of the link in use, never to one that leaves', () => {
    const at = (texts: string, leaving = '', offering = 'AB'): string | undefined => spliceRelay({ ...world(texts, leaving), canSplice: (relayPeerId) => offering.includes(relayPeerId) })
    assert.equal(at('stream B, stream A'), 'B')
    assert.equal(at('stream B, stream A', 'B'), 'A')
    assert.equal(at('stream B, stream A', '', 'A'), 'A')
    assert.equal(at('stream B', 'B'), undefined)
    assert.deepEqual(avoidedRelays(world('splice A, stream C, stream B', 'B')), ['A', 'B'])
  })

  it('two links of one kind need two relays, and there are never three', () => {
    assert.ok(!isSecondLink([held('stream A')], { kind: 'stream', relayPeerId: 'B' }))
    assert.ok(isSecondLink([held('stream A')], { kind: 'stream', relayPeerId: 'A' }))
    assert.ok(isSecondLink([held('direct')], { kind: 'direct', relayPeerId: undefined }))
    assert.ok(isSecondLink([held('stream A'), held('stream B')], { kind: 'stream', relayPeerId: 'C' }))
  })
})

describe('when a way is tried again', () => {
  const random = (): number => 0.5

  it('each way has its own delays', () => {
    const care = createLinkCare()
    noteFailure(care, 'dial', 'refused', 1_000, random)
    assert.equal(notBeforeMs(care, 'dial'), 1_000 + LIMITS.linkRetryFirstMs)
    assert.equal(notBeforeMs(care, 'splice'), 0)
    noteFailure(care, 'dial', 'refused', 4_000, random)
    assert.equal(notBeforeMs(care, 'dial'), 4_000 + 3 * LIMITS.linkRetryFirstMs)
    assert.equal(care.lastFailure.dial, 'refused')
    noteSuccess(care, 'dial', 9_000)
    assert.equal(notBeforeMs(care, 'dial'), 0)
    assert.equal(care.lastFailure.dial, undefined)
  })

  it('punches: two attempts, then rarely; one that worked and died young is worth less each time', () => {
    const care = createLinkCare()
    noteFailure(care, 'punch', 'no packet', 0, random)
    assert.equal(notBeforeMs(care, 'punch'), LIMITS.punchQuickRetryMs)
    noteFailure(care, 'punch', 'no packet', 10_000, random)
    assert.equal(notBeforeMs(care, 'punch'), 10_000 + LIMITS.punchRetryFirstMs)
    noteFailure(care, 'punch', 'no packet', 50_000, random)
    assert.equal(notBeforeMs(care, 'punch'), 50_000 + 2 * LIMITS.punchRetryFirstMs)
    noteSuccess(care, 'punch', 100_000)
    assert.equal(notBeforeMs(care, 'punch'), 100_000 + LIMITS.punchRetryFirstMs)
    noteSuccess(care, 'punch', 150_000)
    assert.equal(notBeforeMs(care, 'punch'), 150_000 + 2 * LIMITS.punchRetryFirstMs)
    noteFailure(care, 'punch', 'no packet', 200_000, random)
    noteFailure(care, 'punch', 'no packet', 300_000, random)
    noteFailure(care, 'punch', 'no packet', 400_000, random)
    assert.equal(notBeforeMs(care, 'punch'), 400_000 + LIMITS.punchRetryFirstMs, 'what worked once is tried at least so often')
    forgetFailures(care)
    assert.equal(notBeforeMs(care, 'punch'), 0)
  })
})
