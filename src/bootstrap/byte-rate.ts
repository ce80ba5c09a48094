/** A token bucket that several senders of one peer share: who comes too early waits for a timer, so nothing turns idly. */
import type { Clock, Timer } from '../base/index.ts'

/** One bucket. */
export interface ByteRate {
  /** Charges bytes that were read. False: stop to read; `resume` is called when it may go on, in the order of the calls. */
  charge: (byteCount: number, resume: () => void) => boolean
  /** Forgets a waiter. */
  cancel: (resume: () => void) => void
}

/** Creates a full bucket. It holds a tenth of a second, at least 64 KiB. */
export function createByteRate (clock: Clock, init: { bytesPerSecond: number }): ByteRate {
  const { bytesPerSecond } = init
  const burstBytes = Math.max(bytesPerSecond / 10, 64 * 1024)
  const waiting = new Set<() => void>()
  let balance = burstBytes
  let filledAtMs = clock.monotonicMs()
  let timer: Timer | undefined

  function fill (): void {
    const nowMs = clock.monotonicMs()
    balance = Math.min(burstBytes, balance + (nowMs - filledAtMs) * bytesPerSecond / 1000)
    filledAtMs = nowMs
  }

  function arm (): void {
    if (timer !== undefined || waiting.size === 0) return
    timer = clock.setTimer(onTimer, Math.max(MIN_WAIT_MS, -balance * 1000 / bytesPerSecond))
  }

  function onTimer (): void {
    timer = undefined
    fill()
    if (balance >= 0) {
      // all of them: each reads one piece, and waits behind the others again
      const due = [...waiting]
      waiting.clear()
      for (const resume of due) resume()
    }
    arm()
  }

  return {
    charge: (byteCount, resume) => {
      fill()
      balance -= byteCount
      if (balance >= 0) return true
      waiting.add(resume)
      arm()
      return false
    },
    cancel: (resume) => {
      waiting.delete(resume)
      if (waiting.size > 0) return
      timer?.cancel()
      timer = undefined
    }
  }
}

const MIN_WAIT_MS = 5
