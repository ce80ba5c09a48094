import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ReceiveBlocks } from '../../../src/session/byte-queues.ts'
import { AckSchedule } from '../../../src/session/ack-schedule.ts'
import { ChannelCore } from '../../../src/session/channel-core.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import { BlockStore, RetainedBudget } from '../../../src/session/retained.ts'

function setup (): { acks: AckSchedule, clock: { nowMs: number }, seen: { due: number, delayed: number }, channel: (id: number) => ChannelCore } {
  const clock = { nowMs: 0 }
  const seen = { due: 0, delayed: 0 }
  const acks = new AckSchedule({ now: () => clock.nowMs }, { onDue: () => { seen.due++ }, onDelayed: () => { seen.delayed++ } })
  const retained = new RetainedBudget(new CreditPool(1_000_000), new BlockStore())
  return { acks, clock, seen, channel: (id) => new ChannelCore({ id, kind: 'test', isLocal: false, sendLimitBytes: 0, grantedBytes: 16_384, nowMs: 0, retained, receiveBlocks: new ReceiveBlocks() }) }
}

/** Takes everything that is due, as the core does; the result is the ids. */
function take (acks: AckSchedule): number[] {
  const ids: number[] = []
  for (let channel = acks.takeDue(); channel !== undefined; channel = acks.takeDue()) {
    channel.ackState = 'clean'
    ids.push(channel.id)
  }
  return ids.toSorted((one, other) => one - other)
}

describe('acknowledgements', () => {
  it('of a little wait, for company or for the delay', () => {
    const { acks, seen, channel } = setup()
    const [one, other] = [channel(2), channel(4)]
    acks.noteReceived(one, 100)
    acks.noteReceived(other, 100)
    acks.noteReceived(one, 100)
    assert.deepEqual(seen, { due: 0, delayed: 1 })
    assert.deepEqual(take(acks), [])
    acks.flush()
    assert.deepEqual(seen, { due: 1, delayed: 1 })
    assert.deepEqual(take(acks), [2, 4])
  })

  it('are due at 32 KiB over all channels: a sender with 64 KiB under way never waits for the delay', () => {
    const { acks, seen, channel } = setup()
    const channels = Array.from({ length: 64 }, (_, index) => channel(2 + 2 * index))
    for (const one of channels) acks.noteReceived(one, 511)
    assert.equal(seen.due, 0)
    for (const one of channels) acks.noteReceived(one, 2)
    assert.equal(seen.due, 1)
    assert.equal(take(acks).length, 64)
  })

  it('become fewer on a fast link, one per millisecond, and more again when it is slow', () => {
    const { acks, clock, channel } = setup()
    const one = channel(2)
    let count = 0
    const receive = (bytesPerMs: number, milliseconds: number): number => {
      count = 0
      for (let slice = 0; slice < milliseconds * 16; slice++) {
        clock.nowMs += 1 / 16
        acks.noteReceived(one, bytesPerMs / 16)
        count += take(acks).length
      }
      return count
    }
    receive(256 * 1024, 100)
    assert.ok(receive(256 * 1024, 100) <= 110, `${count} acknowledgements`)
    receive(2_500, 200)
    assert.ok(receive(2_500, 1000) >= 70, `${count} acknowledgements`)
  })

  it('of channels that closed, or were answered meanwhile, are left out', () => {
    const { acks, channel } = setup()
    const [one, other] = [channel(2), channel(4)]
    acks.now(one)
    acks.now(one)
    acks.now(other)
    other.isClosed = true
    assert.deepEqual(take(acks), [2])
    acks.noteReceived(one, 10)
    acks.now(one)
    assert.deepEqual(take(acks), [2])
    assert.equal(acks.takeDelayed(), undefined)
  })
})
