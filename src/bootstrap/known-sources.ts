/** Sources that have had a connection with a proven key for a while: what tells the devices of a relay from a flood that has just begun. */
import { LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'

/** The sources; it holds no more than there are connections. */
export interface KnownSources {
  /** A connection of that source was proven; the given function is called once, at its end. */
  add: (source: string) => () => void
  /** True when one of the source has been there for long enough. */
  has: (source: string) => boolean
}

/** Creates it without any. */
export function createKnownSources (clock: Pick<Clock, 'monotonicMs'>): KnownSources {
  /** Since when each connection is there, the oldest first. */
  const sources = new Map<string, Set<{ sinceMs: number }>>()
  return {
    add: (source) => {
      const one = { sinceMs: clock.monotonicMs() }
      const same = sources.get(source) ?? new Set()
      sources.set(source, same.add(one))
      return () => {
        same.delete(one)
        if (same.size === 0 && sources.get(source) === same) sources.delete(source)
      }
    },
    has: (source) => {
      const [oldest] = sources.get(source) ?? []
      return oldest !== undefined && clock.monotonicMs() - oldest.sinceMs >= LIMITS.relayKnownSourceMs
    }
  }
}
