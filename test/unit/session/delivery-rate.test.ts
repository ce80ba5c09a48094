import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { Simulation } from './simulated-link.ts'

const MEGABIT = 125
/** The rest is headers. */
const PAYLOAD_SHARE = 0.998
/** Rate in bytes per millisecond, one-way delay, and after how many round trips the line rate must be there. */
const PATHS: Array<[name: string, bytesPerMs: number, delayMs: number, roundTrips: number]> = [
  ['20 Mbit/s × 50 ms', 20 * MEGABIT, 25, 10],
  ['200 Mbit/s × 100 ms', 200 * MEGABIT, 50, 13],
  ['1 Gbit/s × 20 ms', 1000 * MEGABIT, 10, 13],
  ['4 GB/s × 0.3 ms', 4_000_000, 0.15, 30]
]

/** What may stand in front of the link: a bandwidth-delay product and two messages, or the floor. */
function queueBoundMs (bytesPerMs: number, delayMs: number): number {
  return Math.max(2 * delayMs, LIMITS.sessionInFlightFloorBytes / bytesPerMs, 1.5 * LIMITS.sessionRoundTripFloorMs) + 2 * 65_477 / bytesPerMs
}

describe('bytes under way', () => {
  for (const [name, bytesPerMs, delayMs, roundTrips] of PATHS) {
    it(`reach the line rate of ${name} and keep it with a short queue`, () => {
      const simulation = new Simulation({ bytesPerMs, delayMs })
      simulation.startBulk()
      simulation.run(roundTrips * 2 * delayMs)
      for (let round = 0; round < 20; round++) {
        const rate = simulation.run(Math.max(6 * delayMs, 50 * 65_536 / bytesPerMs))
        assert.ok(rate >= 0.95 * bytesPerMs * PAYLOAD_SHARE, `round ${round}: ${Math.round(100 * rate / bytesPerMs)} %`)
        assert.ok(simulation.sender.queueMs <= queueBoundMs(bytesPerMs, delayMs), `a queue of ${simulation.sender.queueMs} ms`)
      }
      // once it knows the link, half a product waits
      assert.ok(simulation.sender.queueMs <= Math.max(1.1 * delayMs, LIMITS.sessionInFlightFloorBytes / bytesPerMs, 1.5 * LIMITS.sessionRoundTripFloorMs) + 65_477 / bytesPerMs)
    })
  }

  it('do not pile up with time: the round trip is looked for again, without the own queue', () => {
    const simulation = new Simulation({ bytesPerMs: 20 * MEGABIT, delayMs: 25 })
    simulation.startBulk()
    for (let second = 0; second < 120; second += 5) {
      const rate = simulation.run(5000)
      if (second > 0) assert.ok(rate >= 0.95 * 20 * MEGABIT * PAYLOAD_SHARE, `${rate} bytes/ms`)
      assert.ok(simulation.sender.core.inFlightLimitBytes <= 3 * 20 * MEGABIT * 50, `${simulation.sender.core.inFlightLimitBytes} bytes after ${second} s`)
    }
  })

  it('follow the link when it becomes slower or faster', () => {
    const simulation = new Simulation({ bytesPerMs: 100 * MEGABIT, delayMs: 20 })
    simulation.startBulk()
    simulation.run(3000)
    simulation.shape.bytesPerMs = 10 * MEGABIT
    simulation.run(12_000)
    assert.ok(simulation.sender.core.inFlightLimitBytes <= 3 * 10 * MEGABIT * 40, `${simulation.sender.core.inFlightLimitBytes} bytes`)
    simulation.shape.bytesPerMs = 200 * MEGABIT
    simulation.run(2000)
    assert.ok(simulation.run(1000) >= 0.95 * 200 * MEGABIT * PAYLOAD_SHARE)
  })

  it('are not trapped on the slowest links', () => {
    for (const [bytesPerMs, delayMs] of [[0.1 * MEGABIT, 10], [MEGABIT, 300], [20 * MEGABIT, 0.5]] as const) {
      const simulation = new Simulation({ bytesPerMs, delayMs })
      simulation.startBulk()
      simulation.run(100 * 65_536 / bytesPerMs)
      assert.ok(simulation.run(30 * 65_536 / bytesPerMs) >= 0.92 * bytesPerMs, `${bytesPerMs} bytes/ms`)
    }
  })

  it('start afresh on another link, and what is on the old one does not count against it', () => {
    const simulation = new Simulation({ bytesPerMs: 200 * MEGABIT, delayMs: 50 })
    const bulk = simulation.startBulk()
    simulation.run(3000)
    const { core } = simulation.sender
    assert.ok(core.inFlightBytes > 4 * LIMITS.sessionInFlightFirstBytes)
    const before = bulk.sentBytes
    core.linkChanged()
    assert.equal(core.inFlightLimitBytes, LIMITS.sessionInFlightFirstBytes)
    simulation.run(20)
    assert.ok(bulk.sentBytes - before > LIMITS.sessionInFlightFirstBytes / 2, `${bulk.sentBytes - before} bytes`)
    simulation.run(2000)
    assert.ok(simulation.run(1000) >= 0.95 * 200 * MEGABIT * PAYLOAD_SHARE)
  })

  it('are few when the sender has little to send, and bulk that follows is not held up by that', () => {
    const simulation = new Simulation({ bytesPerMs: 200 * MEGABIT, delayMs: 50 })
    const channel = simulation.sender.core.open('keys', new Uint8Array(0))
    for (let index = 0; index < 200; index++) {
      simulation.sender.core.send(channel, [new Uint8Array(64)])
      simulation.run(20)
    }
    simulation.startBulk()
    simulation.run(13 * 100)
    assert.ok(simulation.run(1000) >= 0.95 * 200 * MEGABIT * PAYLOAD_SHARE)
  })
})
