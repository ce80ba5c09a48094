/** Notices that this machine came to another network or woke from sleep. Everybody who has to react hears it from here. */
import { LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import type { NetworkChange } from './types.ts'

/** What one look sees. */
export interface NetworkLook {
  /** Epoch milliseconds. */
  wallMs: number
  monotonicMs: number
  /** As {@link addressesOf} gives them. */
  addresses: string
}

/** What happened between two looks that were to be `intervalMs` apart; undefined: nothing. Pure. */
export function compareLooks (before: NetworkLook, now: NetworkLook, intervalMs: number): NetworkChange['kind'] | undefined {
  const passedMs = now.monotonicMs - before.monotonicMs
  // some monotonic clocks stand still while the machine sleeps, others go on: then the look itself is late
  if (now.wallMs - before.wallMs - passedMs > LIMITS.networkSleepMs || passedMs - intervalMs > LIMITS.networkSleepMs) return 'woke'
  return now.addresses === before.addresses ? undefined : 'addresses'
}

/** Our addresses as one text, in a fixed order: without those that lead to nobody (own machine, own cable). Pure. */
export function addressesOf (interfaces: Interfaces): string {
  return Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !/^(fe[89ab]|169\.254\.)/i.test(address))
    .map(({ address }) => address)
    .sort()
    .join(' ')
}

/** What the watch uses. */
export interface NetworkWatchComponents {
  clock: Clock
  /** As os.networkInterfaces, which throws on some machines. */
  interfaces: () => Interfaces
  /** Called synchronously, at most once per LIMITS.networkWatchMs. */
  onChange: (change: NetworkChange) => void
}

/** The watch; it holds one timer from `start` to `stop`. Both are idempotent. */
export interface NetworkWatch {
  start: () => void
  stop: () => void
}

/** Creates a watch. Several changes between two looks are one. That all addresses are gone is not told: nothing could be done before there are some again. */
export function createNetworkWatch (components: NetworkWatchComponents): NetworkWatch {
  const { clock, interfaces, onChange } = components
  let timer: Timer | undefined
  let last: NetworkLook

  function look (): NetworkLook {
    return { wallMs: clock.now(), monotonicMs: clock.monotonicMs(), addresses: readAddresses() }
  }

  function readAddresses (): string {
    try {
      return addressesOf(interfaces())
    } catch {
      // a machine that does not tell its addresses: sleep is still noticed
      return ''
    }
  }

  function plan (): void {
    timer = clock.setTimer(() => {
      plan()
      const now = look()
      const kind = compareLooks(last, now, LIMITS.networkWatchMs)
      last = now
      if (kind === undefined || (kind === 'addresses' && now.addresses === '')) return
      onChange({ kind })
    }, LIMITS.networkWatchMs)
  }

  return {
    start: () => {
      if (timer !== undefined) return
      last = look()
      plan()
    },
    stop: () => {
      timer?.cancel()
      timer = undefined
    }
  }
}
