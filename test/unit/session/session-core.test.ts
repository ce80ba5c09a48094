import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import { carry, End, pattern, settle, step as tick } from './support.ts'
import type { Recorder } from './support.ts'
import type { ChannelCore } from '../../../src/session/channel-core.ts'

function pair (): { alice: End, bob: End } {
  return { alice: new End(true), bob: new End(false) }
}

/** Reads everything that is there. */
function drainAll (end: End, channel: ChannelCore, recorder: Recorder): void {
  for (let before = -1; before !== recorder.receivedBytes && !recorder.hasEnded;) {
    before = recorder.receivedBytes
    end.core.read(channel)
  }
}

describe('session core', () => {
  it('carries the opening message and the first data in one flight, and both ends of the stream', () => {
    const { alice, bob } = pair()
    const { channel, recorder } = alice.open('forward', pattern(100))
    alice.core.send(channel, [pattern(5000)])
    alice.core.finish(channel)
    alice.produce()
    carry(alice, bob)
    const [inbound] = bob.opened
    assert.ok(inbound)
    assert.deepEqual(inbound.message, pattern(100))
    assert.equal(inbound.channel.kind, 'forward')
    drainAll(bob, inbound.channel, inbound.recorder)
    assert.deepEqual(inbound.recorder.bytes, pattern(5000))
    assert.equal(inbound.recorder.hasEnded, true)
    assert.equal(recorder.hasFinished, false)
    settle(alice, bob)
    assert.equal(recorder.hasFinished, true)
    assert.equal(recorder.hasEnded, false, 'the other direction stays open')
    bob.core.send(inbound.channel, [pattern(3000, 9)])
    bob.core.finish(inbound.channel)
    settle(alice, bob)
    drainAll(alice, channel, recorder)
    settle(alice, bob)
    assert.deepEqual(recorder.bytes, pattern(3000, 9))
    assert.equal(recorder.hasEnded, true)
    assert.equal(alice.core.channelCount, 0)
    assert.equal(bob.core.channelCount, 0)
  })

  it('I4: a lost link is never a clean end: every channel that is not complete fails', () => {
    const { alice, bob } = pair()
    const { channel, recorder } = alice.open()
    alice.core.send(channel, [pattern(1000)])
    alice.core.finish(channel)
    alice.produce()
    carry(alice, bob)
    // everything and the fin arrived, but the acknowledgement is lost
    alice.core.end(new CarrierError('ERR_LINK_LOST', 'cut'))
    assert.equal(recorder.error?.code, 'ERR_LINK_LOST')
    assert.equal(recorder.hasFinished, false)
    const [inbound] = bob.opened
    assert.ok(inbound)
    bob.core.end(new CarrierError('ERR_LINK_LOST', 'cut'))
    assert.equal(inbound.recorder.hasEnded, false)
    assert.equal(inbound.recorder.error?.code, 'ERR_LINK_LOST')
  })

  it('resets reach the other side with their code and free everything', () => {
    const { alice, bob } = pair()
    const before = bob.pool.usedBytes
    const { channel, recorder } = alice.open()
    alice.core.send(channel, [pattern(8000)])
    settle(alice, bob)
    const [inbound] = bob.opened
    assert.ok(inbound)
    bob.core.reset(inbound.channel, new CarrierError('ERR_TARGET_UNREACHABLE', 'no'))
    settle(alice, bob)
    assert.equal(recorder.error?.code, 'ERR_TARGET_UNREACHABLE')
    assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
    assert.equal(alice.core.inFlightBytes, 0)
    assert.equal(bob.pool.usedBytes, before)
    // bytes that nobody will acknowledge any more do not count as under way
    const third = alice.open()
    settle(alice, bob)
    bob.opened.pop()
    alice.core.send(third.channel, [pattern(8000)])
    alice.produce()
    assert.equal(alice.core.inFlightBytes, 8000)
    alice.core.reset(third.channel, new CarrierError('ERR_CANCELLED', 'enough'))
    assert.equal(alice.core.inFlightBytes, 0)
    settle(alice, bob)
    // data that was under way when the reset left is dropped, not a violation
    const second = alice.open()
    settle(alice, bob)
    const inbound2 = bob.opened[1]
    assert.ok(inbound2)
    alice.core.send(second.channel, [pattern(8000)])
    alice.produce()
    bob.core.reset(inbound2.channel, new CarrierError('ERR_CANCELLED', 'enough'))
    settle(alice, bob)
    assert.equal(second.recorder.error?.code, 'ERR_CANCELLED')
    assert.equal(inbound2.recorder.receivedBytes, 0)
  })

  it('a channel that is reset before its open frame left is never seen by the other side', () => {
    const { alice, bob } = pair()
    const first = alice.open()
    alice.core.reset(first.channel, new CarrierError('ERR_CANCELLED', 'changed my mind'))
    const second = alice.open()
    settle(alice, bob)
    assert.equal(bob.opened.length, 1)
    assert.equal(bob.opened[0]?.channel.id, second.channel.id)
    assert.equal(second.recorder.error, undefined)
  })

  it('I8: a reader that stands still gets its credit and no more, and does not hold up the others', () => {
    const { alice, bob } = pair()
    const stuck = alice.open()
    alice.core.send(stuck.channel, [pattern(4_000_000)])
    const others = Array.from({ length: 20 }, () => alice.open())
    for (const [index, other] of others.entries()) alice.core.send(other.channel, [pattern(300_000, index)])
    for (let round = 0; round < 200; round++) {
      settle(alice, bob)
      for (const inbound of bob.opened.slice(1)) drainAll(bob, inbound.channel, inbound.recorder)
    }
    for (const [index, inbound] of bob.opened.slice(1).entries()) assert.deepEqual(inbound.recorder.bytes, pattern(300_000, index))
    const [stuckInbound] = bob.opened
    assert.ok(stuckInbound)
    assert.equal(stuckInbound.recorder.receivedBytes, 0)
    assert.equal(stuckInbound.channel.receiveQueue.byteCount, LIMITS.channelInitialCreditBytes, 'a window grows only under a reader that reads')
  })

  it('I8: more channels than the open credit wait for it and all open in the end', () => {
    const { alice, bob } = pair()
    const channels = Array.from({ length: LIMITS.sessionChannelCount }, () => alice.open())
    assert.throws(() => alice.open(), { code: 'ERR_LIMIT' })
    for (const [index, { channel }] of channels.entries()) {
      alice.core.send(channel, [pattern(100, 2 * (index + 1))])
      alice.core.finish(channel)
    }
    alice.produce(1 << 24)
    carry(alice, bob)
    assert.equal(bob.opened.length, LIMITS.sessionOpenCreditCount)
    settle(alice, bob)
    assert.equal(bob.opened.length, LIMITS.sessionChannelCount)
    for (const { channel, recorder } of bob.opened) {
      drainAll(bob, channel, recorder)
      assert.deepEqual(recorder.bytes, pattern(100, channel.id))
      assert.equal(recorder.hasEnded, true)
    }
    assert.ok(bob.core.creditBytes <= LIMITS.sessionCreditBytes)
  })

  it('channels given up while they waited for open credit use up none of it, and leave nothing behind', () => {
    const { alice, bob } = pair()
    // given up before anything could leave: their places are not lost
    for (let index = 0; index < 200; index++) alice.core.reset(alice.open().channel, new CarrierError('ERR_CANCELLED', 'gave up'))
    const busy = Array.from({ length: LIMITS.sessionChannelCount - 1 }, () => alice.open())
    settle(alice, bob)
    assert.equal(bob.opened.length, LIMITS.sessionChannelCount - 1)
    for (let index = 0; index < 5000; index++) {
      const { channel } = alice.open()
      if (index % 100 === 0) settle(alice, bob)
      alice.core.reset(channel, new CarrierError('ERR_CANCELLED', 'gave up'))
    }
    settle(alice, bob)
    assert.equal(alice.core.channelCount, busy.length)
    alice.core.reset(busy[0]?.channel as ChannelCore, new CarrierError('ERR_CANCELLED', 'enough'))
    settle(alice, bob)
    const before = bob.opened.length
    alice.open()
    settle(alice, bob)
    assert.equal(bob.opened.length, before + 1)
  })

  it('a place that is free can be used: the peer hears of it before it has to wait', () => {
    const { alice, bob } = pair()
    const channels = Array.from({ length: LIMITS.sessionChannelCount }, () => alice.open())
    settle(alice, bob)
    for (let count = 1; count <= LIMITS.sessionChannelCount; count += 97) {
      for (const { channel } of channels.splice(0, count)) alice.core.reset(channel, new CarrierError('ERR_CANCELLED', 'enough'))
      settle(alice, bob)
      const before = bob.opened.length
      for (let index = 0; index < count && channels.length < LIMITS.sessionChannelCount; index++) channels.push(alice.open())
      settle(alice, bob)
      assert.equal(bob.opened.length, before + count)
    }
  })

  it('an inbound channel keeps its place until its handler is done: opening and resetting is no way around the limit', () => {
    const alice = new End(true)
    const slow = new End(false)
    let pendingCount = 0
    slow.core.settle = () => { pendingCount++ }
    for (let index = 0; index < 3000; index++) {
      const { channel } = alice.open()
      // opens that wait for credit do not leave: a reset takes them back
      settle(alice, slow)
      alice.core.reset(channel, new CarrierError('ERR_CANCELLED', 'churn'))
      settle(alice, slow)
    }
    assert.equal(pendingCount, LIMITS.sessionChannelCount)
  })

  it('ten thousand channels one after the other leave nothing behind', () => {
    const { alice, bob } = pair()
    for (let index = 0; index < 10_000; index++) {
      const { channel, recorder } = alice.open()
      alice.core.send(channel, [Uint8Array.of(index & 255)])
      alice.core.finish(channel)
      settle(alice, bob)
      const inbound = bob.opened.pop()
      assert.ok(inbound)
      drainAll(bob, inbound.channel, inbound.recorder)
      bob.core.finish(inbound.channel)
      settle(alice, bob)
      drainAll(alice, channel, recorder)
      settle(alice, bob)
      assert.equal(recorder.hasEnded && recorder.hasFinished, true)
    }
    assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
    assert.equal(bob.core.creditBytes, alice.core.creditBytes)
    assert.equal(bob.core.creditBytes, LIMITS.sessionOpenCreditCount * LIMITS.channelInitialCreditBytes)
  })

  it('an end of the session fails all channels with its error, frees everything and says nothing more', () => {
    const { alice, bob } = pair()
    const { channel, recorder } = alice.open()
    const late = alice.open()
    settle(alice, bob)
    alice.core.send(channel, [pattern(500)])
    alice.core.end(new CarrierError('ERR_REVOKED', 'withdrawn'))
    alice.core.end(new CarrierError('ERR_CLOSED', 'again'))
    for (const one of [recorder, late.recorder]) assert.equal(one.error?.code, 'ERR_REVOKED')
    assert.throws(() => alice.open(), { code: 'ERR_CLOSED' })
    assert.equal(alice.pool.usedBytes + alice.pool.retained.usedBytes, 0)
    assert.equal(alice.core.produce(65_536), undefined)
  })

  it('senders take turns: a small channel beside bulk waits for no more than one frame of each', () => {
    const { alice, bob } = pair()
    const bulk = Array.from({ length: 4 }, () => alice.open())
    const small = alice.open()
    settle(alice, bob)
    for (const { channel } of bulk) alice.core.send(channel, [pattern(200_000)])
    alice.core.send(small.channel, [pattern(10)])
    alice.produce(5 * (LIMITS.sessionFramePayloadBytes + 16))
    carry(alice, bob)
    const inbound = bob.opened[4]
    assert.ok(inbound)
    drainAll(bob, inbound.channel, inbound.recorder)
    assert.equal(inbound.recorder.receivedBytes, 10)
  })

  it('I4, I8: whatever the order of things, delivered is a prefix of sent, ends are true, credit stays in its budget, nothing locks', () => {
    const command = fc.oneof(
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('open' as const), side: fc.boolean() }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('send' as const), side: fc.boolean(), pick: fc.nat(), size: fc.integer({ min: 1, max: 120_000 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('finish' as const), side: fc.boolean(), pick: fc.nat() }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('read' as const), side: fc.boolean(), pick: fc.nat(), times: fc.integer({ min: 1, max: 20 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), side: fc.boolean(), pick: fc.nat() }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('produce' as const), side: fc.boolean(), bytes: fc.integer({ min: 1, max: 100_000 }) }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant('carry' as const), side: fc.boolean(), bytes: fc.integer({ min: 1, max: 40_000 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('acks' as const), side: fc.boolean() }) }
    )
    // the default size would make ten commands of it
    fc.assert(fc.property(fc.array(command, { maxLength: 150, size: 'max' }), fc.option(fc.nat(200), { nil: undefined }), (commands, cutAt) => {
      const ends: [End, End] = [new End(true), new End(false)]
      interface Side { end: End, channel: ChannelCore, recorder: Recorder, sent: Uint8Array[], hasFinished: boolean, hasReset: boolean }
      const sides = new Map<ChannelCore, Side>()
      const sync = (): void => {
        for (const end of ends) {
          for (const { channel, recorder } of end.opened) {
            if (!sides.has(channel)) sides.set(channel, { end, channel, recorder, sent: [], hasFinished: false, hasReset: false })
          }
        }
      }
      // a channel has no number before its open frame left, and nobody at the other end
      const other = ({ channel, end }: Side): Side | undefined => [...sides.values()].find((side) => channel.id !== 0 && side.end !== end && side.channel.id === channel.id)
      const check = (): void => {
        for (const end of ends) {
          assert.ok(end.core.creditBytes <= LIMITS.sessionCreditBytes)
          assert.ok(end.core.inFlightBytes >= 0 && end.core.inFlightBytes <= LIMITS.sessionInFlightBytes)
        }
        for (const side of sides.values()) {
          const peer = other(side)
          const sent = Buffer.concat(peer?.sent ?? [])
          const got = side.recorder.bytes
          assert.equal(Buffer.compare(got, sent.subarray(0, got.length)), 0, 'delivered is a prefix of sent')
          assert.ok(side.channel.receivedBytes - side.channel.consumedBytes <= LIMITS.channelMaxCreditBytes)
          if (side.recorder.hasEnded) assert.ok(peer?.hasFinished === true && got.length === sent.length, 'an end is true')
          if (side.recorder.hasFinished) assert.equal(peer?.channel.receivedBytes, Buffer.concat(side.sent).length)
        }
      }
      commands.forEach((step, index) => {
        if (index === cutAt) for (const end of ends) end.core.end(new CarrierError('ERR_LINK_LOST', 'cut'))
        const end = ends[step.side ? 0 : 1]
        const own = [...sides.values()].filter((side) => side.end === end)
        const side = 'pick' in step && own.length > 0 ? own[step.pick % own.length] : undefined
        switch (step.kind) {
          case 'open':
            if (cutAt === undefined || index < cutAt) {
              const { channel, recorder } = end.open()
              sides.set(channel, { end, channel, recorder, sent: [], hasFinished: false, hasReset: false })
            }
            break
          case 'send':
            if (side !== undefined && !side.hasFinished && !side.channel.isClosed) {
              const bytes = pattern(step.size, sides.size * 1000 + side.sent.length)
              side.sent.push(bytes)
              end.core.send(side.channel, [bytes])
            }
            break
          case 'finish':
            if (side !== undefined && !side.channel.isClosed) {
              side.hasFinished = true
              end.core.finish(side.channel)
            }
            break
          case 'read': if (side !== undefined) for (let time = 0; time < step.times; time++) end.core.read(side.channel); break
          case 'reset':
            if (side !== undefined) {
              side.hasReset = true
              end.core.reset(side.channel, new CarrierError('ERR_CANCELLED', 'enough'))
            }
            break
          case 'produce': end.produce(step.bytes); break
          case 'carry': carry(end, step.side ? ends[1] : ends[0], step.bytes); break
          case 'acks': end.core.flushAcks(); break
        }
        sync()
        if (index % 8 === 0) check()
      })
      check()
      if (cutAt !== undefined && cutAt < commands.length) {
        for (const side of sides.values()) {
          assert.equal(side.channel.isClosed, true)
          if (!(side.recorder.hasEnded && side.recorder.hasFinished)) assert.notEqual(side.recorder.error, undefined, 'unfinished channels fail')
        }
        return
      }
      // with readers that read, everything that was sent arrives
      for (let round = 0; round < 60; round++) {
        settle(...ends)
        sync()
        for (const side of sides.values()) for (let time = 0; time < 30; time++) side.end.core.read(side.channel)
      }
      settle(...ends)
      check()
      for (const side of sides.values()) {
        const peer = other(side)
        if (side.hasReset || peer?.hasReset === true) continue
        assert.equal(side.recorder.receivedBytes, Buffer.concat(peer?.sent ?? []).length, 'no deadlock: all arrives')
        assert.equal(side.recorder.hasEnded, peer?.hasFinished ?? false)
      }
    }), { numRuns: 200 })
  })

  it('I8: no more than the bound is under way, and acknowledgements set the sender going again', () => {
    const { alice, bob } = pair()
    const channels = Array.from({ length: 8 }, () => alice.open())
    for (const { channel } of channels) alice.core.send(channel, [pattern(4_000_000)])
    // windows grow while the readers keep up
    for (let round = 0; round < 200; round++) {
      tick(alice, bob, 100)
      for (const { channel, recorder } of bob.opened) drainAll(bob, channel, recorder)
    }
    settle(alice, bob)
    for (const { channel } of channels) alice.core.send(channel, [pattern(1_000_000)])
    while (alice.produce() > 0);
    assert.ok(alice.core.inFlightBytes <= alice.core.inFlightLimitBytes && alice.core.inFlightBytes > alice.core.inFlightLimitBytes / 2)
    assert.ok(alice.core.inFlightLimitBytes <= LIMITS.sessionInFlightBytes)
    carry(alice, bob)
    bob.core.flushAcks()
    while (bob.produce() > 0);
    alice.isAwake = false
    carry(bob, alice)
    assert.equal(alice.isAwake, true)
    assert.ok(alice.produce() > 0)
  })

  it('messages are filled: whole frames, as long as allowed, in memory of exactly their size that nobody writes to again', () => {
    const { alice, bob } = pair()
    const { channel } = alice.open()
    alice.core.send(channel, [pattern(10_000)])
    const first = alice.core.produce(65_477)
    assert.equal(first?.length, 8 + 1 + 4 + 16 + 10_000)
    assert.equal(first?.buffer.byteLength, first?.length)
    alice.core.onFrame({ type: 'ack', channelId: channel.id, receivedBytes: 10_000, limitBytes: 1_000_000, isFinReceived: false })
    const chunk = pattern(100_000)
    alice.core.send(channel, [chunk])
    const second = alice.core.produce(65_477)
    assert.equal(second?.length, 65_477)
    assert.equal(second?.buffer.byteLength, 65_477)
    const before = Buffer.from(second ?? [])
    const third = alice.core.produce(65_477)
    assert.equal(third?.length, 100_000 + 16 * 7 - 65_477)
    // the writer may use its own memory again
    chunk.fill(0)
    assert.equal(Buffer.compare(before, second ?? new Uint8Array(0)), 0)
    assert.equal(bob.opened.length, 0)
  })

  it('a keystroke does not wait behind bulk that waits for acknowledgements', () => {
    const { alice, bob } = pair()
    const bulk = alice.open()
    const keys = alice.open()
    settle(alice, bob)
    alice.core.onFrame({ type: 'ack', channelId: bulk.channel.id, receivedBytes: 0, limitBytes: 10_000_000, isFinReceived: false })
    alice.core.send(bulk.channel, [pattern(2_000_000)])
    while (alice.produce() > 0);
    assert.ok(alice.core.inFlightBytes > LIMITS.sessionInFlightFirstBytes - 512 && alice.core.inFlightBytes <= LIMITS.sessionInFlightFirstBytes)
    alice.core.send(keys.channel, [pattern(1)])
    assert.equal(alice.produce(), 17)
    // but that is not a way around the bound
    alice.core.send(keys.channel, [pattern(1)])
    assert.equal(alice.produce(), 0)
  })

  it('both directions busy with every buffer full still move', () => {
    const { alice, bob } = pair()
    const channels = Array.from({ length: 40 }, () => alice.open())
    settle(alice, bob)
    for (const { channel } of channels) alice.core.send(channel, [pattern(1_000_000, channel.id)])
    for (const { channel } of bob.opened) bob.core.send(channel, [pattern(1_000_000, channel.id + 1)])
    settle(alice, bob)
    assert.ok(bob.core.creditBytes <= LIMITS.sessionCreditBytes)
    for (let round = 0; round < 400; round++) {
      for (const { channel, recorder } of channels) drainAll(alice, channel, recorder)
      for (const { channel, recorder } of bob.opened) drainAll(bob, channel, recorder)
      settle(alice, bob)
    }
    for (const { recorder } of [...channels, ...bob.opened]) assert.equal(recorder.receivedBytes, 1_000_000)
  })
})
