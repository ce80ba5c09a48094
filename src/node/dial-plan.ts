/** Which addresses are tried for a device, in which order. Pure. */
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../base/index.ts'
import { isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'
import type { RelayAddress } from './relay-address.ts'
import type { DialHints } from './relay-hints-source.ts'
import type { PeerLevel } from './types.ts'

/** One way to try; `borrowed`: over a relay that only the device lists, which has to be connected to first. */
export type DialCandidate = { address: Multiaddr, via: 'direct' | 'relay' } | { address: Multiaddr, via: 'borrowed', relay: RelayAddress }

/** What the plan is made from. */
export interface DialPlanInit {
  peerId: string
  level: PeerLevel
  /** Remembered direct addresses, newest first; they came from the device, so they are judged here. */
  remembered: readonly string[]
  relays: readonly RelayAddress[]
  isReserved: (relayPeerId: string) => boolean
  /** What the device said of its relays; nothing when absent. */
  hints?: DialHints
  /** PeerIds of relays that are not to be used. */
  avoidRelays?: readonly string[]
  /** The local network may be used: the listen mode is not `none`. */
  mayUseLan: boolean
  /** Loopback counts as local network; for several nodes on one machine. */
  mayUseLoopback: boolean
}

/**
 * Direct addresses of friends, relays of ours and relays of theirs by turns: the best direct address has a lead of one stagger,
 * and many stale ones do not keep the relays waiting. Of our relays those that the device says it is on come first, then those
 * with a reservation. Theirs wait for all others when their word is old, or when it names one of ours.
 */
export function planDial (init: DialPlanInit): DialCandidate[] {
  const direct = init.level === 'friend'
    ? init.remembered.slice(0, LIMITS.rememberedAddressCount).flatMap((text) => directCandidate(text, init))
    : []
  const { hints } = init
  const [named, unnamed] = partition(init.relays.filter((relay) => init.avoidRelays?.includes(relay.peerId) !== true), (relay) => hints?.listed.includes(relay.peerId) === true)
  const [reserved, others] = partition(unnamed, (relay) => init.isReserved(relay.peerId))
  const relayed = [...named, ...reserved, ...others].map((relay): DialCandidate => ({ address: circuitTo(relay, init.peerId), via: 'relay' }))
  const borrowed = planBorrowed(init)
  return hints?.isFresh === true && named.length === 0 ? byTurns([direct, relayed, borrowed]) : [...byTurns([direct, relayed]), ...borrowed]
}

/** Circuits over relays that only the device lists. */
export function planBorrowed (init: Pick<DialPlanInit, 'hints' | 'peerId' | 'avoidRelays'>): DialCandidate[] {
  return (init.hints?.borrowed ?? [])
    .filter((relay) => init.avoidRelays?.includes(relay.peerId) !== true)
    .map((relay) => ({ address: circuitTo(relay, init.peerId), via: 'borrowed', relay }))
}

function circuitTo (relay: RelayAddress, peerId: string): Multiaddr {
  return relay.circuit.encapsulate(`/p2p/${peerId}`)
}

function byTurns (columns: ReadonlyArray<readonly DialCandidate[]>): DialCandidate[] {
  const length = Math.max(...columns.map((column) => column.length))
  return Array.from({ length }, (_turn, index) => columns.flatMap((column) => column[index] ?? [])).flat()
}

/** An address that may be dialed, ending with the device's key, or nothing. Friends cannot make us knock at arbitrary places. */
function directCandidate (text: string, init: DialPlanInit): DialCandidate[] {
  let address: Multiaddr
  try {
    address = multiaddr(text)
  } catch {
    // what is no multiaddr cannot be dialed; the next address may do
    return []
  }
  const parts = address.getComponents()
  const [ip, tcp, ...rest] = parts
  if (ip?.value === undefined || (ip.name !== 'ip4' && ip.name !== 'ip6') || tcp?.name !== 'tcp') return []
  const last = rest.at(-1)
  if (rest.some((part) => part.name !== 'ws' && part !== last)) return []
  if (last !== undefined && last.name !== 'ws' && (last.name !== 'p2p' || last.value !== init.peerId)) return []
  if (!isUnicastHost(ip.value)) return []
  if (isLoopbackHost(ip.value) && !init.mayUseLoopback) return []
  if (isPrivateHost(ip.value) && !init.mayUseLan) return []
  return [{ address: last?.name === 'p2p' ? address : address.encapsulate(`/p2p/${init.peerId}`), via: 'direct' }]
}

function partition<T> (items: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  return [items.filter(test), items.filter((item) => !test(item))]
}
