import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import { ReceiveBlocks, ReceiveQueue } from '../../../src/session/byte-queues.ts'
import { encodeSessionFrame, writeDataHeader } from '../../../src/session/frames.ts'
import type { Frame } from '../../../src/session/frames.ts'
import { carry, End, pattern, settle } from './support.ts'

/** A data frame. */
function data (channelId: number, offsetBytes: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + payload.length)
  writeDataHeader(bytes, 0, channelId, offsetBytes, payload.length)
  bytes.set(payload, 16)
  return bytes
}

type Step = Frame | Uint8Array

/** bob is honest and not the controller; the hostile controller sends `steps`. Channel 1 is bob's, channel 2 is open and got 100 bytes. */
function attacked (...steps: Step[]): { bob: End, run: () => void } {
  const bob = new End(false)
  bob.core.open('mine', new Uint8Array(0))
  bob.produce()
  bob.wire = []
  const before: Step[] = [{ type: 'open', channelId: 2, kind: 'test', message: new Uint8Array(0) }, data(2, 0, pattern(100))]
  const push = (step: Step): void => { bob.decoder.push(step instanceof Uint8Array ? step : encodeSessionFrame(step)) }
  before.forEach(push)
  return { bob, run: () => { steps.forEach(push) } }
}

const OPEN = { type: 'open' as const, kind: 'test', message: new Uint8Array(0) }
const ACK = { type: 'ack' as const, isFinReceived: false, limitBytes: 0, receivedBytes: 0 }

const VIOLATIONS: Array<[name: string, ...steps: Step[]]> = [
  ['data before what was sent', data(2, 99, pattern(10))],
  ['data with a gap', data(2, 101, pattern(10))],
  ['data that is repeated', data(2, 0, pattern(100))],
  ['data beyond the credit', data(2, 100, pattern(16_000)), data(2, 16_100, pattern(16_000))],
  ['data after the fin', { type: 'fin', channelId: 2, finalBytes: 100 }, data(2, 100, pattern(1))],
  ['a second fin', { type: 'fin', channelId: 2, finalBytes: 100 }, { type: 'fin', channelId: 2, finalBytes: 100 }],
  ['a fin before its bytes', { type: 'fin', channelId: 2, finalBytes: 101 }],
  ['a fin that takes bytes back', { type: 'fin', channelId: 2, finalBytes: 99 }],
  ['data for a channel that was never opened', data(4, 0, pattern(1))],
  ['data for a channel of ours that was never opened', data(3, 0, pattern(1))],
  ['an ack for a channel that was never opened', { ...ACK, channelId: 4 }],
  ['a reset for a channel that was never opened', { type: 'reset', channelId: 6, code: 1 }],
  ['a fin for a channel that was never opened', { type: 'fin', channelId: 5, finalBytes: 0 }],
  ['an open with a number of ours', { ...OPEN, channelId: 3 }],
  ['an open with a number that is in use', { ...OPEN, channelId: 2 }],
  ['an open with a number that goes back', { ...OPEN, channelId: 10 }, { ...OPEN, channelId: 8 }],
  ['an open beyond the open credit', { ...OPEN, channelId: 2 * (LIMITS.sessionOpenCreditCount + 1) }],
  ['an ack beyond what was sent', { ...ACK, channelId: 1, receivedBytes: 1, limitBytes: 1 }],
  ['an ack for a fin that was not sent', { ...ACK, channelId: 1, isFinReceived: true }],
  ['credit beyond the maximum', { ...ACK, channelId: 1, limitBytes: LIMITS.channelMaxCreditBytes + 1 }],
  ['credit that overflows', { ...ACK, channelId: 1, limitBytes: Number.MAX_SAFE_INTEGER }],
  ['a pong among the frames of channels', { type: 'pong', sequence: 1 }],
  ['an auth message among the frames of channels', { type: 'auth', isLast: true, body: pattern(5) }],
  ['a datagram, a feature that was not agreed on', { type: 'datagram', channelId: 2, body: pattern(5) }],
  ['a hello in the middle', { type: 'hello', body: new Uint8Array(10) }],
  ['a welcome in the middle', { type: 'welcome', body: new Uint8Array(10) }],
  ['a confirm in the middle', { type: 'confirm', sequence: 1 }]
]

