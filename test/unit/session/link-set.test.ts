import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ERRORS, LIMITS } from '../../../src/base/index.ts'
import { encodeSessionFrame } from '../../../src/session/frames.ts'
import type { Frame } from '../../../src/session/frames.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { LinkWorld } from './link-world.ts'
import type { LinkEnd, MemoryLink } from './link-world.ts'
import { pattern } from './support.ts'
import type { Recorder } from './support.ts'

function world (init: { messageBytes?: number } = {}): LinkWorld {
  return new LinkWorld(createFakeClock(), init)
}

/** Reads everything that comes, for ever. */
function drain (end: LinkEnd, channel: Parameters<LinkEnd['core']['read']>[0], recorder: Recorder): void {
  const onBytes = recorder.onBytes.bind(recorder)
  recorder.onBytes = (bytes) => {
    onBytes(bytes)
    end.core.read(channel)
  }
  end.core.read(channel)
}

/** Two ends with a channel that alice opened and bob reads. */
async function flowing (): Promise<{ w: LinkWorld, alice: LinkEnd, bob: LinkEnd, sent: ReturnType<LinkEnd['open']>, received: ReturnType<LinkEnd['open']> }> {
  const w = world()
  const [alice, bob] = w.ends
  const sent = alice.open()
  await w.rest()
  const received = bob.opened[0]
  assert.ok(received !== undefined)
  drain(bob, received.channel, received.recorder)
  return { w, alice, bob, sent, received }
}

/** Puts a frame on the wire of a link, as a hostile end would. */
function inject (link: MemoryLink, frame: Frame): void {
  link.wire.push(encodeSessionFrame(frame))
}

describe('planned switch', () => {
  it('moves both directions to the other link without losing, doubling or reordering a byte', async () => {
    const { w, alice, bob, sent, received } = await flowing()
    drain(alice, sent.channel, sent.recorder)
    const bytes = pattern(300_000)
    alice.core.send(sent.channel, [bytes])
    bob.core.send(received.channel, [bytes])
    const [spare] = w.attach('splice')
    for (let step = 0; step < 5; step++) for (const pair of w.pairs) for (const link of pair) link.carry(1000)
    const target = w.controllerLink(spare)
    assert.ok(target !== undefined)
    assert.ok(alice.links.switchTo(target))
    assert.ok(!alice.links.switchTo(target), 'one at a time')
    await w.rest()
    assert.deepEqual(bob.events, ['switched stream splice'])
    assert.deepEqual(alice.events, ['switched stream splice'])
    assert.equal(alice.links.sending?.link.kind, 'splice')
    assert.deepEqual(received.recorder.bytes, bytes)
    assert.deepEqual(sent.recorder.bytes, bytes)
  })

  it('holds what arrives on the new link before the switch was read on the old one', async () => {
    const { w, alice, sent, received } = await flowing()
    const [spare] = w.attach('direct')
    const first = w.pairs[0]
    const target = w.controllerLink(spare)
    assert.ok(first !== undefined && target !== undefined)
    alice.core.send(sent.channel, [pattern(3000, 1)])
    alice.flush()
    alice.links.switchTo(target)
    alice.core.send(sent.channel, [pattern(3000, 2)])
    alice.flush()
    spare.carry()
    assert.equal(received.recorder.receivedBytes, 0)
    assert.ok(spare.other?.isPaused, 'the link stops reading meanwhile')
    await w.rest()
    assert.deepEqual(received.recorder.bytes, new Uint8Array(Buffer.concat([pattern(3000, 1), pattern(3000, 2)])))
  })

  it('a loss on the way makes it a resume', async () => {
    for (const lost of ['old', 'new'] as const) {
      const { w, alice, sent, received } = await flowing()
      const [spare] = w.attach('splice')
      const target = w.controllerLink(spare)
      assert.ok(target !== undefined)
      alice.core.send(sent.channel, [pattern(100_000)])
      alice.flush()
      alice.links.switchTo(target)
      alice.flush()
      const dead = w.pairs[lost === 'old' ? 0 : 1]
      assert.ok(dead !== undefined)
      for (const link of dead) link.lose()
      await w.rest()
      assert.ok(alice.events.includes(`resumed ${lost === 'old' ? 'splice' : 'stream'}`), `${lost}: ${alice.events.join()}`)
      assert.deepEqual(received.recorder.bytes, pattern(100_000))
    }
  })

  it('a switch that is never answered ends the old link', async () => {
    const w = world()
    const [alice] = w.ends
    const [spare] = w.attach('splice')
    const target = w.controllerLink(spare)
    assert.ok(target !== undefined)
    alice.links.switchTo(target)
    await w.clock.advance(LIMITS.sessionSwitchTimeoutMs)
    assert.equal(alice.links.state, 'lost')
    await alice.links.end(undefined)
  })
})

