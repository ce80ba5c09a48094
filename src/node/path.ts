/** What a connection's remote address says about the way the bytes take. Pure. */
import { isIPv4 } from 'node:net'
import type { Multiaddr } from '@multiformats/multiaddr'
import { plainHost } from '../base/index.ts'
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

/** True for 127.0.0.0/8 and ::1, also when mapped. */
export function isLoopbackHost (host: string): boolean {
  const plain = unmapped(host)
  return plain === '::1' || (isIPv4(plain) && plain.startsWith('127.'))
}

/** True for RFC 1918, RFC 4193 (fc00::/7) and 100.64.0.0/10, which is shared by a provider's customers. */
export function isPrivateHost (host: string): boolean {
  const plain = unmapped(host)
  if (!isIPv4(plain)) return /^f[cd]/.test(plain)
  const [first = 0, second = 0] = plain.split('.').map(Number)
  return first === 10 || (first === 172 && second >= 16 && second <= 31) || (first === 192 && second === 168) || (first === 100 && second >= 64 && second <= 127)
}

/** True for addresses that are worth dialing at all: neither unspecified, link-local, multicast nor reserved. */
export function isUnicastHost (host: string): boolean {
  const plain = unmapped(host)
  if (!isIPv4(plain)) return plain.includes(':') && plain !== '::' && !/^(fe[89ab]|ff)/.test(plain)
  const [first = 0, second = 0] = plain.split('.').map(Number)
  return first !== 0 && first < 224 && !(first === 169 && second === 254)
}

/** True for addresses in 2000::/3, the only part of IPv6 that is given out. */
export function isGlobalIpv6Host (host: string): boolean {
  return /^[23][0-9a-f]{3}:/i.test(host)
}

function unmapped (host: string): string {
  return plainHost(host).toLowerCase()
}
