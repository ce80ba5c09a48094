/** Rates that are shared: exact in the mean, and fair. Senders are simulated with a fake clock. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { createByteRate } from '../../../src/bootstrap/byte-rate.ts'
import type { ByteRate } from '../../../src/bootstrap/byte-rate.ts'
import { createFairRate } from '../../../src/bootstrap/fair-rate.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'

const KIB = 1024
const MB = 1_000_000

/** A sender of pieces; `wantsPerSecond` undefined: as fast as it may. */
function startSender (clock: FakeClock, rate: ByteRate, init: { pieceBytes: number, wantsPerSecond?: number }): { sentBytes: () => number } {
  let sentBytes = 0
  let isHeld = false
  let owedBytes = 0
  function send (): void {
    if (isHeld || (init.wantsPerSecond !== undefined && owedBytes < init.pieceBytes)) return
    owedBytes -= init.pieceBytes
    sentBytes += init.pieceBytes
    isHeld = !rate.charge(init.pieceBytes, goOn)
  }
  function goOn (): void {
    isHeld = false
    // reading goes on in a later turn
    if (init.wantsPerSecond === undefined) clock.setTimer(send, 0)
  }
  function tick (): void {
    // an honest sender of 2 ms sends what has come up since; a greedy one tries 20 pieces
    if (init.wantsPerSecond !== undefined) owedBytes += init.wantsPerSecond / 500
    for (let index = 0; index < 20; index++) send()
    clock.setTimer(tick, 2)
  }
  clock.setTimer(tick, 0)
  return { sentBytes: () => sentBytes }
}

describe('a rate of one account', () => {
  for (const flowCount of [1, 20]) {
    test(`bytes per second are within 10 % of the limit over 10 s (${flowCount} senders)`, async () => {
      const clock = createFakeClock()
      const rate = createByteRate(clock, { bytesPerSecond: () => 4 * MB })
      const senders = Array.from({ length: flowCount }, () => startSender(clock, rate, { pieceBytes: 64 * KIB }))
      await clock.advance(10_000)
      const total = senders.reduce((sum, sender) => sum + sender.sentBytes(), 0)
      assert.ok(Math.abs(total / (40 * MB) - 1) <= 0.1, `${total} bytes in 10 s`)
      const counts = senders.map((sender) => sender.sentBytes())
      assert.ok(Math.max(...counts) <= 1.3 * Math.min(...counts), `senders of one account share: ${counts.join(' ')}`)
    })
  }
})

describe('a rate that accounts share', () => {
  test('the whole is within 10 % of the limit, and equal wishes get equal shares', async () => {
    const clock = createFakeClock()
    const whole = createFairRate(clock, { bytesPerSecond: () => 8 * MB })
    const one = startSender(clock, whole.join(), { pieceBytes: 64 * KIB })
    const other = startSender(clock, whole.join(), { pieceBytes: 64 * KIB })
    await clock.advance(10_000)
    const total = one.sentBytes() + other.sentBytes()
    assert.ok(Math.abs(total / (80 * MB) - 1) <= 0.1, `${total} bytes`)
    assert.ok(Math.abs(one.sentBytes() / other.sentBytes() - 1) < 0.1, `${one.sentBytes()} and ${other.sentBytes()}`)
  })

  test('one heavy account with many senders leaves a light one at least 90 % of its rate alone, and takes what it leaves', async () => {
    const clock = createFakeClock()
    const whole = createFairRate(clock, { bytesPerSecond: () => 8 * MB })
    const heavyShare = whole.join()
    const heavy = Array.from({ length: 20 }, () => startSender(clock, heavyShare, { pieceBytes: 128 * KIB }))
    await clock.advance(2_000)
    const before = heavy.reduce((sum, sender) => sum + sender.sentBytes(), 0)
    const light = startSender(clock, whole.join(), { pieceBytes: 16 * KIB, wantsPerSecond: 2 * MB })
    await clock.advance(10_000)
    assert.ok(light.sentBytes() >= 0.9 * 20 * MB, `the light one sent ${light.sentBytes()} of 20 MB`)
    const heavyBytes = heavy.reduce((sum, sender) => sum + sender.sentBytes(), 0) - before
    assert.ok(Math.abs(heavyBytes / (60 * MB) - 1) <= 0.1, `the heavy one sent ${heavyBytes}, 60 MB were left`)
  })

  test('I8: many accounts together get no more than the whole, whatever their pieces', async () => {
    const clock = createFakeClock()
    const whole = createFairRate(clock, { bytesPerSecond: () => 8 * MB })
    const ready = new Set<() => boolean>()
    const sent = new Array<number>(500).fill(0)
    for (const index of sent.keys()) {
      const share = whole.join()
      const pieceBytes = (index % 2 === 0 ? 64 : 16) * KIB
      const send = (): boolean => {
        sent[index] = (sent[index] ?? 0) + pieceBytes
        return share.charge(pieceBytes, () => { ready.add(send) })
      }
      ready.add(send)
    }
    async function run (ms: number): Promise<number[]> {
      const before = [...sent]
      for (let atMs = 0; atMs < ms; atMs += 5) {
        for (const send of [...ready]) {
          ready.delete(send)
          while (send()) { /* as much as goes */ }
        }
        await clock.advance(5)
      }
      return sent.map((bytes, index) => bytes - (before[index] ?? 0))
    }
    // what they have saved up and their first piece is a burst
    await run(10_000)
    const counts = await run(10_000)
    const total = counts.reduce((sum, bytes) => sum + bytes, 0)
    assert.ok(total <= 1.1 * 80 * MB && total >= 0.9 * 80 * MB, `${total} bytes in 10 s`)
    const [large, small] = [0, 1].map((half) => counts.filter((_, index) => index % 2 === half).reduce((sum, bytes) => sum + bytes, 0)) as [number, number]
    assert.ok(Math.abs(large / small - 1) <= 0.2, `${large} in large pieces, ${small} in small ones`)
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 3 * 64 * KIB, `from ${Math.min(...counts)} to ${Math.max(...counts)}`)
  })

  test('who has fallen silent counts no more when shares are made, also when nobody waited', async () => {
    const clock = createFakeClock()
    const whole = createFairRate(clock, { bytesPerSecond: () => MB })
    const [light, heavy] = [whole.join(), whole.join()]
    for (let index = 0; index < 999; index++) whole.join().charge(1, () => {})
    await clock.advance(2_000)
    assert.equal(heavy.charge(10 * MB, () => {}), false)
    assert.equal(light.charge(50 * KIB, () => {}), true, 'half the rate was its share')
  })

  test('who is alone gets everything, and waiting costs one timer', async () => {
    const clock = createFakeClock()
    const whole = createFairRate(clock, { bytesPerSecond: () => 8 * MB })
    const idle = whole.join()
    idle.charge(1, () => {})
    const alone = startSender(clock, whole.join(), { pieceBytes: 64 * KIB })
    await clock.advance(10_000)
    assert.ok(Math.abs(alone.sentBytes() / (80 * MB) - 1) <= 0.1, `${alone.sentBytes()} bytes`)
  })
})
