/**
 * TCP hole punching: two friends behind routers connect to each other at the same time, each from a fresh local port without a
 * listener, to the address under which relays see the other's port. Who is at the other end is proven afterwards, by TLS.
 * DESIGN section 4; PROTOCOL.md "Punching".
 */
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import type { HostAndPort, Logger } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { natMapping, ownCandidates, usableCandidates } from './punch-candidates.ts'
import { knock } from './punch-knock.ts'
import { observeAll } from './punch-observe.ts'
import type { ObserveComponents, Seen } from './punch-observe.ts'
import { race } from './race.ts'
import type { PunchPort } from './types.ts'

/** What punching needs. */
export interface PuncherComponents extends Omit<ObserveComponents, 'mayBeLocal'> {
  log: Logger
  /** In [0, 1). */
  random: () => number
  /** Relays that are connected and say where they see us. */
  observers: () => string[]
  relayHosts: () => string[]
  /** False for addresses that only a proxy may connect to. */
  mayDialDirectly: (host: string) => boolean
  interfaces: () => Interfaces
}

/** Makes ports ready. */
export interface Puncher {
  /** True when some relay can tell where we are seen. A look-up. */
  canPunch: () => boolean
  /** @throws CarrierError ERR_NOT_AVAILABLE when no relay told where we are seen, or the signal's reason */
  prepare: (signal: AbortSignal) => Promise<PunchPort>
}

/** Creates the puncher. */
export function createPuncher (components: PuncherComponents, init: { mayUseLan: boolean, mayUseLoopback: boolean }): Puncher {
  const { clock, log, random } = components
  /** How long the relays took the last time. */
  let usualMs = 0

  /** The first port that is ready. A packet that is lost on the way costs a second: a second port does not wait for it. */
  async function prepare (signal: AbortSignal): Promise<PunchPort> {
    const relays = components.observers().slice(0, LIMITS.punchObserverCount)
    const startedMs = clock.monotonicMs()
    const staggerMs = Math.min(LIMITS.punchObserveMs, Math.max(LIMITS.punchHedgeMs, 2 * usualMs))
    try {
      const port = await race(clock, [1, 2].map(() => async (either: AbortSignal) => preparePort(relays, either)), { staggerMs, signal, discard: (late) => { late.close() } })
      usualMs = clock.monotonicMs() - startedMs
      log.debug('a port to punch through is ready', { tookMs: Math.round(usualMs), relays: port.observed.length, mapping: port.mapping })
      return port
    } catch (err) {
      signal.throwIfAborted()
      const failure: unknown = err instanceof AggregateError ? err.errors[0] : err
      throw new CarrierError('ERR_NOT_AVAILABLE', `no relay told where this node is seen: ${errorMessage(failure)}`, { cause: failure })
    }
  }

  async function preparePort (relays: readonly string[], signal: AbortSignal): Promise<PunchPort> {
    let failure: unknown = new CarrierError('ERR_NOT_AVAILABLE', 'no relay that could tell where this node is seen')
    for (let attempt = 0; attempt < LIMITS.punchPortAttempts; attempt++) {
      const localPort = FIRST_PORT + Math.floor(random() * PORT_COUNT)
      const results = await observeAll({ clock, askObserve: components.askObserve, mayBeLocal: init.mayUseLan || init.mayUseLoopback }, relays, localPort, signal)
      const seen = results.flatMap((result) => result.status === 'fulfilled' ? [result.value] : [])
      if (signal.aborted) {
        for (const { socket } of seen) socket.destroy()
        throw signal.reason
      }
      if (seen.length > 0) return createPort(localPort, seen)
      failure = results.find((result) => result.status === 'rejected')?.reason ?? failure
      if (!/EADDRINUSE|EADDRNOTAVAIL/.test(errorMessage(failure))) break
    }
    throw failure
  }

  function createPort (localPort: number, seen: readonly Seen[]): PunchPort {
    const closing = new AbortController()
    const observed = seen.map(({ address }) => address)

    return {
      candidates: ownCandidates(observed, localPort, { interfaces: components.interfaces(), mayUseLan: init.mayUseLan }),
      mapping: natMapping(observed, localPort),
      observed,
      connect: async (offered, onSocket, signal) => {
        const usable: HostAndPort[] = usableCandidates(offered, { relayHosts: components.relayHosts(), interfaces: components.interfaces(), ...init }).filter(({ host }) => components.mayDialDirectly(host))
        const either = AbortSignal.any([signal, closing.signal])
        await Promise.all(usable.map(async (target) => knock({ clock, log, random }, { localPort, target, onSocket }, either)))
      },
      close: () => {
        closing.abort()
        for (const { socket } of seen) socket.destroy()
      }
    }
  }

  return { canPunch: () => components.observers().length > 0, prepare }
}

/** Ports that systems seldom use for connections of their own. */
const FIRST_PORT = 20_000
const PORT_COUNT = 12_000
