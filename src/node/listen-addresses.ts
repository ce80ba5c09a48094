/** Which sockets a listen mode opens and which of their addresses friends are told. Pure but for reading the interfaces. */
import type { NetworkInterfaceInfo } from 'node:os'
import { multiaddr } from '@multiformats/multiaddr'
import { isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'

/** Which listeners a node opens; `none`: not one. */
export type ListenMode = 'none' | 'lan' | 'mapped' | 'public'

/** Interfaces as `os.networkInterfaces()` gives them. */
export type Interfaces = NodeJS.Dict<NetworkInterfaceInfo[]>

/**
 * IP addresses to listen on. `none`: nothing. `lan`: private addresses only, IPv6 ones in fc00::/7 too (with `loopback` also
 * this machine's own). `mapped`, `public`: every interface, IPv4 and IPv6. Link-local ones are never told to anybody.
 */
export function listenHosts (mode: ListenMode, interfaces: Interfaces, loopback = false): string[] {
  if (mode === 'none') return []
  if (mode === 'lan') return [...new Set(hosts(interfaces).filter((host) => isPrivateHost(host) || (loopback && isLoopbackHost(host))))]
  return ['0.0.0.0', '::']
}

/**
 * The addresses of our listeners that a friend can use: unspecified ones become those of the interfaces, loopback is
 * told only by a machine that has nothing else.
 */
export function announcedMultiaddrs (listening: readonly string[], interfaces: Interfaces): string[] {
  const own = hosts(interfaces)
  const all = new Set<string>()
  for (const text of listening) {
    const [ip, tcp] = multiaddr(text).getComponents()
    if (ip?.value === undefined || tcp?.name !== 'tcp' || tcp.value === undefined) continue
    const port = Number(tcp.value)
    if (ip.value === '0.0.0.0') for (const host of own.filter((one) => !one.includes(':'))) all.add(tcpMultiaddr(host, port))
    else if (ip.value === '::') for (const host of own.filter((one) => one.includes(':'))) all.add(tcpMultiaddr(host, port))
    else all.add(tcpMultiaddr(ip.value, port))
  }
  const outside = [...all].filter((text) => !isLoopbackHost(hostOf(text)))
  return outside.length > 0 ? outside : [...all]
}

function hosts (interfaces: Interfaces): string[] {
  return Object.values(interfaces).flatMap((addresses) => addresses ?? []).map((address) => address.address).filter((host) => isUnicastHost(host))
}

function hostOf (text: string): string {
  return multiaddr(text).getComponents()[0]?.value ?? ''
}

/** A multiaddr of a TCP port. */
export function tcpMultiaddr (host: string, port: number): string {
  return `/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}`
}