describe('session core against a hostile peer', () => {
  for (const [name, ...steps] of VIOLATIONS) {
    it(`${name} ends the session with ERR_PROTOCOL and delivers nothing wrong`, () => {
      const { bob, run } = attacked(...steps)
      assert.throws(run, { code: 'ERR_PROTOCOL' })
      const [inbound] = bob.opened
      assert.ok(inbound)
      for (let time = 0; time < 5; time++) bob.core.read(inbound.channel)
      assert.deepEqual(inbound.recorder.bytes.subarray(0, 100), pattern(100))
      if (!name.includes('fin') && !name.includes('beyond the credit')) assert.equal(inbound.recorder.receivedBytes, 100)
    })
  }

  it('frames for channels that are closed by now are dropped without harm', () => {
    const { bob, run } = attacked({ type: 'reset', channelId: 2, code: 13 }, data(2, 5_000_000, pattern(1000)), { ...ACK, channelId: 2, receivedBytes: 9, limitBytes: 9 },
      { type: 'fin', channelId: 2, finalBytes: 4 }, { type: 'reset', channelId: 2, code: 1 })
    run()
    assert.equal(bob.opened[0]?.recorder.error?.code, 'ERR_RESET')
    assert.equal(bob.core.channelCount, 1)
  })

  it('a repeated ack and lower credit change nothing', () => {
    const alice = new End(true)
    const bob = new End(false)
    const { channel, recorder } = alice.open()
    alice.core.send(channel, [pattern(50_000)])
    settle(alice, bob)
    const limit = channel.sendLimitBytes
    for (const [received, credit] of [[0, 0], [channel.ackedBytes, limit - 1], [channel.ackedBytes, limit]] as const) {
      alice.decoder.push(encodeSessionFrame({ ...ACK, channelId: channel.id, receivedBytes: received, limitBytes: credit }))
    }
    assert.equal(channel.sendLimitBytes, limit)
    assert.equal(recorder.error, undefined)
    assert.ok(alice.core.inFlightBytes >= 0)
  })

  it('I8: floods of opens, resets and acks leave no growing state', () => {
    const bob = new End(false)
    let ended = false
    try {
      for (let channelId = 2; channelId < 1_000_000; channelId += 2) {
        bob.decoder.push(encodeSessionFrame({ ...OPEN, channelId }))
        bob.decoder.push(encodeSessionFrame({ type: 'reset', channelId, code: 13 }))
      }
    } catch (err) {
      ended = (err as CarrierError).code === 'ERR_PROTOCOL'
    }
    assert.equal(ended, true, 'without the credit frames that it does not wait for, the peer cannot go on')
    assert.equal(bob.core.channelCount, 0)
    assert.ok(bob.opened.length <= LIMITS.sessionOpenCreditCount)
  })

  it('I8: one byte per frame costs about one byte of memory, and small views do not keep large chunks alive', () => {
    const queue = new ReceiveQueue(new ReceiveBlocks())
    const chunk = new Uint8Array(65_536)
    for (let index = 0; index < 100_000; index++) queue.add(chunk.subarray(index % 65_536, (index % 65_536) + 1), 100_000)
    let pieces = 0
    let buffers = 0
    for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
      pieces++
      buffers += piece.buffer.byteLength
      assert.notEqual(piece.buffer, chunk.buffer)
    }
    assert.ok(pieces < 30 && buffers < 220_000, `${pieces} pieces, ${buffers} bytes`)
  })

  it('I8: a block is never larger than what the channel may bring', () => {
    const queue = new ReceiveQueue(new ReceiveBlocks())
    queue.add(new Uint8Array(4096), 16_384)
    assert.ok((queue.shift()?.buffer.byteLength ?? Infinity) <= 16_384)
    queue.add(new Uint8Array(12_288), 12_288)
    assert.equal(queue.shift()?.buffer.byteLength, 12_288)
  })

  it('I8: queues keep order and every byte whatever the sizes are', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 9000 }), fc.boolean()), { maxLength: 60, size: 'max' }), (steps) => {
      const queue = new ReceiveQueue(new ReceiveBlocks())
      const added: Uint8Array[] = []
      const taken: Uint8Array[] = []
      for (const [size, shouldShift] of steps) {
        const bytes = pattern(size, size + added.length)
        added.push(bytes)
        queue.add(bytes, 20_000)
        const piece = shouldShift ? queue.shift() : undefined
        if (piece !== undefined) taken.push(piece.slice())
      }
      for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) taken.push(piece)
      assert.equal(Buffer.compare(Buffer.concat(taken), Buffer.concat(added)), 0)
      assert.equal(queue.byteCount, 0)
    }))
  })

  it('I8: a node whose credit is used up refuses opens and grants less, and gets everything back', () => {
    const node = new CreditPool(3 * 1024 * 1024)
    const alice = new End(true)
    const bob = new End(false, node.limitBytes)
    const channels = Array.from({ length: 60 }, () => alice.open())
    for (const { channel } of channels) alice.core.send(channel, [pattern(200_000, channel.id)])
    for (let round = 0; round < 100; round++) {
      settle(alice, bob)
      for (const { channel } of bob.opened) for (let time = 0; time < 20; time++) bob.core.read(channel)
      assert.ok(bob.pool.usedBytes <= bob.pool.limitBytes)
    }
    for (const { recorder } of bob.opened) assert.equal(recorder.receivedBytes, 200_000)
    assert.throws(() => { for (let index = 0; index < 1000; index++) bob.open() }, { code: 'ERR_LIMIT' })
    bob.core.end(new CarrierError('ERR_CLOSED', 'done'))
    assert.equal(bob.pool.usedBytes, 0)
  })

  it('I4: random frames from a peer never deliver a wrong byte and never throw anything but a protocol error', () => {
    const channelId = fc.integer({ min: 1, max: 8 })
    const small = fc.integer({ min: 0, max: 300 })
    const step: fc.Arbitrary<Step> = fc.oneof(
      channelId.map((id): Step => ({ ...OPEN, channelId: id })),
      fc.tuple(channelId, small, fc.integer({ min: 1, max: 100 })).map(([id, offset, size]): Step => data(id, offset, pattern(400).subarray(offset, offset + size))),
      fc.record({ type: fc.constant('fin' as const), channelId, finalBytes: small }),
      fc.record({ type: fc.constant('ack' as const), channelId, receivedBytes: small, limitBytes: small, isFinReceived: fc.boolean() }),
      fc.record({ type: fc.constant('reset' as const), channelId, code: small }),
      fc.record({ type: fc.constant('openCredit' as const), channelCount: small })
    )
    fc.assert(fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
      const { bob } = attacked()
      try {
        for (const one of steps) {
          bob.decoder.push(one instanceof Uint8Array ? one : encodeSessionFrame(one))
          bob.produce()
          for (const { channel } of bob.opened) bob.core.read(channel)
        }
      } catch (err) {
        assert.ok(err instanceof CarrierError && err.code === 'ERR_PROTOCOL', String(err))
      }
      // honest or not, the bytes of channel n at offset k are those of the pattern
      for (const { recorder, channel } of bob.opened) {
        if (channel.id !== 2) assert.deepEqual(recorder.bytes, pattern(400).slice(0, recorder.receivedBytes))
      }
    }), { numRuns: 2000 })
  })

  it('a channel that is complete but for an ack is not reset any more', () => {
    const alice = new End(true)
    const bob = new End(false)
    const { channel, recorder } = alice.open()
    settle(alice, bob)
    const [inbound] = bob.opened
    assert.ok(inbound)
    bob.core.finish(inbound.channel)
    bob.core.read(inbound.channel)
    settle(alice, bob)
    alice.core.read(channel)
    alice.core.finish(channel)
    alice.produce()
    carry(alice, bob)
    assert.equal(inbound.recorder.hasEnded && inbound.recorder.hasFinished, true)
    // what a stream's automatic destroy does before the ack has left
    bob.core.reset(inbound.channel, new CarrierError('ERR_RESET', 'destroyed'))
    settle(alice, bob)
    assert.equal(recorder.error, undefined)
    assert.equal(recorder.hasFinished, true)
    assert.equal(alice.core.channelCount + bob.core.channelCount, 0)
  })
})
