import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LIMITS } from '../../../src/base/index.ts'
import type { Identity } from '../../../src/identity/index.ts'
import { createSessionProver } from '../../../src/node/index.ts'
import { encodeSessionFrame } from '../../../src/session/frames.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'
import { turns } from './auth-pair.ts'
import { LinkWorld } from './link-world.ts'

const KINDS: LinkKind[] = ['stream', 'splice', 'direct']

function world (people: [Identity, Identity]): LinkWorld {
  const clock = createFakeClock()
  const proof = (index: 0 | 1): { prover: ReturnType<typeof createSessionProver>, device: Identity['did'] } => ({
    prover: createSessionProver({ identity: people[index], levelOf: () => 'friend', clock }),
    device: people[1 - index as 0 | 1].did
  })
  return new LinkWorld(clock, { proofs: [proof(0), proof(1)] })
}

/** Everything arrives, and what follows from it too. */
async function rest (w: LinkWorld): Promise<void> {
  for (let round = 0; round < 8; round++) {
    await w.rest()
    await turns()
  }
}

function assertSound (w: LinkWorld): void {
  for (const end of w.ends) assert.equal(end.violation, undefined, end.violation?.message ?? '')
}

describe('auth over the links of a session', () => {
  it('I2: every link that carries the session is proven, and users wait for nothing', async () => {
    const w = world([await makeIdentity(), await makeIdentity()])
    const [alice] = w.ends
    await rest(w)
    assert.deepEqual(w.ends.map((end) => end.provenCount), [1, 1])
    const [near] = w.attach('direct')
    const to = w.controllerLink(near)
    assert.ok(to !== undefined && alice.links.switchTo(to))
    const { channel } = alice.open()
    alice.core.send(channel, [new Uint8Array(100)])
    alice.flush()
    assert.ok(near.wire.length > 0, 'data leaves before anything is proven')
    await rest(w)
    await w.clock.advance(LIMITS.sessionAuthIntervalMs)
    await rest(w)
    assert.deepEqual(w.ends.map((end) => end.provenCount), [2, 2])
    assertSound(w)
    for (const end of w.ends) {
      end.auth?.end()
      await end.links.end(undefined)
    }
    assert.equal(w.clock.pendingTimerCount(), 0, 'no timer is left')
  })

  it('a link that is closed while auth runs on it leaves nothing behind: the one in use is proven', async () => {
    const w = world([await makeIdentity(), await makeIdentity()])
    const [alice] = w.ends
    await rest(w)
    const [near, far] = w.attach('direct')
    const direct = w.controllerLink(near)
    assert.ok(direct !== undefined && alice.links.switchTo(direct))
    await rest(w)
    await w.clock.advance(LIMITS.sessionAuthIntervalMs)
    assert.ok(near.wire.length > 0, 'auth has begun')
    const splice = w.controllerLink(w.attach('splice')[0])
    assert.ok(splice !== undefined && alice.links.switchTo(splice))
    // the first message and the switch arrive, and the answer to the switch alone comes back
    near.carry()
    far.carry()
    assert.equal(alice.links.sending, splice)
    await alice.links.drop(direct)
    far.lose()
    await rest(w)
    for (let step = 0; step < 30; step++) {
      await w.clock.advance(LIMITS.sessionAuthIntervalMs)
      await rest(w)
    }
    assertSound(w)
    assert.deepEqual(w.ends.map((end) => end.provenCount), [2, 2])
    for (const end of w.ends) {
      end.auth?.end()
      await end.links.end(undefined)
    }
  })

  it('without the feature an auth frame ends the session with ERR_UNSUPPORTED_VERSION', async () => {
    const w = new LinkWorld(createFakeClock())
    w.pairs[0]?.[0].wire.push(encodeSessionFrame({ type: 'auth', isLast: true, body: new Uint8Array(10) }))
    await w.rest()
    assert.equal(w.ends[1].violation?.code, 'ERR_UNSUPPORTED_VERSION')
  })

  it('I8: a hostile message ends the session with a code, one without end is not kept', async () => {
    const people: [Identity, Identity] = [await makeIdentity(), await makeIdentity()]
    const piece = new Uint8Array(LIMITS.sessionFramePayloadBytes)
    for (const [at, frames] of [
      [1, Array.from({ length: 5 }, () => ({ type: 'auth' as const, isLast: false, body: piece }))],
      [0, [{ type: 'auth' as const, isLast: true, body: new Uint8Array([0, 0, 0, 9, 1]) }]],
      [1, [{ type: 'auth' as const, isLast: true, body: new Uint8Array([0, 0, 0, 9, 1]) }]]
    ] as const) {
      const w = world(people)
      await rest(w)
      for (const frame of frames) w.pairs[0]?.[1 - at]?.wire.push(encodeSessionFrame(frame))
      await rest(w)
      assert.equal(w.ends[at].violation?.code, 'ERR_PROTOCOL')
      assert.equal(w.ends[at].links.state, 'ended')
    }
  })

  it('whatever links do: honest ends never fail each other, and are proven on the link in use once it lasts', async () => {
    const people: [Identity, Identity] = [await makeIdentity(), await makeIdentity()]
    const step = fc.record({ op: fc.integer({ min: 0, max: 12 }), a: fc.nat(1_000_000), b: fc.nat(1_000_000) })
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const w = world(people)
      for (const { op, a, b } of steps) {
        const pair = w.pairs[a % w.pairs.length]
        switch (op) {
          case 0: case 1: case 2: case 3: case 4: pair?.[b % 2]?.carry(1 + b % 300); break
          case 5: pair?.[0].lose(); if (b % 3 > 0) pair?.[1].lose(); break
          case 6: if (w.ends[0].links.all().length < 4) w.attach(KINDS[b % 3] ?? 'stream'); break
          case 7: case 8: { const links = w.ends[0].links.all(); const target = links[b % Math.max(1, links.length)]; if (target !== undefined) w.ends[0].links.switchTo(target); break }
          // as the keeper does: never while the session moves
          case 9: if (w.ends[0].links.state === 'live' && !w.ends[0].links.isSwitching) { const links = w.ends[0].links.all(); const target = links[b % Math.max(1, links.length)]; if (target !== undefined) await w.ends[0].links.drop(target) } break
          case 10: if (!w.ends[0].links.isResuming) w.resumeOnFresh(KINDS[b % 3] ?? 'stream'); break
          case 11: await w.clock.advance(b % 1_500); break
          case 12: await turns(); break
        }
        assertSound(w)
      }
      const spread = (): void => { for (const pair of w.pairs) if (pair.some((link) => link.isOver)) for (const link of pair) link.lose() }
      spread()
      await rest(w)
      spread()
      for (let tries = 0; tries < 5 && w.ends.some((end) => end.links.state !== 'live'); tries++) {
        if (!w.ends[0].links.isResuming) w.resumeOnFresh('stream')
        await rest(w)
        spread()
      }
      assert.deepEqual(w.ends.map((end) => end.links.state), ['live', 'live'])
      for (let step = 0; step < 4; step++) {
        await w.clock.advance(LIMITS.sessionAuthIntervalMs)
        await rest(w)
      }
      const counts = w.ends.map((end) => end.provenCount)
      assert.ok(counts.every((count) => count >= 1))
      const elapsedMs = w.clock.monotonicMs()
      assert.ok(Math.max(...counts) <= 1 + elapsedMs / LIMITS.sessionAuthIntervalMs, `${String(counts)} exchanges in ${elapsedMs} ms`)
      // nobody waits for anything any more: the last link is proven for both
      for (let step = 0; step < 12; step++) {
        await w.clock.advance(LIMITS.sessionAuthIntervalMs)
        await rest(w)
      }
      assertSound(w)
      assert.deepEqual(w.ends.map((end) => end.provenCount), counts)
      for (const end of w.ends) {
        end.auth?.end()
        await end.links.end(undefined)
      }
      assert.equal(w.clock.pendingTimerCount(), 0, 'no timer is left')
    }), { numRuns: 60 })
  })
})
