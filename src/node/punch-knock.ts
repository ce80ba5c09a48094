/** Connection attempts from one local port to one address, until one meets the other end's. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { errorMessage, LIMITS, sleep } from '../base/index.ts'
import type { Clock, HostAndPort, Logger } from '../base/index.ts'
import type { OnPunched } from './types.ts'

/** What knocking needs. */
export interface KnockComponents {
  clock: Clock
  log: Logger
  /** In [0, 1). */
  random: () => number
}

/** One address, from one port. */
export interface KnockInit { localPort: number, target: HostAndPort, onSocket: OnPunched }

/**
 * Tries one address: a fresh attempt each time, because a reset or the silence of a router says nothing about the next. Resolves
 * when `onSocket` is satisfied, the attempts are used up, or the signal fires.
 */
export async function knock (components: KnockComponents, init: KnockInit, signal: AbortSignal): Promise<void> {
  const { clock, random } = components
  for (let count = 0; count < LIMITS.punchSynCount && !signal.aborted; count++) {
    const startedMs = clock.monotonicMs()
    const socket = await tryOnce(components, init, signal)
    // somebody else may have been there, or the other end had just given this attempt up
    if (socket !== undefined && await init.onSocket(socket)) return
    const pauseMs = pauseAfter(count, clock.monotonicMs() - startedMs, random)
    if (pauseMs > 0) await sleep(clock, pauseMs, signal).catch(() => { /* the loop sees that it is over */ })
  }
}

/**
 * How long to wait after attempt `count` (0-based), which took `tookMs`. Pure but for `random`.
 *
 * A router that answers with a reset closes the hole with it, one round trip after the attempt began: two attempts meet when they
 * begin less than half of that apart. So the next one begins almost at once, and nearly each pair meets; the little chance in it
 * keeps two ends in one rhythm from missing each other for ever. Later ones are rarer, so that they reach an end that is late.
 */
export function pauseAfter (count: number, tookMs: number, random: () => number): number {
  const roundTripMs = Math.min(LIMITS.punchRetryMaxGapMs, Math.max(LIMITS.punchRetryMs, tookMs))
  const chanceMs = roundTripMs * random() / 4
  // silence: the hole was open all the time
  if (tookMs >= LIMITS.punchTryMs) return chanceMs
  // what was refused sooner was refused by something near
  return Math.max(0, LIMITS.punchRetryMs - tookMs) + chanceMs + roundTripMs * (PAUSES[count] ?? 0)
}

/** In round trips. */
const PAUSES = [0, 0, 0, 0.5, 1, 2, 3]

async function tryOnce ({ clock, log }: KnockComponents, { localPort, target }: KnockInit, signal: AbortSignal): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: target.host, port: target.port, localPort, noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.socketKeepAliveMs, allowHalfOpen: true })
    socket.pause()
    // for good: a reset at any moment must not end the process
    socket.on('error', (err) => {
      log.debug('a punch was answered', { reason: errorMessage(err) })
      give()
    })
    const timer = clock.setTimer(give, LIMITS.punchTryMs)
    signal.addEventListener('abort', give, { once: true })
    function settle (): void {
      timer.cancel()
      signal.removeEventListener('abort', give)
    }
    function give (): void {
      settle()
      socket.destroy()
      resolve(undefined)
    }
    socket.once('connect', () => {
      settle()
      resolve(socket)
    })
    if (signal.aborted) give()
  })
}
