/** A sleep that can be cut short: for loops that act after a delay or at once when something happened. */
import type { Clock, Timer } from '../base/index.ts'

/** Remembers one wake-up until somebody waits for it. */
export interface Waker {
  wake: () => void
  /** Forgets a wake-up that nobody waited for. */
  clear: () => void
  /** Resolves after `delayMs` (undefined: never by itself), at the next wake-up, or when `signal` fires. Never rejects. */
  wait: (delayMs: number | undefined, signal: AbortSignal) => Promise<void>
}

/** Creates a waker for one waiting loop. */
export function createWaker (clock: Clock): Waker {
  let isAwake = false
  let release: (() => void) | undefined
  return {
    wake: () => {
      isAwake = true
      release?.()
    },
    clear: () => { isAwake = false },
    wait: async (delayMs, signal) => {
      if (!isAwake && !signal.aborted) {
        await new Promise<void>((resolve) => {
          let timer: Timer | undefined
          const done = (): void => {
            timer?.cancel()
            signal.removeEventListener('abort', done)
            release = undefined
            resolve()
          }
          release = done
          if (delayMs !== undefined) timer = clock.setTimer(done, delayMs)
          signal.addEventListener('abort', done, { once: true })
        })
      }
      isAwake = false
    }
  }
}
