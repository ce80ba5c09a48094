/**
 * Joins two TCP legs into one splice: bounded, with back-pressure, without a look at the bytes. A FIN or reset on one leg flushes
 * what was read and closes both: what travels inside ends by its own frames, so a half-closed splice has no use.
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../base/index.ts'
import type { BufferPool, Clock, Timer } from '../base/index.ts'
import type { Circuit, CircuitEnd, StartFlow } from './circuit.ts'
import type { CircuitLimits } from './hop-messages.ts'
import { createSpliceLeg } from './splice-leg.ts'
import type { SpliceCopy, SpliceLeg } from './splice-leg.ts'

/** A running splice; it is counted, drained and bounded like a circuit. */
export interface Splice extends Circuit {
  /** True when both legs reuse their buffers. */
  readonly isReusing: boolean
}

/** What a splice needs. */
export interface SpliceCopyComponents {
  clock: Clock
  pool: BufferPool
  /** Called for every piece. */
  onBytes: (byteCount: number) => void
}

/** One end: a paused socket past its ticket, and the account of its peer. */
export interface SpliceEnd {
  socket: Socket
  /** Bounds what this peer sends. */
  flow?: StartFlow | undefined
  /** Counts what this peer sends. */
  onSent?: ((byteCount: number) => void) | undefined
}

/** The two ends, what the splice may do, and how it reads. */
export interface SpliceCopyInit { caller: SpliceEnd, called: SpliceEnd, limits?: CircuitLimits | undefined, copy: SpliceCopy }

/** Joins two legs, which the splice owns from here on. */
export function joinSplice (components: SpliceCopyComponents, init: SpliceCopyInit): Splice {
  const { clock, pool, onBytes } = components
  const { limits } = init
  const { promise: ended, resolve } = Promise.withResolvers<CircuitEnd>()
  const maxBytes = limits?.dataBytes === undefined ? Infinity : Number(limits.dataBytes)
  const cleanups: Array<() => void> = []
  let forwardedBytes = 0
  let openCount = 2
  let ending: CircuitEnd | undefined
  let isOver = false
  let timer: Timer | undefined

  /** Flushes and closes both legs; a leg that does not take the rest is cut after a while. */
  function conclude (reason: CircuitEnd): void {
    if (ending !== undefined || isOver) return
    ending = reason
    timer?.cancel()
    for (const cleanup of cleanups) cleanup()
    for (const leg of [caller, called]) {
      leg.end()
      // what still comes is thrown away: closing over unread bytes would be a reset and take the flushed ones with it
      leg.release()
    }
    timer = clock.setTimer(() => { finish(reason) }, LIMITS.relaySpliceFlushMs)
  }

  function finish (reason: CircuitEnd, how?: 'reset'): void {
    if (isOver) return
    isOver = true
    timer?.cancel()
    for (const cleanup of cleanups) cleanup()
    caller.destroy(how)
    called.destroy(how)
    resolve(reason)
  }

  function onClose (): void {
    openCount--
    conclude('reset')
    if (openCount > 0) return
    finish(ending ?? 'reset')
    // the kernel has forgotten the last write of both
    caller.dispose()
    called.dispose()
  }

  function createLeg (end: SpliceEnd, sink: () => SpliceLeg): SpliceLeg {
    const { onSent } = end
    const flow = end.flow?.(() => { finish('quota', 'reset') })
    let sentBytes = 0

    function goOn (): void { leg.release() }

    const leg = createSpliceLeg(pool, { socket: end.socket, copy: init.copy }, {
      onRead: (bytes, onWritten) => {
        // bytes that are written are gone
        const byteCount = bytes.length
        if (ending !== undefined || isOver) {
          onWritten()
          return true
        }
        sentBytes += byteCount
        if (sentBytes > maxBytes) {
          onWritten()
          finish('data-limit', 'reset')
          return true
        }
        forwardedBytes += byteCount
        onBytes(byteCount)
        onSent?.(byteCount)
        const to = sink()
        to.write(bytes, onWritten)
        if (flow?.charge(byteCount, goOn) === false) leg.hold()
        return to.isDrained()
      },
      onEnd: () => { conclude('finished') },
      onClose
    })
    if (flow !== undefined) cleanups.push(flow.end)
    return leg
  }

  const caller: SpliceLeg = createLeg(init.caller, () => called)
  const called: SpliceLeg = createLeg(init.called, () => caller)
  if (limits?.durationSeconds !== undefined) timer = clock.setTimer(() => { finish('duration-limit', 'reset') }, limits.durationSeconds * 1000)

  return {
    isReusing: caller.isReusing && called.isReusing,
    bufferedBytes: () => caller.waitingBytes() + called.waitingBytes(),
    forwardedBytes: () => BigInt(forwardedBytes),
    abort: (reason) => { finish(reason, 'reset') },
    ended
  }
}
