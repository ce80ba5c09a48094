/** How often one friend, and all of them together, may make this node knock at addresses that they choose. */
import { LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** Counts the rounds of the last LIMITS.punchAnswerSpanMs. */
export interface LinkPunchBudget {
  /** Counts one more; false, and nothing is counted, when there is no room for it. */
  take: (device: Did) => boolean
}

/** Creates empty counts: LIMITS.punchAnswerCount rounds for each friend. */
export function createLinkPunchBudget (clock: Pick<Clock, 'monotonicMs'>, init: { totalCount: number, minGapMs: number }): LinkPunchBudget {
  const takenMs = new Map<Did, number[]>()
  return {
    take: (device) => {
      const nowMs = clock.monotonicMs()
      const recent = (takenMs.get(device) ?? []).filter((atMs) => nowMs - atMs < LIMITS.punchAnswerSpanMs)
      for (const [friend, times] of takenMs) if (nowMs - (times.at(-1) ?? 0) >= LIMITS.punchAnswerSpanMs) takenMs.delete(friend)
      let allCount = 0
      for (const times of takenMs.values()) allCount += times.length
      if (recent.length >= LIMITS.punchAnswerCount || allCount >= init.totalCount || nowMs - (recent.at(-1) ?? -Infinity) < init.minGapMs) return false
      takenMs.set(device, [...recent, nowMs])
      return true
    }
  }
}
