/** Whether a figure stands still over a time: a straight line through its samples. Pure. */
import { median } from '../support/statistics.ts'

/** One value at its time. */
export interface Point { atMs: number, value: number }

/** How a figure moved over a span of time. */
export interface Trend {
  /** The median of the samples. */
  middle: number
  /** What the line through the samples rises by over the whole span; negative when it falls. */
  growth: number
  sampleCount: number
}

/**
 * The line through the points whose slope is the median of those between every two of them (Theil and Sen), read over
 * `spanMs`: what happened to be under way at one sample does not move it. Without two points at different times: no growth.
 */
export function trendOf (points: readonly Point[], spanMs: number): Trend {
  const slopes = points.flatMap((one, index) => points.slice(index + 1)
    .filter(({ atMs }) => atMs !== one.atMs)
    .map((other) => (other.value - one.value) / (other.atMs - one.atMs)))
  return {
    middle: points.length === 0 ? 0 : median(points.map(({ value }) => value)),
    growth: slopes.length === 0 ? 0 : median(slopes) * spanMs,
    sampleCount: points.length
  }
}

/** What a figure may grow by: an amount, or a share of its median, whichever is more. */
export interface GrowthBound { amount: number, share: number }

/** True when it stands still, or falls. */
export function isFlat (trend: Trend, bound: GrowthBound): boolean {
  return trend.growth <= Math.max(bound.amount, bound.share * trend.middle)
}
