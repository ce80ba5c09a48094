import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { bestLink, isSecondLink, nextWays, servesOn, uselessLinks } from '../../../src/session/link-choice.ts'
import type { HeldLink, NextLinkFacts } from '../../../src/session/link-choice.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { LinkWorld } from './link-world.ts'
import type { MemoryLink } from './link-world.ts'

const HOUR_MS = 3_600_000

async function worldOn (kind: LinkKind, keyLimits: { maxBytes: number, maxAgeMs: number }): Promise<{ w: LinkWorld, near: MemoryLink, wear: () => number[], worn: () => number[] }> {
  const w = new LinkWorld(createFakeClock(), { keyLimits })
  const [near, far] = w.attach(kind)
  const to = w.controllerLink(near)
  assert.ok(to !== undefined)
  w.ends[0].links.switchTo(to)
  await w.rest()
  const links = w.ends.map((end) => end.links.all().find(({ link }) => link === near || link === far))
  return {
    w,
    near,
    wear: () => links.map((link) => link?.wear ?? NaN),
    worn: () => w.ends.map((end) => end.events.filter((event) => event === 'worn').length)
  }
}

async function send (w: LinkWorld, byteCount: number): Promise<void> {
  const { channel } = w.ends[0].open()
  w.ends[0].core.send(channel, [new Uint8Array(byteCount)])
  await w.rest()
}

/** Time passes, and what links ask each other is answered. */
async function pass (w: LinkWorld, ms: number): Promise<void> {
  for (let restMs = ms; restMs > 0; restMs -= 1_000) {
    await w.clock.advance(Math.min(restMs, 1_000))
    await w.rest()
  }
}

describe('how long TLS keys serve', () => {
  it('bytes count at both ends, small messages for more than their bytes; each end is told at once and at twice', async () => {
    const { w, wear, worn } = await worldOn('direct', { maxBytes: 100_000, maxAgeMs: 1_000 * HOUR_MS })
    assert.ok(wear().every((part) => part < 0.01))
    await send(w, 12_000)
    const [atSender = 0, atReceiver = 0] = wear()
    assert.ok(atSender > 0.12 && atSender < 0.2 && Math.abs(atSender - atReceiver) < 0.02, `${atSender} and ${atReceiver}`)
    assert.deepEqual(worn(), [0, 0])
    for (let count = 0; count < 9; count++) await send(w, 12_000)
    assert.deepEqual(worn(), [1, 1])
    for (let count = 0; count < 30; count++) await send(w, 12_000)
    assert.deepEqual(worn(), [2, 2])
  })

  it('time counts too, a tenth less for some sessions', async () => {
    const { w, wear, worn } = await worldOn('splice', { maxBytes: 1e15, maxAgeMs: HOUR_MS })
    await pass(w, 0.98 * HOUR_MS)
    assert.deepEqual(worn(), [0, 0])
    await pass(w, 0.05 * HOUR_MS)
    assert.deepEqual(worn(), [1, 1])
    // but age alone is no reason to leave a link that works for a worse one
    await pass(w, 2 * HOUR_MS)
    assert.deepEqual([worn(), wear()], [[1, 1], [1, 1]])
  })

  it('streams are never worn', async () => {
    const { w, wear, worn } = await worldOn('stream', { maxBytes: 1_000, maxAgeMs: 1_000 })
    await send(w, 12_000)
    await pass(w, 60_000)
    assert.deepEqual([wear(), worn()], [[0, 0], [0, 0]])
  })

  it('the limits stay below what AES-GCM bears, RFC 8446 5.5: 2^24.5 full records, also at twice as much', () => {
    assert.ok(2 * LIMITS.linkKeyBytes <= 2 ** 24.5 * 16_384)
    // a record of a few bytes is at most four blocks with its header, type, length block and mask
    assert.ok(2 * LIMITS.linkKeyBytes / 64 * 4 <= 2 ** 24.5 * 1_024)
  })
})

describe('what becomes of a worn link', () => {
  const held = (text: string, wear = 0): HeldLink & { text: string } => {
    const [kind, relayPeerId] = text.split(' ')
    return { link: { kind: kind as LinkKind, relayPeerId }, wear, text }
  }
  const isLeaving = (): boolean => false

  function next (links: HeldLink[], change: Partial<NextLinkFacts<HeldLink>> = {}): string {
    return nextWays({ links, sending: links[0] as HeldLink, isController: true, isInUse: true, hasChannels: true, mayDial: true, canSplice: () => true, canAvoid: () => false, isLeaving, ...change }).join(' ')
  }

  it('it carries the session until a fresh one of its kind is there; at twice its time any other one is better', () => {
    const best = (...links: Array<ReturnType<typeof held>>): string => bestLink({ links, sending: links[0] as ReturnType<typeof held>, isIdle: false, isLeaving }).text
    assert.equal(best(held('direct', 1.5), held('splice A'), held('stream A')), 'direct')
    assert.equal(bestLink({ links: [held('direct', 1), held('direct')], sending: held('direct', 1), isIdle: false, isLeaving }).wear, 0)
    assert.equal(best(held('direct', 2), held('stream A')), 'stream A')
    assert.equal(best(held('splice A', 1.2), held('stream A')), 'splice A')
    const [worn, fresh, spare] = [held('splice A', 1.2), held('splice A'), held('stream A')]
    assert.deepEqual(uselessLinks({ links: [worn, fresh, spare], sending: fresh, isIdle: false, isLeaving }), [worn])
  })

  it('a fresh one is opened on the same way, and nothing else', () => {
    assert.equal(next([held('direct', 0.99), held('stream A')]), '')
    assert.equal(next([held('direct', 1), held('stream A')]), 'dial')
    assert.equal(next([held('splice A', 1), held('stream A')], { mayDial: false }), 'splice')
    assert.equal(next([held('splice A', 0.99), held('stream A')], { mayDial: false }), '')
    assert.equal(next([held('direct', 2), held('stream A')]), 'dial splice')
    assert.equal(next([held('direct', 1), held('stream A')], { isInUse: false }), '')
  })

  it('the other end takes it although it counts a little slower', () => {
    const link = { kind: 'splice', relayPeerId: 'A' } as const
    assert.ok(isSecondLink([held('splice A', 0.7)], link))
    assert.ok(!isSecondLink([held('splice A', 0.8)], link))
    assert.ok(isSecondLink([held('splice A', 1), held('splice A')], link))
    assert.deepEqual([held('direct', 0.7), held('direct', 0.8), { link }].map(servesOn), [true, false, true])
  })
})
