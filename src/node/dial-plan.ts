/** Which addresses are tried for a device, in which order. Pure. */
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../base/index.ts'
import { isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'
import type { RelayAddress } from './relay-address.ts'
import type { PeerLevel } from './types.ts'

/** One way to try. */
export interface DialCandidate { address: Multiaddr, via: 'direct' | 'relay' }

/** What the plan is made from. */
export interface DialPlanInit {
  peerId: string
  level: PeerLevel
  /** Remembered direct addresses, newest first; they came from the device, so they are judged here. */
  remembered: readonly string[]
  relays: readonly RelayAddress[]
  isReserved: (relayPeerId: string) => boolean
  /** The local network may be used: the listen mode is not `none`. */
  mayUseLan: boolean
  /** Loopback counts as local network; for several nodes on one machine. */
  mayUseLoopback: boolean
}

/**
 * Direct addresses of friends and relays by turns, of the relays those with a reservation first: the best direct address has
 * a lead of one stagger, and many stale ones do not keep the relays waiting.
 */
export function planDial (init: DialPlanInit): DialCandidate[] {
  const direct = init.level === 'friend'
    ? init.remembered.slice(0, LIMITS.rememberedAddressCount).flatMap((text) => directCandidate(text, init))
    : []
  const [reserved, others] = partition(init.relays, (relay) => init.isReserved(relay.peerId))
  const relayed = [...reserved, ...others].map((relay): DialCandidate => ({ address: relay.circuit.encapsulate(`/p2p/${init.peerId}`), via: 'relay' }))
  return Array.from({ length: Math.max(direct.length, relayed.length) }, (_turn, index) => [direct[index], relayed[index]])
    .flat()
    .filter((candidate) => candidate !== undefined)
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