describe('resume', () => {
  it('goes on over a spare link at once, with what was not acknowledged', async () => {
    const { w, alice, bob, sent, received } = await flowing()
    w.attach('splice')
    alice.core.send(sent.channel, [pattern(50_000)])
    alice.core.finish(sent.channel)
    alice.flush()
    w.pairs[0]?.[0].carry(10_000)
    for (const link of w.pairs[0] ?? []) link.lose()
    await w.rest()
    assert.deepEqual(bob.events, ['lost', 'resumed splice'])
    assert.deepEqual(received.recorder.bytes, pattern(50_000))
    assert.ok(received.recorder.hasEnded && sent.recorder.hasFinished)
  })

  it('only one end noticed: the other one is told over a spare link', async () => {
    for (const noticed of [0, 1] as const) {
      const w = world()
      const [alice, bob] = w.ends
      w.attach('splice')
      w.pairs[0]?.[noticed].lose()
      await w.rest()
      assert.deepEqual(alice.events, ['lost', 'resumed splice', 'settled'])
      assert.deepEqual(bob.events, ['lost', 'resumed splice'])
    }
  })

  it('goes on over a fresh link, also when the old one looks alive', async () => {
    for (const isCut of [true, false]) {
      const w = world()
      const [alice, bob] = w.ends
      const sent = bob.open()
      await w.rest()
      const received = alice.opened[0]
      assert.ok(received !== undefined)
      drain(alice, received.channel, received.recorder)
      bob.core.send(sent.channel, [pattern(30_000)])
      bob.flush()
      if (isCut) for (const link of w.pairs[0] ?? []) link.lose()
      w.resumeOnFresh('stream')
      await w.rest()
      assert.deepEqual(received.recorder.bytes, pattern(30_000))
      assert.equal(alice.links.all().length, 1, 'the old link is gone')
      assert.ok(w.pairs[0]?.[0].isOver)
    }
  })

  it('a link on which no answer comes is cut and the next one is tried', async () => {
    const w = world()
    const [alice] = w.ends
    w.attach('splice')
    w.attach('direct')
    w.pairs[0]?.[0].lose()
    await w.clock.advance(LIMITS.sessionResumeTimeoutMs)
    assert.ok(w.pairs[2]?.[0].isOver, 'the newest was tried first')
    assert.ok(!w.pairs[1]?.[0].isOver)
    assert.ok(alice.links.isResuming)
    await w.rest()
    assert.equal(alice.links.sending?.link.kind, 'splice')
  })

  it('five losses in a row cost nothing but time', async () => {
    const { w, alice, sent, received } = await flowing()
    alice.core.send(sent.channel, [pattern(200_000)])
    for (let round = 0; round < 5; round++) {
      alice.flush()
      for (const pair of w.pairs) for (const link of pair) link.carry(7000)
      for (const pair of w.pairs) for (const link of pair) link.lose()
      w.resumeOnFresh('stream')
      for (const pair of w.pairs) for (const link of pair) link.carry(round % 2 === 0 ? 40 : 5000)
    }
    await w.rest()
    assert.deepEqual(received.recorder.bytes, pattern(200_000))
  })
})

describe('what is no loss, and what is one', () => {
  it('idle time does not count: a link is lost only when a question was not answered', async () => {
    const w = world()
    const [alice] = w.ends
    const sent = alice.open()
    await w.rest()
    await w.clock.advance(12_000)
    alice.core.send(sent.channel, [pattern(100)])
    alice.flush()
    // a spare answers every question, a long way off
    const [spare] = w.attach('splice')
    for (let step = 0; step < 20; step++) {
      await w.clock.advance(300)
      spare.carry()
      spare.other?.carry()
    }
    assert.ok(!spare.isOver, 'the spare answers')
    assert.ok(w.pairs[0]?.[0].isOver, 'the link in use does not')
    for (const end of w.ends) await end.links.end(undefined)
  })

  it('an answer of the handshake that comes late ends that link and not the session', async () => {
    const w = world()
    const [alice] = w.ends
    for (const link of w.pairs[0] ?? []) link.lose()
    const [, far] = w.resumeOnFresh('stream')
    inject(far, { type: 'goaway', code: ERRORS.ERR_SUPERSEDED.wire ?? 0 })
    far.carry()
    assert.equal(alice.goaway, undefined)
    assert.equal(alice.links.state, 'lost')
    assert.ok(alice.events.includes('resume failed'), alice.events.join())
    w.resumeOnFresh('stream')
    await w.rest()
    assert.equal(alice.links.state, 'live')
    for (const end of w.ends) await end.links.end(undefined)
  })

  it('a violation in what was held ends the session, and nothing is said after that', async () => {
    const w = world()
    const bob = w.ends[1]
    const [spare] = w.attach('splice')
    inject(spare, { type: 'open', channelId: 2, kind: 'test', message: new Uint8Array(0) })
    spare.wire.push(new Uint8Array([0x3f, 0, 0, 0, 0, 0, 0, 0]))
    spare.carry()
    w.pairs[0]?.[1].lose()
    assert.equal(bob.violation?.code, 'ERR_UNSUPPORTED_VERSION')
    assert.ok(!bob.events.includes('lost'))
    for (const end of w.ends) await end.links.end(undefined)
  })
})

