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

/** The interval of {@link untilStill}. */
const STILL_LOOK_MS = 20

/**
 * Waits until `read` has given the same count above 0 for `forMs`, and gives that. It looks often, each time in another turn of the
 * event loop: a process that was not run for a while has then taken what came meanwhile, and does not take its own rest for that of others.
 */
export async function untilStill (what: string, read: () => number | Promise<number>, forMs: number): Promise<number> {
  let last = 0
  let lookCount = 0
  return waitFor(`${what} to stand still`, async () => {
    const now = await read()
    lookCount = now === last ? lookCount + 1 : 0
    last = now
    return now > 0 && lookCount * STILL_LOOK_MS >= forMs ? now : undefined
  }, { deadlineMs: 2 * PATIENCE_MS, intervalMs: STILL_LOOK_MS })
}

/** Before a test of what counts per day of UTC: when the day ends within `forMs`, waits for the next one. */
export async function untilDayLasts (forMs: number): Promise<void> {
  const dayMs = 86_400_000
  const leftMs = dayMs - Date.now() % dayMs
  if (leftMs < forMs) await pause(leftMs + 1_000)
}

/** Milliseconds that `work` took, and what it gave. */
export async function timed<T> (work: () => Promise<T>): Promise<{ value: T, elapsedMs: number }> {
  const startedAtMs = performance.now()
  const value = await work()
  return { value, elapsedMs: performance.now() - startedAtMs }
}
