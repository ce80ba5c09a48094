/** A token bucket that several senders share: who comes too early waits for a timer, so nothing turns idly. */
import type { Clock, Timer } from '../base/index.ts'

/** One bucket. */
export interface ByteRate {
  /** Charges bytes that were read. False: stop to read; `resume` is called when it may go on, in the order of the calls. */
  charge: (byteCount: number, resume: () => void) => boolean
  /** Forgets a waiter. */
  cancel: (resume: () => void) => void
  /** Looks at the rate again, which the operator has changed. */
  refresh: () => void
}

/** How fast a bucket fills now; undefined: there is no bound. Asked for each charge, so that it can change. */
export type BytesPerSecond = () => number | undefined

/** Creates a full bucket. It holds a tenth of a second, at least 64 KiB; what was read beyond is a debt, so that the mean is exact. */
export function createByteRate (clock: Clock, init: { bytesPerSecond: BytesPerSecond }): ByteRate {
  const waiting = new Set<() => void>()
  let balance = burstBytes(init.bytesPerSecond() ?? 0)
  let filledAtMs = clock.monotonicMs()
  let timer: Timer | undefined

  function fill (bytesPerSecond: number): void {
    const nowMs = clock.monotonicMs()
    balance = Math.min(burstBytes(bytesPerSecond), balance + (nowMs - filledAtMs) * bytesPerSecond / 1000)
    filledAtMs = nowMs
  }

  function arm (bytesPerSecond: number): void {
    if (timer !== undefined || waiting.size === 0) return
    timer = clock.setTimer(onTimer, Math.max(MIN_WAIT_MS, -balance * 1000 / bytesPerSecond))
  }

  function onTimer (): void {
    timer = undefined
    const bytesPerSecond = init.bytesPerSecond()
    if (bytesPerSecond !== undefined) fill(bytesPerSecond)
    else balance = 0
    if (balance >= 0) {
      // all of them: each reads one piece, and waits behind the others again
      const due = [...waiting]
      waiting.clear()
      for (const resume of due) resume()
    }
    if (bytesPerSecond !== undefined) arm(bytesPerSecond)
  }

  return {
    charge: (byteCount, resume) => {
      const bytesPerSecond = init.bytesPerSecond()
      if (bytesPerSecond === undefined) return true
      fill(bytesPerSecond)
      balance -= byteCount
      if (balance >= 0) return true
      waiting.add(resume)
      arm(bytesPerSecond)
      return false
    },
    cancel: (resume) => {
      waiting.delete(resume)
      if (waiting.size > 0) return
      timer?.cancel()
      timer = undefined
    },
    refresh: () => {
      timer?.cancel()
      onTimer()
    }
  }
}

/** What a bucket of this rate holds. */
export function burstBytes (bytesPerSecond: number): number {
  return Math.max(bytesPerSecond / 10, MIN_BURST_BYTES)
}

const MIN_WAIT_MS = 5
const MIN_BURST_BYTES = 64 * 1024
