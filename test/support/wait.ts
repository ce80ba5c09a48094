/** Waiting in tests: for a condition with a deadline, never for luck. */

/** How long and how often to look. */
export interface WaitOptions { deadlineMs: number, intervalMs?: number }

/** For what comes at once unless something is broken: no assertion about time, so that a machine that stands still for a while fails no test. */
export const PATIENCE_MS = 60_000

/** {@link PATIENCE_MS} with an interval for conditions that cost nothing to look at. */
export const PATIENT: Readonly<Required<WaitOptions>> = { deadlineMs: PATIENCE_MS, intervalMs: 10 }

/** Thrown by a probe when waiting longer is useless. */
export class GiveUpError extends Error {}

/**
 * Calls `probe` until it gives something other than undefined or false; a probe that throws (but GiveUpError) counts as "not yet".
 * The failure names what was awaited and the last thing that was seen.
 */
export async function waitFor<T> (what: string, probe: () => T | undefined | false | Promise<T | undefined | false>, options: WaitOptions): Promise<T> {
  const startedAtMs = performance.now()
  let last: unknown = 'nothing yet'
  for (;;) {
    try {
      const value = await probe()
      if (value !== undefined && value !== false) return value
    } catch (err) {
      if (err instanceof GiveUpError) throw err
      last = err
    }
    const elapsedMs = performance.now() - startedAtMs
    if (elapsedMs > options.deadlineMs) {
      throw new Error(`waited ${Math.round(elapsedMs)} ms for ${what}; last: ${last instanceof Error ? last.message : String(last)}`)
    }
    await pause(options.intervalMs ?? 50)
  }
}

/** Gives `promise`, or fails after `deadlineMs` with a sentence that names what was awaited. */
export async function within<T> (what: string, deadlineMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`waited ${deadlineMs} ms for ${what}`)) }, deadlineMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** The interval between two looks, or the length of a fault; not a way to hope that something has happened. */
export async function pause (delayMs: number): Promise<void> {
  await new Promise<void>((resolve) => { setTimeout(resolve, delayMs) })
}

/** Milliseconds that `work` took, and what it gave. */
export async function timed<T> (work: () => Promise<T>): Promise<{ value: T, elapsedMs: number }> {
  const startedAtMs = performance.now()
  const value = await work()
  return { value, elapsedMs: performance.now() - startedAtMs }
}
