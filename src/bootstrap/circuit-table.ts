/** All circuits of the relay, and the bound on what they buffer together. */
import type { Circuit } from './circuit.ts'

/** Circuits that are being made (`claimed` counts them too) and circuits that run. */
export interface CircuitTable {
  /** Counts a circuit before it is made, so that many at once cannot pass the cap; `release` gives it back. */
  claim: () => void
  release: () => void
  readonly claimed: number
  /** Holds a running circuit until it ends. `isBarred`: its ends may not have it any more; asked now and by `endBarred`. */
  add: (circuit: Circuit, isBarred: () => boolean) => void
  /** Resets the circuits that their ends may not have any more. */
  endBarred: () => void
  readonly size: number
  bufferedBytes: () => number
  /** Resets the circuits that hold most until all together hold no more than the budget. */
  enforceBudget: () => void
  /**
   * Resets the circuits that moved hardly anything since `quietMs`: keepalives of an idle session must not hold up a drain.
   * Measures from its first call on.
   */
  endQuiet: (nowMs: number, quietMs: number) => void
  /** Resolves when none runs or is being made, or when the signal aborts. */
  whenEmpty: (signal: AbortSignal) => Promise<void>
  abortAll: () => void
}

/** Creates an empty table. */
export function createCircuitTable (init: { maxBufferedBytes: () => number }): CircuitTable {
  const running = new Map<Circuit, () => boolean>()
  const waiters = new Set<() => void>()
  const busySince = new WeakMap<Circuit, { atMs: number, forwardedBytes: bigint }>()
  let claimed = 0

  function bufferedBytes (): number {
    let sum = 0
    for (const circuit of running.keys()) sum += circuit.bufferedBytes()
    return sum
  }

  return {
    claim: () => { claimed++ },
    release: () => {
      claimed--
      if (claimed === 0) for (const wake of [...waiters]) wake()
    },
    get claimed () { return claimed },
    add: (circuit, isBarred) => {
      running.set(circuit, isBarred)
      void circuit.ended.then(() => { running.delete(circuit) })
      // the lists may have changed while it was made
      if (isBarred()) circuit.abort('admission')
    },
    endBarred: () => { for (const [circuit, isBarred] of [...running]) if (isBarred()) circuit.abort('admission') },
    get size () { return running.size },
    bufferedBytes,
    enforceBudget: () => {
      let excess = bufferedBytes() - init.maxBufferedBytes()
      if (excess <= 0) return
      const held = [...running.keys()].map((circuit) => ({ circuit, bytes: circuit.bufferedBytes() })).sort((a, b) => b.bytes - a.bytes)
      for (const { circuit, bytes } of held) {
        if (excess <= 0) return
        circuit.abort('memory')
        excess -= bytes
      }
    },
    endQuiet: (nowMs, quietMs) => {
      for (const circuit of [...running.keys()]) {
        const forwardedBytes = circuit.forwardedBytes()
        const last = busySince.get(circuit)
        if (last === undefined || forwardedBytes - last.forwardedBytes > QUIET_BYTES) busySince.set(circuit, { atMs: nowMs, forwardedBytes })
        else if (nowMs - last.atMs >= quietMs) circuit.abort('shutdown')
      }
    },
    whenEmpty: async (signal) => {
      if (claimed === 0 || signal.aborted) return
      await new Promise<void>((resolve) => {
        function wake (): void {
          waiters.delete(wake)
          signal.removeEventListener('abort', wake)
          resolve()
        }
        waiters.add(wake)
        signal.addEventListener('abort', wake, { once: true })
      })
    },
    abortAll: () => { for (const circuit of [...running.keys()]) circuit.abort('shutdown') }
  }
}

// pings of libp2p and of sessions stay far below this within the quiet time
const QUIET_BYTES = 8n * 1024n
