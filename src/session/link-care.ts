/** What is under way for the links of one session, and when a way that failed is tried again. */
import { backoffMs, LIMITS } from '../base/index.ts'
import type { Timer } from '../base/index.ts'
import type { LinkWay } from './link-choice.ts'
import type { Link } from './link.ts'

/** A way to another link. */
export type Way = LinkWay | 'punch'

/** Mutable record of one session. */
export interface LinkCare {
  /** The next look, at `dueMs`. */
  timer: Timer | undefined
  dueMs: number
  readonly opening: Set<Way>
  /** Links that we opened and that are not yet the session's. */
  readonly joining: Set<{ link: Link, resolve: (isJoined: boolean) => void }>
  /** When the session was last seen in use; undefined while it is not. */
  inUseAtMs: number | undefined
  /** Since when every link runs over a relay that leaves. */
  leavingSinceMs: number | undefined
  readonly lastFailure: Partial<Record<Way, string | undefined>>
  /** Failures in a row and when the next attempt may be, for each way. */
  readonly delays: Map<Way, { failureCount: number, notBeforeMs: number }>
  punchWorkedAtMs: number | undefined
  /** Fires when the session ends: what is being opened for it ends too. */
  readonly ended: AbortController
  quickLossCount: number
}

/** A record without history. */
export function createLinkCare (): LinkCare {
  return { timer: undefined, dueMs: 0, opening: new Set(), joining: new Set(), inUseAtMs: undefined, leavingSinceMs: undefined, lastFailure: {}, delays: new Map(), punchWorkedAtMs: undefined, quickLossCount: 0, ended: new AbortController() }
}

/** When the way may be tried, monotonic milliseconds. */
export function notBeforeMs (care: LinkCare, way: Way): number {
  return care.delays.get(way)?.notBeforeMs ?? 0
}

/** Something changed: what failed before may work now. */
export function forgetFailures (care: LinkCare, ...ways: Way[]): void {
  if (ways.length === 0) care.delays.clear()
  for (const way of ways) care.delays.delete(way)
}

/** The way came to nothing. Punches: two attempts, then longer and longer, as most routers do not change their mind. */
export function noteFailure (care: LinkCare, way: Way, reason: string, nowMs: number, random: () => number): void {
  const count = care.delays.get(way)?.failureCount ?? 0
  care.lastFailure[way] = reason
  care.delays.set(way, { failureCount: count + 1, notBeforeMs: nowMs + delayMs(care, way, count, random) })
}

function delayMs (care: LinkCare, way: Way, failureCount: number, random: () => number): number {
  // a spare fails because the friend is not on the other relay yet: both come back to a restarted one within a moment
  if (way === 'spare') return backoffMs({ firstMs: LIMITS.linkSpareRetryFirstMs, maxMs: LIMITS.linkRetryMaxMs, factor: 3 }, failureCount, random)
  if (way !== 'punch') return backoffMs({ firstMs: LIMITS.linkRetryFirstMs, maxMs: LIMITS.linkRetryMaxMs, factor: 3 }, failureCount, random)
  if (failureCount === 0) return LIMITS.punchQuickRetryMs
  return backoffMs({ firstMs: LIMITS.punchRetryFirstMs, maxMs: care.punchWorkedAtMs === undefined ? LIMITS.punchRetryMaxMs : LIMITS.punchRetryFirstMs, factor: 2 }, failureCount - 1, random)
}

/** The way led to a link. A path that was punched and dies young, again and again, is worth less each time. */
export function noteSuccess (care: LinkCare, way: Way, nowMs: number): void {
  care.lastFailure[way] = undefined
  care.delays.delete(way)
  if (way !== 'punch') return
  const isQuick = care.punchWorkedAtMs !== undefined && nowMs - care.punchWorkedAtMs < LIMITS.punchSoundMs
  care.quickLossCount = isQuick ? care.quickLossCount + 1 : 0
  care.punchWorkedAtMs = nowMs
  care.delays.set(way, { failureCount: 0, notBeforeMs: nowMs + Math.min(LIMITS.punchRetryMaxMs, LIMITS.punchRetryFirstMs * 2 ** care.quickLossCount) })
}
