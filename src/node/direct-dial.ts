/**
 * A friend who is reached over a relay and told us where it listens is dialled there too: then there is a direct connection,
 * over which links of the session can be opened (link-dialer.ts). The end that listens has nothing to do for it, so it does
 * not matter which of the two listens.
 */
import type { Connection } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { backoffMs, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
import { closeSoon } from './close-connection.ts'
import { pathOf } from './path.ts'
import { race } from './race.ts'
import type { PeerLevel } from './types.ts'

/** What direct dials need. */
export interface DirectDialComponents {
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  random: () => number
  gate: Pick<AuthGate, 'connectionsOf' | 'passed'>
  levelOf: (device: Did) => PeerLevel
  /** Addresses that may be dialled now, the best first: judged, and ending with the device's key. */
  candidates: (device: Did) => Multiaddr[]
  dialAddress: (address: Multiaddr, signal: AbortSignal) => Promise<Connection>
  /** Counts attempts by how they ended. */
  dials: CounterMetric
}

/** Direct dials beside what is there. */
export interface DirectDial {
  /** Something about the device is new: it authenticated, told addresses, was found, or lost a connection. Cheap, and bounded whatever the friend does. */
  consider: (device: Did) => void
  /** Another network: what failed before may work now. */
  networkChanged: () => void
  /** Ends all waiting; attempts end with the tasks. */
  stop: () => void
}

/** One friend that could be dialled directly. */
interface Attempt {
  isRunning: boolean
  failureCount: number
  startedMs: number
  notBeforeMs: number
  /** Addresses that were dialled, the oldest first; at most LIMITS.directDialNewHourCount. */
  tried: Set<string>
  /** When each address was dialled for the first time, in the last hour. */
  newMs: number[]
  timer: Timer | undefined
}

/** Creates the dials. The table holds friends that told addresses, at most LIMITS.friendCount, the oldest goes. */
export function createDirectDial (components: DirectDialComponents): DirectDial {
  const { clock, log, gate } = components
  const attempts = new Map<Did, Attempt>()
  let runningCount = 0

  /** A connection that somebody else opened is one too, but nothing can be dialled by it (link-dialer.ts): the friend will do that. */
  function hasDirect (device: Did): boolean {
    return gate.connectionsOf(device).some(({ connection }) => pathOf(connection.remoteAddr).path !== 'relayed')
  }

  function consider (device: Did): void {
    if (components.tasks().signal.aborted || components.levelOf(device) !== 'friend') return
    const attempt = attempts.get(device) ?? { isRunning: false, failureCount: 0, startedMs: -Infinity, notBeforeMs: 0, tried: new Set(), newMs: [], timer: undefined }
    if (attempt.isRunning) return
    attempt.timer?.cancel()
    attempt.timer = undefined
    const all = hasDirect(device) ? [] : components.candidates(device)
    if (all.length === 0) return
    note(device, attempt)
    const nowMs = clock.monotonicMs()
    const { candidates, againMs } = choose(all, attempt, nowMs)
    if (candidates.length === 0 || runningCount >= LIMITS.directDialCount) {
      attempt.timer = clock.setTimer(() => { if (gate.connectionsOf(device).length > 0) consider(device) }, Math.max(LIMITS.directDialAgainMs, againMs - nowMs))
      return
    }
    for (const address of candidates) noteTried(address.toString(), attempt, nowMs)
    attempt.startedMs = nowMs
    attempt.isRunning = true
    runningCount++
    components.tasks().run('dial a friend directly', async (signal) => {
      try {
        await dial(candidates, signal)
        components.dials.add(1, { result: 'direct' })
        attempt.failureCount = 0
        // a friend that accepts and closes keeps nobody busy
        attempt.notBeforeMs = nowMs + LIMITS.directDialLeastMs
      } catch (err) {
        if (signal.aborted) return
        components.dials.add(1, { result: 'direct-failed' })
        log.debug('a friend that listens could not be dialled directly', { device, reason: failureOf(err) })
        attempt.notBeforeMs = clock.monotonicMs() + backoffMs({ firstMs: LIMITS.directDialRetryFirstMs, maxMs: LIMITS.directDialRetryMaxMs, factor: 2 }, attempt.failureCount, components.random)
        attempt.failureCount++
      } finally {
        attempt.isRunning = false
        runningCount--
      }
      // without any contact there is nobody to come nearer to: who dials the device then takes these addresses along
      if (gate.connectionsOf(device).length > 0) consider(device)
    })
  }

  /**
   * What may be dialled now, and when to look again. Addresses that failed wait for their turn; others have not failed yet and need
   * not, but a friend must not make us knock at ever new ones.
   */
  function choose (all: readonly Multiaddr[], attempt: Attempt, nowMs: number): { candidates: Multiaddr[], againMs: number } {
    attempt.newMs = attempt.newMs.filter((atMs) => nowMs - atMs < HOUR_MS)
    const left = Math.min(LIMITS.directDialNewHourCount - attempt.newMs.length, LIMITS.directDialNewMinuteCount - attempt.newMs.filter((atMs) => nowMs - atMs < MINUTE_MS).length)
    const fresh = new Set(all.filter((address) => !attempt.tried.has(address.toString())).slice(0, Math.max(0, left)))
    const freshFromMs = fresh.size > 0 ? Math.min(attempt.notBeforeMs, attempt.startedMs + LIMITS.directDialLeastMs) : Infinity
    const candidates = all.filter((address) => fresh.has(address) ? freshFromMs <= nowMs : attempt.tried.has(address.toString()) && attempt.notBeforeMs <= nowMs)
    const againMs = Math.min(freshFromMs, attempt.notBeforeMs)
    // everything is new and nothing may be: the minute has to pass
    return { candidates, againMs: againMs > nowMs || candidates.length > 0 ? againMs : nowMs + MINUTE_MS }
  }

  function noteTried (address: string, attempt: Attempt, nowMs: number): void {
    if (!attempt.tried.delete(address)) attempt.newMs.push(nowMs)
    attempt.tried.add(address)
    const oldest = attempt.tried.values().next()
    if (attempt.tried.size > LIMITS.directDialNewHourCount && oldest.done !== true) attempt.tried.delete(oldest.value)
  }

  function note (device: Did, attempt: Attempt): void {
    attempts.set(device, attempt)
    const oldest = attempts.keys().next()
    if (attempts.size <= LIMITS.friendCount || oldest.done === true) return
    attempts.get(oldest.value)?.timer?.cancel()
    attempts.delete(oldest.value)
  }

  async function dial (candidates: readonly Multiaddr[], parent: AbortSignal): Promise<AuthenticatedConnection> {
    using deadline = startDeadline(clock, LIMITS.dialTimeoutMs, 'no answer', parent)
    return await race(clock, candidates.map((address) => async (signal: AbortSignal) => {
      const connection = await components.dialAddress(address, signal)
      try {
        return await gate.passed(connection, signal)
      } catch (err) {
        closeSoon(connection)
        throw err
      }
    }), { staggerMs: LIMITS.dialStaggerMs, signal: deadline.signal, discard: (late) => { closeSoon(late.connection) } })
  }

  return {
    consider,
    networkChanged: () => {
      for (const [device, attempt] of [...attempts]) {
        attempt.failureCount = 0
        attempt.notBeforeMs = 0
        if (gate.connectionsOf(device).length > 0) consider(device)
      }
    },
    stop: () => {
      for (const attempt of attempts.values()) attempt.timer?.cancel()
      attempts.clear()
    }
  }
}

const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000

function failureOf (err: unknown): string {
  return err instanceof AggregateError ? err.errors.map(errorMessage).join('; ') : errorMessage(err)
}
