/** Happy-Eyeballs: start attempts one after the other, the first success wins, the rest is cancelled. */
import type { Clock, Timer } from '../base/index.ts'

/** One way to get the result; it must obey the signal. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>

/**
 * Runs `attempts` in order, the next one `staggerMs` after the last start or at once when one fails.
 * Successes that come after the first are given to `discard`.
 *
 * @throws AggregateError of all failures, or the signal's reason
 */
export async function race<T> (clock: Clock, attempts: ReadonlyArray<Attempt<T>>, options: { staggerMs: number, discard: (late: T) => void, signal: AbortSignal }): Promise<T> {
  const { signal } = options
  signal.throwIfAborted()
  const started: AbortController[] = []
  return new Promise<T>((resolve, reject) => {
    const failures: unknown[] = []
    let nextIndex = 0
    let isOver = false
    let timer: Timer | undefined

    /** The winner's signal stays silent: what it opened may listen to it for longer than the race. */
    function finish (settle: () => void, winner?: AbortController): void {
      isOver = true
      timer?.cancel()
      signal.removeEventListener('abort', onAbort)
      settle()
      for (const controller of started) if (controller !== winner) controller.abort(signal.reason)
    }

    function onAbort (): void { finish(() => { reject(signal.reason as Error) }) }

    function startNext (): void {
      timer?.cancel()
      const attempt = attempts[nextIndex]
      if (attempt === undefined || isOver) return
      nextIndex++
      const controller = new AbortController()
      started.push(controller)
      attempt(controller.signal).then((result) => {
        if (isOver) options.discard(result)
        else finish(() => { resolve(result) }, controller)
      }, (err: unknown) => {
        if (isOver) return
        failures.push(err)
        if (failures.length === attempts.length) finish(() => { reject(new AggregateError(failures, 'all attempts failed')) })
        else startNext()
      })
      if (nextIndex < attempts.length) timer = clock.setTimer(startNext, options.staggerMs)
    }

    signal.addEventListener('abort', onAbort, { once: true })
    startNext()
    if (attempts.length === 0) finish(() => { reject(new AggregateError([], 'there is nothing to try')) })
  })
}
