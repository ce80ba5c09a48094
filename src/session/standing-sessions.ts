/** Keeps a session with each friend alive for ever: presence is a live session. */
import { backoffMs, createTaskOwner, errorCode, errorMessage, LIMITS } from '../base/index.ts'
import type { Clock, ErrorCode, Logger, Startable, TaskOwner, Timer } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import type { CarrierNode } from '../node/index.ts'
import type { SessionManager } from './types.ts'

/** Collaborators of the standing sessions. */
export interface StandingSessionsComponents {
  sessions: Pick<SessionManager, 'open' | 'get' | 'on'>
  node: Pick<CarrierNode, 'on' | 'device'>
  clock: Clock
  /** In [0, 1). */
  random: () => number
  log: Logger
}

/** Runs from start to stop. */
export interface StandingSessions extends Startable {
  /** The list of friends changed: new ones are tried at once, others are left alone from now on. */
  refresh: () => void
}

/** One friend's device: an attempt runs, or is planned, or a session is live. */
interface Standing {
  device: Did
  state: { kind: 'waiting', timer: Timer, dueMs: number } | { kind: 'queued' } | { kind: 'trying' } | { kind: 'live', sinceMs: number }
  /** Failures in a row. */
  failureCount: number
}

/**
 * The end that does not begin waits so long before it tries at once too: when both learn of the same relay at the same
 * moment, one dial is often enough. Both try, because one may be unable to; two that cross become one session.
 */
const SECOND_END_DELAY_MS = 150
/** A session that lived so long was a good one: after its loss attempts start afresh. */
const STABLE_AFTER_MS = 10_000

/** Creates the keeper. `friends` gives device DIDs, the most important first; those beyond LIMITS.sessionCount get no standing session. */
export function createStandingSessions (components: StandingSessionsComponents, init: { friends: () => Did[] }): StandingSessions {
  const { sessions, node, clock, random, log } = components
  const standings = new Map<Did, Standing>()
  const queue: Standing[] = []
  let tasks: TaskOwner | undefined
  let removers: Array<() => void> = []
  let dialCount = 0

  return { start, stop, refresh }

  async function start (): Promise<void> {
    if (tasks !== undefined) return
    tasks = createTaskOwner(log)
    removers = [
      sessions.on('session:opened', ({ session }) => { noteLive(session.peer.device) }),
      sessions.on('session:closed', ({ peer, error }) => { noteLost(peer.device, error.code) }),
      node.on('relay:state', ({ state }) => { if (state === 'reserved') tryAllSoon() }),
      node.on('peer:authenticated', ({ peer }) => {
        const standing = standings.get(peer.device)
        if (standing !== undefined) trySoon(standing)
      })
    ]
    refresh()
  }

  async function stop (): Promise<void> {
    for (const remove of removers) remove()
    removers = []
    for (const device of [...standings.keys()]) forget(device)
    await tasks?.stop()
    tasks = undefined
  }

  function refresh (): void {
    if (tasks === undefined) return
    const wanted = new Set(init.friends().slice(0, LIMITS.sessionCount))
    for (const device of [...standings.keys()]) if (!wanted.has(device)) forget(device)
    for (const device of wanted) {
      if (standings.has(device)) continue
      const standing: Standing = { device, state: { kind: 'queued' }, failureCount: 0 }
      standings.set(device, standing)
      if (sessions.get(device) === undefined) plan(standing, firstDelayMs(device))
      else standing.state = { kind: 'live', sinceMs: clock.monotonicMs() }
    }
  }

  function forget (device: Did): void {
    const standing = standings.get(device)
    if (standing === undefined) return
    standings.delete(device)
    if (standing.state.kind === 'waiting') standing.state.timer.cancel()
    if (standing.state.kind === 'queued') queue.splice(queue.indexOf(standing), 1)
  }

  function noteLive (device: Did): void {
    const standing = standings.get(device)
    if (standing === undefined) return
    if (standing.state.kind === 'waiting') standing.state.timer.cancel()
    if (standing.state.kind === 'queued') queue.splice(queue.indexOf(standing), 1)
    standing.state = { kind: 'live', sinceMs: clock.monotonicMs() }
  }

  /** When a session is replaced, its successor is announced right after this and stops the attempt. */
  function noteLost (device: Did, code: ErrorCode | undefined): void {
    const standing = standings.get(device)
    if (standing === undefined || standing.state.kind !== 'live') return
    const wasStable = clock.monotonicMs() - standing.state.sinceMs >= STABLE_AFTER_MS
    if (wasStable) standing.failureCount = 0
    if (wasStable && !isSlow(code)) plan(standing, firstDelayMs(device))
    else planRetry(standing, code)
  }

  function tryAllSoon (): void {
    for (const standing of standings.values()) trySoon(standing)
  }

  /** The way may be open now: the wait of a friend is cut short. */
  function trySoon (standing: Standing): void {
    if (standing.state.kind !== 'waiting') return
    const delayMs = firstDelayMs(standing.device)
    if (clock.monotonicMs() + delayMs < standing.state.dueMs) {
      standing.state.timer.cancel()
      plan(standing, delayMs)
    }
  }

  function firstDelayMs (device: Did): number {
    const isBeginner = Buffer.compare(publicKeyFromDid(node.device), publicKeyFromDid(device)) < 0
    return isBeginner ? 0 : SECOND_END_DELAY_MS * (0.75 + random() * 0.5)
  }

  function planRetry (standing: Standing, code: ErrorCode | undefined): void {
    // these do not pass quickly: no use in asking often
    if (isSlow(code)) standing.failureCount = Math.max(standing.failureCount, 8)
    const delayMs = backoffMs({ firstMs: LIMITS.standingSessionRetryFirstMs, maxMs: LIMITS.standingSessionRetryMaxMs / 1.25, factor: 2 }, standing.failureCount, random)
    standing.failureCount++
    plan(standing, delayMs)
  }

  function plan (standing: Standing, delayMs: number): void {
    const timer = clock.setTimer(() => {
      standing.state = { kind: 'queued' }
      queue.push(standing)
      work()
    }, delayMs)
    standing.state = { kind: 'waiting', timer, dueMs: clock.monotonicMs() + delayMs }
  }

  function work (): void {
    while (dialCount < LIMITS.standingSessionDialCount) {
      const standing = queue.shift()
      if (standing === undefined) return
      standing.state = { kind: 'trying' }
      dialCount++
      tasks?.run('standing session', async (signal) => { await attempt(standing, signal) })
    }
  }

  async function attempt (standing: Standing, signal: AbortSignal): Promise<void> {
    try {
      await sessions.open(standing.device, { signal })
      if (standing.state.kind === 'trying') standing.state = { kind: 'live', sinceMs: clock.monotonicMs() }
      // it may have ended between its event and now
      if (sessions.get(standing.device) === undefined) noteLost(standing.device, undefined)
    } catch (err) {
      if (signal.aborted) return
      log.debug('a friend is not reachable', { device: standing.device, code: errorCode(err), reason: errorMessage(err) })
      if (standing.state.kind === 'trying' && standings.get(standing.device) === standing) planRetry(standing, errorCode(err))
    } finally {
      dialCount--
      work()
    }
  }
}

function isSlow (code: ErrorCode | undefined): boolean {
  return code === 'ERR_NOT_AVAILABLE' || code === 'ERR_LIMIT' || code === 'ERR_DUPLICATE_IDENTITY' || code === 'ERR_UNSUPPORTED_VERSION' || code === 'ERR_REVOKED'
}
