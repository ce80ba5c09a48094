/** What a connection's remote address says about the way the bytes take. Pure. */
import { isIPv4 } from 'node:net'
import type { Multiaddr } from '@multiformats/multiaddr'
import { plainHost, reachedHost } from '../base/index.ts'
import type { Path } from './types.ts'

/** Path and, when relayed, the relay's PeerId. */
export interface PathFacts { path: Path, relayPeerId: string | undefined }

/** Judges a remote multiaddr. */
export function pathOf (address: Multiaddr): PathFacts {
  const parts = address.getComponents()
  const circuitIndex = parts.findIndex((part) => part.name === 'p2p-circuit')
  if (circuitIndex !== -1) {
    const relay = parts.slice(0, circuitIndex).findLast((part) => part.name === 'p2p')
    return { path: 'relayed', relayPeerId: relay?.value }
  }
  return { path: isLocalHost(parts[0]?.value ?? '') ? 'lan' : 'direct', relayPeerId: undefined }
}

/** True for hosts of this machine or its private networks. */
export function isLocalHost (host: string): boolean {
  return isLoopbackHost(host) || isPrivateHost(host)
}

/** True for 127.0.0.0/8 and ::1, also when in IPv6 form. */
export function isLoopbackHost (host: string): boolean {
  const plain = reachedHost(host)
  return plain === '::1' || (isIPv4(plain) && plain.startsWith('127.'))
}

/** True for RFC 1918, RFC 4193 (fc00::/7) and 100.64.0.0/10, which is shared by a provider's customers. */
export function isPrivateHost (host: string): boolean {
  const plain = reachedHost(host)
  if (!isIPv4(plain)) return /^f[cd][0-9a-f]{2}:/.test(plain)
  const [first = 0, second = 0] = plain.split('.').map(Number)
  return first === 10 || (first === 172 && second >= 16 && second <= 31) || (first === 192 && second === 168) || (first === 100 && second >= 64 && second <= 127)
}

/** True for addresses that are worth dialing at all: neither unspecified, link-local, multicast, reserved nor a wrapping of IPv4 that nobody routes. */
export function isUnicastHost (host: string): boolean {
  const plain = reachedHost(host)
  if (!isIPv4(plain)) return plain === '::1' || isPrivateHost(plain) || isGlobalIpv6Host(plain)
  // `::a.b.c.d` leads nowhere, whatever it holds
  if (plainHost(host).startsWith('::')) return false
  const [first = 0, second = 0] = plain.split('.').map(Number)
  return first !== 0 && first < 224 && !(first === 169 && second === 254)
}

/**
 * True for addresses in 2000::/3, the only part of IPv6 that is given out, without 6to4 (2002::/16) and Teredo (2001::/32), in which
 * IPv4 addresses of any kind are wrapped.
 */
export function isGlobalIpv6Host (host: string): boolean {
  const plain = plainHost(host)
  return /^[23][0-9a-f]{3}:/.test(plain) && !/^(2002:|2001:(0:|:))/.test(plain)
}
