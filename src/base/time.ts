/** Time as a collaborator: everything in src/ that waits or reads a clock takes a Clock. */
import { CarrierError } from './errors.ts'

/** A timer that was set; `cancel` is idempotent. */
export interface Timer { cancel: () => void }

/** Wall clock, monotonic clock and timers. Production uses {@link systemClock}; tests a fake. */
export interface Clock {
  /** Epoch milliseconds; may jump. For records and expiry only. */
  now: () => number
  /** Milliseconds from an arbitrary origin; never goes back. For durations. */
  monotonicMs: () => number
  /** Calls `run` once after `delayMs`. The timer does not keep the process alive. */
  setTimer: (run: () => void, delayMs: number) => Timer
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer: (run, delayMs) => {
    const handle = setTimeout(run, Math.min(delayMs, 0x7fffffff))
    handle.unref()
    return { cancel: () => { clearTimeout(handle) } }
  }
}

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export async function sleep (clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      timer.cancel()
      reject(signal?.reason as Error)
    }
    const timer = clock.setTimer(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, delayMs)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** An AbortSignal that fires with ERR_TIMEOUT after `delayMs`, joined with `parent`; `[Symbol.dispose]` frees the timer. */
export interface Deadline { signal: AbortSignal, [Symbol.dispose]: () => void }

/**
 * Starts a deadline at the edge of an operation; pass `signal` down and dispose when the operation ends.
 *
 * @example using deadline = startDeadline(clock, 10_000, 'no answer from the peer', signal)
 */
export function startDeadline (clock: Clock, delayMs: number, message: string, parent?: AbortSignal): Deadline {
  const controller = new AbortController()
  const timer = clock.setTimer(() => { controller.abort(new CarrierError('ERR_TIMEOUT', message)) }, delayMs)
  const onAbort = (): void => { controller.abort(parent?.reason) }
  if (parent?.aborted === true) onAbort()
  else parent?.addEventListener('abort', onAbort, { once: true })
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      timer.cancel()
      parent?.removeEventListener('abort', onAbort)
    }
  }
}

/** Waits for `promise` but not longer than `signal`: rejects with its reason. The work behind `promise` must itself obey the signal. */
export async function abortable<T> (promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (signal === undefined) return promise
  if (signal.aborted) {
    // nobody will hear of its failure any more
    promise.catch(() => {})
    throw signal.reason
  }
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => { reject(signal.reason as Error) }
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => { signal.removeEventListener('abort', onAbort) })
  })
}

/** How delays between attempts grow. */
export interface BackoffInit { firstMs: number, maxMs: number, factor: number }

/** The delay before attempt `attempt` (0-based): exponential, capped, with full-width jitter of ±25 % from `random()` in [0, 1). Pure. */
export function backoffMs (init: BackoffInit, attempt: number, random: () => number): number {
  const base = Math.min(init.maxMs, init.firstMs * init.factor ** Math.min(attempt, 64))
  return Math.round(base * (0.75 + random() * 0.5))
}
