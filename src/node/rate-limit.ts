/** How often something may happen within one second, by key. */
import type { Clock } from '../base/index.ts'

/** Counts of the present second. */
export interface RateLimit {
  /** Counts one more; false when the second has no room left for this key. */
  take: (key: string) => boolean
}

/** Creates empty counts; they are forgotten every second, so the table holds what one second brings. */
export function createRateLimit (clock: Pick<Clock, 'monotonicMs'>, perSecondCount: number): RateLimit {
  const counts = new Map<string, number>()
  let startedAtMs = clock.monotonicMs()
  return {
    take: (key) => {
      const nowMs = clock.monotonicMs()
      if (nowMs - startedAtMs >= 1000) {
        startedAtMs = nowMs
        counts.clear()
      }
      const count = (counts.get(key) ?? 0) + 1
      counts.set(key, count)
      return count <= perSecondCount
    }
  }
}