describe('a hostile end (each ends the session with a code, and nothing is delivered)', () => {
  const sessionId = new Uint8Array(16).fill(1)
  const token = new Uint8Array(32).fill(2)
  const cases: Array<[name: string, at: 0 | 1, frames: Frame[]]> = [
    ['a resume with a wrong token', 1, [{ type: 'resume', sessionId, token: new Uint8Array(32), epoch: 2 }]],
    ['a resume of another session', 1, [{ type: 'resume', sessionId: new Uint8Array(16), token, epoch: 2 }]],
    ['a resume with an old number', 1, [{ type: 'resume', sessionId, token, epoch: 1 }]],
    ['a replayed resume', 1, [{ type: 'resume', sessionId, token, epoch: 5 }, { type: 'resume', sessionId, token, epoch: 5 }]],
    ['a resume from the end that does not control', 0, [{ type: 'resume', sessionId, token, epoch: 2 }]],
    ['an answer to a resume that was not made', 0, [{ type: 'resumed', isLast: true, epoch: 1, highestId: 0, entries: [] }]],
    ['a switch to a link that never was', 1, [{ type: 'switch', epoch: 9 }]],
    ['a switch to the link in use', 1, [{ type: 'switch', epoch: 1 }]],
    ['a switch from the end that does not control', 0, [{ type: 'switch', epoch: 1 }]],
    ['a pong without a ping', 1, [{ type: 'pong', sequence: 7 }]],
    ['a lost frame from the controller', 1, [{ type: 'lost', epoch: 1 }]],
    ['a hello in a live session', 1, [{ type: 'hello', body: new Uint8Array(1) }]],
    ['more channels in an answer than can be', 1, [{ type: 'resume', sessionId, token, epoch: 2 }, ...Array.from({ length: 8 }, (_, part): Frame => ({
      type: 'resumed', isLast: false, epoch: 2, highestId: 0, entries: Array.from({ length: 512 }, (_unused, index) => ({ id: part * 1024 + index * 2 + 2, isFinReceived: false, receivedBytes: 0, limitBytes: 16_384 }))
    }))]]
  ]
  for (const [name, at, frames] of cases) {
    it(name, async () => {
      const w = world()
      const end = w.ends[at]
      const from = w.pairs[0]?.[1 - at]
      assert.ok(from !== undefined)
      for (const frame of frames) inject(from, frame)
      await w.rest()
      assert.ok(end.violation?.code === 'ERR_PROTOCOL', `${String(end.violation?.code)}: ${String(end.violation?.message)}`)
      assert.equal(end.links.state, 'ended')
    })
  }

  it('channel frames on a link to which no switch comes end the session after a while', async () => {
    const w = world()
    const bob = w.ends[1]
    const [spare] = w.attach('splice')
    inject(spare, { type: 'open', channelId: 2, kind: 'test', message: new Uint8Array(0) })
    spare.carry()
    assert.equal(bob.opened.length, 0)
    await w.clock.advance(LIMITS.sessionSwitchTimeoutMs)
    assert.equal(bob.violation?.code, 'ERR_PROTOCOL')
  })

  it('endless bytes on a link that is held are not kept', async () => {
    const w = world()
    const bob = w.ends[1]
    const [spare] = w.attach('splice')
    inject(spare, { type: 'open', channelId: 2, kind: 'test', message: new Uint8Array(0) })
    spare.carry()
    const { other } = spare
    assert.ok(other !== undefined)
    for (let count = 0; count < 100 && bob.violation === undefined; count++) {
      // a link that goes on although it was told to pause
      other.isPaused = false
      spare.wire.push(new Uint8Array(100_000))
      spare.carry()
    }
    assert.equal(bob.violation?.code, 'ERR_PROTOCOL')
  })

  it('who asks without reading the answers loses the link, not our memory', async () => {
    const w = world()
    const from = w.pairs[0]?.[0]
    const toward = w.pairs[0]?.[1]
    assert.ok(from !== undefined && toward !== undefined)
    for (let sequence = 1; sequence <= 100_000; sequence++) {
      inject(from, { type: 'ping', sequence })
      if (sequence % 100 === 0) from.carry()
    }
    await Promise.resolve()
    assert.ok(toward.wire.length <= 3, `${toward.wire.length} answers wait`)
  })
})

