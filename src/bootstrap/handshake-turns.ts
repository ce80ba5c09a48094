/**
 * Whose handshake a relay does next. A handshake costs milliseconds of its processor and the other side nothing, so no more are begun in a
 * second than leave time for those who are connected. Who waits, waits by source, and those that were served longest ago go first. So somebody
 * new passes a flood. In every second turn sources that are known for a while come before others, so that a flood of many sources cannot
 * hold up the devices that come back; not in every turn, because it takes one connection to be known, and those could flood as well.
 * Among equals the newest goes first: who has waited for long has no time left for its handshake, and would be served in vain.
 */
import { LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'

/** What it uses. */
export interface HandshakeTurnsComponents {
  clock: Clock
  /** Handshakes that are begun in a second. */
  perSecond: () => number
  /** True for a source that has had a connection with a proven key for a while. */
  isKnown: (source: string) => boolean
}

/** A place in the queue. */
export interface HandshakeTurn {
  /** Resolves with true when its turn has come, with false when it was given up. */
  readonly whenDue: Promise<boolean>
  /** Gives it up; no effect once the turn has come. */
  cancel: () => void
}

/** The queue. What waits in it is bounded by its callers (connections in their handshake). */
export interface HandshakeTurns {
  /** Undefined: the turn is now. */
  take: (source: string) => HandshakeTurn | undefined
  readonly waitingCount: number
}

interface Waiting { resolve: (isDue: boolean) => void }

/** Creates an empty queue. */
export function createHandshakeTurns ({ clock, perSecond, isKnown }: HandshakeTurnsComponents): HandshakeTurns {
  /** By source, the last to come last, also among the sources; a source is in it only while it waits. */
  const waiting = new Map<string, Waiting[]>()
  /** Which source was served when, the latest last; the numbers only compare. */
  const served = new Map<string, number>()
  let servedCount = 0
  let waitingCount = 0
  let balance = burst(perSecond())
  let filledAtMs = clock.monotonicMs()
  let timer: Timer | undefined

  function fill (): void {
    const nowMs = clock.monotonicMs()
    balance = Math.min(burst(perSecond()), balance + (nowMs - filledAtMs) * perSecond() / 1000)
    filledAtMs = nowMs
  }

  function note (source: string): void {
    balance--
    served.delete(source)
    served.set(source, ++servedCount)
    const [oldest] = served.keys()
    if (served.size > LIMITS.relayServedSourceCount && oldest !== undefined) served.delete(oldest)
  }

  function next (): string | undefined {
    const isForKnown = servedCount % 2 === 0
    let best: { source: string, isKnown: boolean, servedAt: number } | undefined
    for (const source of waiting.keys()) {
      const one = { source, isKnown: isForKnown && isKnown(source), servedAt: served.get(source) ?? 0 }
      if (best === undefined || (one.isKnown === best.isKnown ? one.servedAt <= best.servedAt : one.isKnown)) best = one
    }
    return best?.source
  }

  function remove (source: string, one: Waiting): boolean {
    const same = waiting.get(source)
    const index = same?.lastIndexOf(one) ?? -1
    if (same === undefined || index < 0) return false
    same.splice(index, 1)
    waitingCount--
    if (same.length === 0) waiting.delete(source)
    return true
  }

  function serve (): void {
    timer = undefined
    fill()
    for (let source = next(); source !== undefined && balance >= 1; source = next()) {
      const newest = waiting.get(source)?.at(-1)
      if (newest === undefined || !remove(source, newest)) break
      note(source)
      newest.resolve(true)
    }
    arm()
  }

  function arm (): void {
    if (waitingCount === 0 || timer !== undefined) return
    timer = clock.setTimer(serve, Math.max(TURN_MS, (1 - balance) * 1000 / perSecond()))
  }

  return {
    take: (source) => {
      fill()
      if (waitingCount === 0 && balance >= 1) {
        note(source)
        return undefined
      }
      const { promise, resolve } = Promise.withResolvers<boolean>()
      const one: Waiting = { resolve }
      const same = waiting.get(source) ?? []
      same.push(one)
      waiting.delete(source)
      waiting.set(source, same)
      waitingCount++
      arm()
      return { whenDue: promise, cancel: () => { if (remove(source, one)) resolve(false) } }
    },
    get waitingCount () { return waitingCount }
  }
}

/** What may be begun at once after a quiet time: a quarter of a second's worth. */
function burst (perSecond: number): number { return Math.max(1, perSecond / 4) }

const TURN_MS = 5
