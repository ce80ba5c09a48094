import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import type { ResumedEntry } from '../../../src/session/frames.ts'
import { carry, End, pattern, resume, settle } from './support.ts'
import type { Recorder } from './support.ts'
import type { ChannelCore } from '../../../src/session/channel-core.ts'
import { TwoEnds } from './two-ends.ts'

function pair (): { alice: End, bob: End } {
  return { alice: new End(true), bob: new End(false) }
}

function drainAll (end: End, channel: ChannelCore, recorder: Recorder): void {
  for (let before = -1; before !== recorder.receivedBytes && !recorder.hasEnded;) {
    before = recorder.receivedBytes
    end.core.read(channel)
  }
}

type Inbound = End['opened'][number]

/** A channel from alice to bob that both know. */
function joined (alice: End, bob: End): { channel: ChannelCore, recorder: Recorder, inbound: Inbound } {
  const { channel, recorder } = alice.open('test', pattern(20))
  alice.core.send(channel, [pattern(1)])
  settle(alice, bob)
  const inbound = bob.opened.at(-1)
  assert.ok(inbound)
  drainAll(bob, inbound.channel, inbound.recorder)
  settle(alice, bob)
  return { channel, recorder, inbound }
}

const CANCELLED = new CarrierError('ERR_CANCELLED', 'enough')