interface Flow { from: LinkEnd, to: LinkEnd, channel: ReturnType<LinkEnd['open']>['channel'], source: Uint8Array, givenBytes: number, hasEnded: boolean }

describe('any order of writes, reads, cuts, switches and resumes', () => {
  it('delivers a prefix at every moment, and everything once links last', async () => {
    const kinds: LinkKind[] = ['stream', 'splice', 'direct']
    const step = fc.record({ op: fc.integer({ min: 0, max: 15 }), a: fc.nat(1_000_000), b: fc.nat(1_000_000) })
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const w = world({ messageBytes: 1500 })
      const flows: Flow[] = []
      const check = (): void => {
        for (const end of w.ends) {
          assert.equal(end.violation, undefined, end.violation?.message ?? '')
          assert.ok(end.core.creditBytes <= LIMITS.sessionCreditBytes)
          for (const { channel, recorder } of end.opened) {
            const flow = flows.find((one) => one.to === end && one.channel.id === channel.id)
            if (flow === undefined) continue
            assert.ok(Buffer.compare(recorder.bytes, flow.source.subarray(0, recorder.receivedBytes)) === 0, 'what was delivered is a prefix of what was sent')
            if (recorder.hasEnded) assert.ok(flow.hasEnded && recorder.receivedBytes === flow.givenBytes, 'an end only after all bytes')
            assert.equal(recorder.error, undefined)
          }
        }
      }
      for (const { op, a, b } of steps) {
        const pair = w.pairs[a % w.pairs.length]
        const [from = w.ends[0], to = w.ends[1]] = a % 2 === 0 ? w.ends : [w.ends[1], w.ends[0]]
        const flow = flows[a % Math.max(1, flows.length)]
        switch (op) {
          case 0: if (flows.length < 12) flows.push({ from, to, channel: from.open().channel, source: pattern(60_000, b), givenBytes: 0, hasEnded: false }); break
          case 1: case 2: {
            if (flow === undefined || flow.hasEnded) break
            const count = Math.min(b % 20_000, flow.source.length - flow.givenBytes)
            flow.from.core.send(flow.channel, [flow.source.slice(flow.givenBytes, flow.givenBytes + count)])
            flow.givenBytes += count
            break
          }
          case 3: {
            if (flow === undefined || flow.hasEnded) break
            flow.hasEnded = true
            flow.from.core.finish(flow.channel)
            break
          }
          case 4: { const one = from.opened[b % Math.max(1, from.opened.length)]; if (one !== undefined) from.core.read(one.channel); break }
          case 5: case 6: case 7: case 8: pair?.[b % 2]?.carry(1 + b % 5000); break
          case 9: from.flush(); break
          case 10: from.core.flushAcks(); break
          // one end or both notice
          case 11: pair?.[0].lose(); if (b % 3 > 0) pair?.[1].lose(); break
          case 12: if (w.ends[0].links.all().length < 4) w.attach(kinds[b % 3] ?? 'stream'); break
          case 13: case 14: { const links = w.ends[0].links.all(); const target = links[b % Math.max(1, links.length)]; if (target !== undefined) w.ends[0].links.switchTo(target); break }
          case 15: if (!w.ends[0].links.isResuming) w.resumeOnFresh(kinds[b % 3] ?? 'stream'); break
        }
        await Promise.resolve()
        check()
      }
      // a link that one end lost is a loss for the other one too, sooner or later
      const spread = (): void => { for (const pair of w.pairs) if (pair.some((link) => link.isOver)) for (const link of pair) link.lose() }
      spread()
      await w.rest()
      spread()
      for (let tries = 0; tries < 5 && w.ends.some((end) => end.links.state !== 'live'); tries++) {
        if (!w.ends[0].links.isResuming) w.resumeOnFresh('stream')
        await w.rest()
      }
      assert.deepEqual(w.ends.map((end) => end.links.state), ['live', 'live'])
      for (const flow of flows) if (!flow.hasEnded) { flow.hasEnded = true; flow.from.core.finish(flow.channel) }
      await w.rest()
      for (const end of w.ends) for (const { channel, recorder } of end.opened) drain(end, channel, recorder)
      await w.rest()
      check()
      for (const flow of flows) {
        const got = flow.to.opened.find((one) => one.channel.id === flow.channel.id)
        assert.ok(got?.recorder.hasEnded === true, 'everything arrived')
      }
      for (const end of w.ends) await end.links.end(undefined)
      assert.equal(w.clock.pendingTimerCount(), 0, 'no timer is left')
    }), { numRuns: 200 })
  })
})
