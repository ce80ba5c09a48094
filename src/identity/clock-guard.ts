/**
 * What to make of the machine's wall clock. A clock that is earlier than this release or than the last time that was
 * stored is *unsure*: "not yet valid" is then ignored and expiry counts from the last time that is known to have passed.
 */
import { errorMessage, silentLogger } from '../base/index.ts'
import type { Clock, Database, Logger, Startable, Timer } from '../base/index.ts'

/** Schema of the clock guard, one script per version. */
export const CLOCK_MIGRATIONS: readonly string[] = [`
  CREATE TABLE clock_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_seen_at INTEGER NOT NULL
  ) STRICT;
`]

/** Steps back up to this much are ordinary clock corrections. */
export const CLOCK_SKEW_MS = 60_000

const REMEMBER_INTERVAL_MS = 60_000

/** The last instant that a Date can hold. */
const MAX_DATE_MS = 8.64e15

/** What is known about the present. */
export interface ClockFacts {
  /** The wall clock. */
  nowMs: number
  /** When this release was made; no true clock is earlier. */
  buildAt: number
  /** A time that has certainly passed already; 0 when none is known. */
  lastSeenAt: number
}

/** The time to reckon with: the wall clock when sure, else the latest time that has certainly passed. */
export type ClockVerdict = { isSure: true, atMs: number } | { isSure: false, atMs: number, reason: string }

/** Judges the clock. Pure. */
export function judgeClock (facts: ClockFacts): ClockVerdict {
  const { nowMs, buildAt, lastSeenAt } = facts
  const atMs = Math.max(nowMs, buildAt, lastSeenAt)
  if (nowMs < buildAt) {
    return { isSure: false, atMs, reason: `the clock of this machine (${isoTime(nowMs)}) is earlier than this release of Carrier (${isoTime(buildAt)}); set it` }
  }
  if (nowMs < lastSeenAt - CLOCK_SKEW_MS) {
    return { isSure: false, atMs, reason: `the clock of this machine (${isoTime(nowMs)}) is earlier than when Carrier last ran (${isoTime(lastSeenAt)}); set it` }
  }
  return { isSure: true, atMs: nowMs }
}

/** True when something that is valid from `validFrom` on is not valid yet. Pure; an unsure clock refuses nothing. */
export function isNotYetValid (verdict: ClockVerdict, validFrom: number): boolean {
  return verdict.isSure && verdict.atMs + CLOCK_SKEW_MS < validFrom
}

/** True when something that is valid until `validUntil` has expired. Pure. */
export function isExpired (verdict: ClockVerdict, validUntil: number): boolean {
  return verdict.atMs - CLOCK_SKEW_MS > validUntil
}

/** The clock rules with their memory. */
export interface ClockGuard extends Startable {
  /** The verdict for this moment. */
  judge: () => ClockVerdict
  /** True while the wall clock cannot be right. */
  isUnsure: () => boolean
  /** Forgets the stored time: for a person who knows that the clock is right now and was wrong before. */
  trustNow: () => void
}

/** What the guard works with. */
export interface ClockGuardComponents {
  clock: Clock
  /** Has the tables of {@link CLOCK_MIGRATIONS}; stays the caller's and must be open until `stop`. */
  database: Database
  log?: Logger
}

/** Makes the guard; the stored time is read now and written once a minute between `start` and `stop`. */
export function createClockGuard (components: ClockGuardComponents, init: { buildDateMs: number }): ClockGuard {
  const { clock, database, log = silentLogger } = components
  const buildAt = init.buildDateMs
  let referenceAt = Number(database.get('SELECT last_seen_at FROM clock_state WHERE id = 1')?.['last_seen_at'] ?? 0)
  let referenceMonotonicMs = clock.monotonicMs()
  let timer: Timer | undefined

  function judge (): ClockVerdict {
    // while the wall clock is wrong, time still passes: the monotonic clock carries the stored time on
    const elapsedMs = clock.monotonicMs() - referenceMonotonicMs
    const carriedAt = Math.max(referenceAt, buildAt) + elapsedMs
    const verdict = judgeClock({ nowMs: clock.now(), buildAt, lastSeenAt: referenceAt })
    return verdict.isSure ? verdict : { ...verdict, atMs: Math.max(verdict.atMs, carriedAt) }
  }

  function remember (): void {
    const verdict = judge()
    referenceMonotonicMs = clock.monotonicMs()
    referenceAt = Math.max(referenceAt, Math.floor(verdict.atMs))
    store(referenceAt)
  }

  function store (lastSeenAt: number): void {
    database.run('INSERT INTO clock_state (id, last_seen_at) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET last_seen_at = excluded.last_seen_at', lastSeenAt)
  }

  function tick (): void {
    try {
      remember()
    } catch (err) {
      // a time that is not stored weakens a later start a little; the node goes on
      log.warn('the time could not be stored; trying again in a minute', { reason: errorMessage(err) })
    }
    timer = clock.setTimer(tick, REMEMBER_INTERVAL_MS)
  }

  return {
    judge,
    isUnsure: () => !judge().isSure,
    trustNow: () => {
      referenceAt = Math.floor(clock.now())
      referenceMonotonicMs = clock.monotonicMs()
      store(referenceAt)
    },
    start: async () => {
      if (timer !== undefined) return
      const verdict = judge()
      if (!verdict.isSure) log.warn(verdict.reason)
      tick()
    },
    stop: async () => {
      if (timer === undefined) return
      timer.cancel()
      timer = undefined
      remember()
    }
  }
}

function isoTime (atMs: number): string {
  return new Date(Math.min(atMs, MAX_DATE_MS)).toISOString()
}
