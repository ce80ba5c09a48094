/** Flat is what does not grow; noise is no growth, and growth under noise is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isFlat, trendOf } from '../../soak/flatness.ts'

const MINUTE_MS = 60_000
const SPAN_MS = 20 * MINUTE_MS
const BOUND = { amount: 2_000_000, share: 0.05 }
const line = (start: number, perMinute: number, noise: readonly number[]): Array<{ atMs: number, value: number }> => noise.map((extra, minute) => ({ atMs: minute * MINUTE_MS, value: start + perMinute * minute + extra }))

test('a straight line grows by its slope', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 1e8 }), fc.integer({ min: -1e6, max: 1e6 }), (start, perMinute) => {
    const { growth } = trendOf(line(start, perMinute, Array<number>(21).fill(0)), SPAN_MS)
    assert.ok(Math.abs(growth - 20 * perMinute) < 1, `${growth}`)
  }))
})

test('noise of half a megabyte is flat at 40 MB, and a leak of 200 kB a minute under it is not', () => {
  const noise = fc.array(fc.integer({ min: -250_000, max: 250_000 }), { minLength: 21, maxLength: 21 })
  fc.assert(fc.property(noise, (extra) => {
    assert.ok(isFlat(trendOf(line(40e6, 0, extra), SPAN_MS), BOUND))
    assert.ok(!isFlat(trendOf(line(40e6, 200_000, extra), SPAN_MS), BOUND))
    assert.ok(isFlat(trendOf(line(40e6, -200_000, extra), SPAN_MS), BOUND))
  }))
})

test('a few outliers do not move it', () => {
  fc.assert(fc.property(fc.uniqueArray(fc.nat(20), { maxLength: 4 }), fc.integer({ min: -20e6, max: 20e6 }), (minutes, extra) => {
    const noise = Array.from({ length: 21 }, (_, minute) => minutes.includes(minute) ? extra : 0)
    assert.equal(trendOf(line(40e6, 0, noise), SPAN_MS).growth, 0)
  }))
})

test('fewer than two samples tell nothing', () => {
  assert.deepEqual(trendOf([], SPAN_MS), { middle: 0, growth: 0, sampleCount: 0 })
  assert.deepEqual(trendOf([{ atMs: 5, value: 7 }], SPAN_MS), { middle: 7, growth: 0, sampleCount: 1 })
})