describe('session resume', () => {
  it('I4, I5: what was on the way is sent again from the first byte that is missing, not before it and not after', () => {
    for (const arrivedBytes of [0, 1, 7, 8, 9, 16, 17, 5_000, 16_400, 30_000]) {
      const { alice, bob } = pair()
      const { channel, inbound } = joined(alice, bob)
      alice.core.send(channel, [pattern(15_000, 5)])
      alice.produce()
      carry(alice, bob, arrivedBytes)
      const receivedBytes = inbound.channel.receivedBytes
      resume(alice, bob)
      assert.equal(channel.sentBytes, receivedBytes)
      settle(alice, bob)
      drainAll(bob, inbound.channel, inbound.recorder)
      assert.deepEqual(inbound.recorder.bytes, new Uint8Array(Buffer.concat([pattern(1), pattern(15_000, 5)])))
      settle(alice, bob)
      assert.equal(alice.core.inFlightBytes + alice.core.retainedBytes, 0)
    }
  })

  it('a channel whose open frame was lost is opened again, with its message and all of its bytes, before newer ones', () => {
    const { alice, bob } = pair()
    const channels = [1, 2, 3].map((seed) => {
      const { channel, recorder } = alice.open('test', pattern(30, seed))
      alice.core.send(channel, [pattern(100, seed)])
      alice.core.finish(channel)
      return { channel, recorder }
    })
    alice.produce()
    // the first one arrives
    carry(alice, bob, 9 + 4 + 30)
    assert.equal(bob.opened.length, 1)
    const late = alice.open('test', pattern(30, 4))
    alice.core.send(late.channel, [pattern(100, 4)])
    alice.core.finish(late.channel)
    resume(alice, bob)
    settle(alice, bob)
    assert.deepEqual(bob.opened.map(({ channel }) => channel.id), [2, 4, 6, 8])
    for (const [index, { channel, message, recorder }] of bob.opened.entries()) {
      drainAll(bob, channel, recorder)
      assert.deepEqual(message, pattern(30, index + 1))
      assert.deepEqual(recorder.bytes, pattern(100, index + 1))
      assert.equal(recorder.hasEnded, true)
    }
    settle(alice, bob)
    for (const { recorder } of [...channels, late]) assert.equal(recorder.hasFinished, true)
    // the opening message is kept only until the other side showed that it has it
    assert.equal(late.channel.openMessage, undefined)
  })

  it('a reset that was lost with the link is said again, with its code; also one of while there was no link', () => {
    for (const isEarly of [true, false]) {
      const { alice, bob } = pair()
      const { channel, inbound } = joined(alice, bob)
      if (isEarly) alice.core.reset(channel, CANCELLED)
      alice.produce()
      alice.core.suspend()
      bob.core.suspend()
      if (!isEarly) alice.core.reset(channel, CANCELLED)
      resume(alice, bob)
      settle(alice, bob)
      assert.equal(inbound.recorder.error?.code, 'ERR_CANCELLED')
      assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
    }
  })

  it('a fin, its acknowledgement, and the last acknowledgement of all may be lost: both sides see a clean end', () => {
    for (const cutAt of [0, 1, 2, 3, 4, 5, 6]) {
      const { alice, bob } = pair()
      const { channel, recorder, inbound } = joined(alice, bob)
      let steps = 0
      const cut = (): void => { if (steps++ === cutAt) resume(alice, bob) }
      alice.core.finish(channel)
      bob.core.finish(inbound.channel)
      for (let round = 0; round < 4; round++) {
        alice.produce()
        cut()
        carry(alice, bob)
        drainAll(bob, inbound.channel, inbound.recorder)
        bob.produce()
        cut()
        carry(bob, alice)
        drainAll(alice, channel, recorder)
      }
      settle(alice, bob)
      for (const side of [recorder, inbound.recorder]) assert.ok(side.hasEnded && side.hasFinished && side.error === undefined, `cut ${cutAt}`)
      assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
    }
  })

  it('an end that was acknowledged but not read yet is still read after a resume that does not name the channel', () => {
    const { alice, bob } = pair()
    const { channel, inbound } = joined(alice, bob)
    bob.core.finish(inbound.channel)
    alice.core.send(channel, [pattern(500)])
    alice.core.finish(channel)
    settle(alice, bob)
    // alice would have forgotten it by now
    bob.core.suspend()
    bob.core.resume({ highestId: 0, entries: [] })
    bob.core.onFrame({ type: 'openCredit', channelCount: 64 })
    assert.equal(inbound.recorder.error, undefined)
    drainAll(bob, inbound.channel, inbound.recorder)
    assert.deepEqual(inbound.recorder.bytes.subarray(1), pattern(500))
    assert.equal(inbound.recorder.hasEnded, true)
  })

  it('I4: a channel that the other side closed while the link was down fails, whichever side opened it', () => {
    const { alice, bob } = pair()
    const { channel, recorder, inbound } = joined(alice, bob)
    for (const end of [alice, bob]) end.core.suspend()
    const highestId = channel.id
    alice.core.resume({ highestId, entries: [] })
    bob.core.resume({ highestId: 0, entries: [] })
    // its reset would have been the first frame
    assert.ok(!channel.isClosed && !inbound.channel.isClosed)
    for (const end of [alice, bob]) end.core.onFrame({ type: 'openCredit', channelCount: 64 })
    assert.equal(recorder.error?.code, 'ERR_RESET')
    assert.equal(inbound.recorder.error?.code, 'ERR_RESET')
    assert.equal(recorder.hasFinished || inbound.recorder.hasEnded, false)
  })

  it('credit and places that were granted on the lost link are granted again', () => {
    const { alice, bob } = pair()
    const { channel, inbound } = joined(alice, bob)
    alice.core.send(channel, [pattern(200_000)])
    settle(alice, bob)
    drainAll(bob, inbound.channel, inbound.recorder)
    const others = Array.from({ length: LIMITS.sessionOpenCreditCount - 1 }, () => alice.open())
    alice.produce()
    carry(alice, bob)
    // places and credit are on their way when the link goes
    bob.core.flushAcks()
    while (bob.isAwake) bob.produce()
    resume(alice, bob)
    for (let round = 0; round < 20; round++) {
      settle(alice, bob)
      drainAll(bob, inbound.channel, inbound.recorder)
    }
    assert.equal(inbound.recorder.receivedBytes, 200_001)
    const more = Array.from({ length: LIMITS.sessionOpenCreditCount }, () => alice.open())
    settle(alice, bob)
    assert.equal(bob.opened.length, 1 + others.length + more.length)
  })

  it('without a link nothing is produced, users go on, and what they did leaves with the next link', () => {
    const { alice, bob } = pair()
    const { channel, inbound } = joined(alice, bob)
    for (const end of [alice, bob]) end.core.suspend()
    alice.core.send(channel, [pattern(300)])
    const { channel: second } = alice.open('test', pattern(3))
    alice.core.send(second, [pattern(7)])
    bob.core.read(inbound.channel)
    assert.equal(alice.core.produce(65_536), undefined)
    assert.equal(bob.core.produce(65_536), undefined)
    alice.isAwake = false
    resume(alice, bob)
    assert.equal(alice.isAwake, true)
    settle(alice, bob)
    drainAll(bob, inbound.channel, inbound.recorder)
    assert.equal(inbound.recorder.receivedBytes, 301)
    assert.equal(bob.opened.length, 2)
  })

  it('I4: what a lost link still delivers, also the rest of a frame in work, is dropped', () => {
    const { alice, bob } = pair()
    const { channel, inbound } = joined(alice, bob)
    alice.core.send(channel, [pattern(5000, 5)])
    alice.produce()
    carry(alice, bob, 3000)
    const { receivedBytes } = inbound.channel
    for (const end of [alice, bob]) end.core.suspend()
    // the same decoder, as if nothing had happened
    alice.core.send(channel, [pattern(100)])
    carry(alice, bob)
    assert.equal(inbound.channel.receivedBytes, receivedBytes)
    resume(alice, bob)
    settle(alice, bob)
    drainAll(bob, inbound.channel, inbound.recorder)
    assert.deepEqual(inbound.recorder.bytes, new Uint8Array(Buffer.concat([pattern(1), pattern(5000, 5), pattern(100)])))
  })

  const entry = (id: number, change: Partial<ResumedEntry> = {}): ResumedEntry => ({ id, isFinReceived: false, receivedBytes: 1, limitBytes: 16_385, ...change })
  const LIES: Array<[name: string, peer: { highestId: number, entries: ResumedEntry[] }]> = [
    ['bytes beyond what was sent', { highestId: 2, entries: [entry(2, { receivedBytes: 1002 })] }],
    ['bytes taken back', { highestId: 2, entries: [entry(2, { receivedBytes: 0 })] }],
    ['a fin that was not sent', { highestId: 2, entries: [entry(2, { receivedBytes: 1001, limitBytes: 1001, isFinReceived: true })] }],
    ['credit beyond the maximum', { highestId: 2, entries: [entry(2, { limitBytes: 2 + LIMITS.channelMaxCreditBytes })] }],
    ['one channel twice', { highestId: 2, entries: [entry(2), entry(2)] }],
    ['channel 0', { highestId: 2, entries: [entry(2), entry(0)] }],
    ['a channel of ours that was never opened', { highestId: 2, entries: [entry(2), entry(4)] }],
    ['a highest channel that was never opened', { highestId: 4, entries: [entry(2)] }],
    ['a highest channel of its own', { highestId: 1, entries: [entry(2)] }],
    ['a channel that it knew and does not know any more', { highestId: 0, entries: [] }],
    ['bytes on a channel of its own that never arrived here', { highestId: 2, entries: [entry(2), entry(7)] }]
  ]
  for (const [name, peer] of LIES) {
    it(`a resume with ${name} is refused before anything has changed`, () => {
      const { alice, bob } = pair()
      const { channel, recorder, inbound } = joined(alice, bob)
      alice.core.send(channel, [pattern(1000)])
      alice.produce()
      for (const end of [alice, bob]) end.core.suspend()
      const before = JSON.stringify(alice.core.offsets())
      assert.throws(() => { alice.core.resume(peer) }, { code: 'ERR_PROTOCOL' })
      assert.equal(JSON.stringify(alice.core.offsets()), before)
      assert.equal(recorder.error, undefined)
      assert.equal(alice.core.inFlightBytes, 1000)
      assert.equal(alice.core.produce(65_536), undefined)
      // the truth is still taken
      resume(alice, bob)
      settle(alice, bob)
      drainAll(bob, inbound.channel, inbound.recorder)
      assert.equal(inbound.recorder.receivedBytes, 1001)
    })
  }

  it('I8: a peer that acknowledges nearly everything pins no more memory than the limit', () => {
    const { alice } = pair()
    const quiet = alice.open()
    const busy = alice.open()
    alice.produce()
    const ack = (channel: ChannelCore, receivedBytes: number): void => {
      alice.core.onFrame({ type: 'ack', channelId: channel.id, receivedBytes, limitBytes: receivedBytes + LIMITS.channelMaxCreditBytes, isFinReceived: false })
    }
    ack(quiet.channel, 0)
    ack(busy.channel, 0)
    // each message has a byte of the one channel, which is never acknowledged, and a lot of the other
    let sentBytes = 0
    for (let round = 0; round < 4000; round++) {
      alice.nowMs += 1
      alice.core.send(quiet.channel, [pattern(1)])
      alice.core.send(busy.channel, [pattern(50_000)])
      while (alice.produce() > 0);
      alice.wire = []
      sentBytes = busy.channel.sentBytes
      ack(busy.channel, sentBytes)
      assert.ok(alice.core.retainedBytes <= LIMITS.sessionRetainedBytes + 2 * 65_536)
    }
    assert.ok(sentBytes > LIMITS.sessionRetainedBytes / 2 && sentBytes < 1.5 * LIMITS.sessionRetainedBytes, `${sentBytes} sent`)
    alice.core.end(CANCELLED)
    assert.equal(alice.core.retainedBytes + alice.pool.retained.usedBytes + alice.pool.usedBytes, 0)
  })

  it('I8: a thousand closed channels leave 256 memories each', () => {
    const { alice, bob } = pair()
    for (let index = 0; index < 1000; index++) {
      const { channel, recorder, inbound } = joined(alice, bob)
      bob.opened = []
      if (index % 2 === 0) {
        alice.core.reset(channel, CANCELLED)
        settle(alice, bob)
        continue
      }
      alice.core.finish(channel)
      bob.core.finish(inbound.channel)
      settle(alice, bob)
      drainAll(alice, channel, recorder)
      drainAll(bob, inbound.channel, inbound.recorder)
      settle(alice, bob)
    }
    assert.equal(alice.core.offsets().entries.length, LIMITS.sessionClosedMemoryCount)
    resume(alice, bob)
    settle(alice, bob)
    assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
  })

  it('I4, I5, I8: whatever happens while links break at any byte, bytes are right, ends are true, budgets hold, all completes', () => {
    const side = fc.boolean()
    const command = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('open' as const), side }) },
      { weight: 8, arbitrary: fc.record({ kind: fc.constant('send' as const), pick: fc.nat(), size: fc.integer({ min: 1, max: 60_000 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('finish' as const), pick: fc.nat() }) },
      { weight: 8, arbitrary: fc.record({ kind: fc.constant('read' as const), pick: fc.nat(), times: fc.integer({ min: 1, max: 10 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), pick: fc.nat() }) },
      { weight: 8, arbitrary: fc.record({ kind: fc.constant('produce' as const), side, bytes: fc.integer({ min: 1, max: 70_000 }) }) },
      { weight: 8, arbitrary: fc.record({ kind: fc.constant('carry' as const), side, bytes: fc.integer({ min: 1, max: 50_000 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('acks' as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('resume' as const) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 12_000 }) }) }
    )
    fc.assert(fc.property(fc.array(command, { maxLength: 200, size: 'max' }), (commands) => {
      const both = new TwoEnds()
      for (const step of commands) {
        run(both, step)
        both.check()
      }
      both.complete()
    }), { numRuns: 150 })
  })

  it('I4, I5, I8: the same for thousands of steps, many channels and little memory', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 0x7fff_ffff }), fc.boolean(), (seed, isTight) => {
      let state = seed
      const random = (below: number): number => {
        state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9 | 0
        return (state >>> 8) % below
      }
      const both = new TwoEnds(isTight ? 3 * 1024 * 1024 : undefined)
      // phases: now many small channels, now bulk, now a reader that stands still
      for (let index = 0; index < 2500; index++) {
        const phase = Math.floor(index / 250) % 4
        const dice = random(100)
        const isSide = random(2) === 0
        const pick = random(1 << 20)
        if (dice < (phase === 0 ? 20 : 3)) run(both, { kind: 'open', side: isSide })
        else if (dice < 35) run(both, { kind: 'send', pick, size: 1 + random(phase === 1 ? 65_000 : 500) })
        else if (dice < 55) run(both, phase === 2 ? { kind: 'acks' } : { kind: 'read', pick, times: 1 + random(8) })
        else if (dice < 57) run(both, { kind: 'finish', pick })
        else if (dice < 58) run(both, { kind: 'reset', pick })
        else if (dice < 75) run(both, { kind: 'produce', side: isSide, bytes: 1 + random(70_000) })
        else if (dice < 92) run(both, { kind: 'carry', side: isSide, bytes: 1 + random(50_000) })
        else if (dice < 94) run(both, { kind: 'cut' })
        else if (dice < 98) run(both, { kind: 'resume' })
        else run(both, { kind: 'time', ms: 1 + random(3000) })
        both.check()
      }
      both.complete()
    }), { numRuns: 20 })
  })
})

type Step =
  | { kind: 'open', side: boolean }
  | { kind: 'send', pick: number, size: number }
  | { kind: 'finish' | 'reset', pick: number }
  | { kind: 'read', pick: number, times: number }
  | { kind: 'produce' | 'carry', side: boolean, bytes: number }
  | { kind: 'acks' | 'cut' | 'resume' }
  | { kind: 'time', ms: number }

function run (both: TwoEnds, step: Step): void {
  const end = 'side' in step && step.side ? both.ends[0] : both.ends[1]
  const side = 'pick' in step ? both.sides[step.pick % Math.max(1, both.sides.length)] : undefined
  switch (step.kind) {
    case 'open': both.open(end); return
    case 'send': side?.send(step.size); return
    case 'finish': side?.finish(); return
    case 'reset': side?.reset(); return
    case 'read': side?.read(step.times); return
    case 'produce': both.produce(end, step.bytes); return
    case 'carry': both.carry(end, step.bytes); return
    case 'acks': both.flushAcks(); return
    case 'cut': both.cut(); return
    case 'resume':
      if (both.state === 'lost') both.resumeController()
      else both.resumeOther()
      return
    case 'time': for (const one of both.ends) one.nowMs += step.ms
  }
}
