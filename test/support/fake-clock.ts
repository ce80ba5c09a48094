/** A clock that moves only when a test says so. */
import type { Clock, Timer } from '../../src/base/index.ts'

/** A {@link Clock} under the test's control. */
export interface FakeClock extends Clock {
  /** Moves both clocks on by `ms`, firing due timers in order of their time (equal times: in order of setting); what they start runs before the next one fires. */
  advance: (ms: number) => Promise<void>
  /** Lets the wall clock jump, also backwards; timers and the monotonic clock do not notice. */
  setNow: (nowMs: number) => void
  /** Timers that were set and neither fired nor were cancelled: 0 at the end of a test that cleaned up. */
  pendingTimerCount: () => number
}

interface PendingTimer { dueMs: number, order: number, run: () => void }

/** Makes a clock that stands at `nowMs` (default: an instant in 2027, after every build date of this release). */
export function createFakeClock (init: { nowMs?: number } = {}): FakeClock {
  const pending = new Set<PendingTimer>()
  let elapsedMs = 0
  let wallOffsetMs = init.nowMs ?? Date.UTC(2027, 0, 2, 3, 4, 5)
  let order = 0

  function nextDue (limitMs: number): PendingTimer | undefined {
    let next: PendingTimer | undefined
    for (const timer of pending) {
      if (timer.dueMs > limitMs) continue
      if (next === undefined || timer.dueMs < next.dueMs || (timer.dueMs === next.dueMs && timer.order < next.order)) next = timer
    }
    return next
  }

  return {
    now: () => wallOffsetMs + elapsedMs,
    monotonicMs: () => elapsedMs,
    setTimer: (run, delayMs): Timer => {
      const timer: PendingTimer = { dueMs: elapsedMs + Math.max(0, delayMs), order: order++, run }
      pending.add(timer)
      return { cancel: () => { pending.delete(timer) } }
    },
    advance: async (ms) => {
      const targetMs = elapsedMs + ms
      await settle()
      for (let timer = nextDue(targetMs); timer !== undefined; timer = nextDue(targetMs)) {
        pending.delete(timer)
        elapsedMs = Math.max(elapsedMs, timer.dueMs)
        timer.run()
        await settle()
      }
      elapsedMs = targetMs
      await settle()
    },
    setNow: (nowMs) => { wallOffsetMs = nowMs - elapsedMs },
    pendingTimerCount: () => pending.size
  }
}

/** One turn of the event loop: every chain of promises that was ready has run to its end. */
async function settle (): Promise<void> {
  await new Promise<void>((resolve) => { setImmediate(resolve) })
}
