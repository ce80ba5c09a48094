/** What belongs to this machine and to its networks, and so which addresses of a friend are dialled. Pure. */
import { BlockList } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import { multiaddr } from '@multiformats/multiaddr'
import { isSameHost, plainHost } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'

/** IP addresses of this machine, without those that lead to nobody else. */
export function ownHosts (interfaces: Interfaces): string[] {
  return Object.values(interfaces).flatMap((infos) => (infos ?? []).filter((info) => !info.internal).map((info) => info.address))
}

/** True when `host` lies in a network that an interface of this machine is part of. */
export function isInOwnSubnet (host: string, interfaces: Interfaces): boolean {
  const plain = plainHost(host)
  return Object.values(interfaces).some((infos) => (infos ?? []).some((info) => !info.internal && info.family === (plain.includes(':') ? 'IPv6' : 'IPv4') && isIn(plain, info)))
}

/** Lower ports are well-known services': routers, printers and shares of neighbours, SSH and mail of the world. */
export const MIN_FRIEND_PORT = 1024

/** The exception in the internet: what some networks let out alone. */
const TLS_PORT = 443

/** What decides whether a friend's address is dialled. */
export interface FriendAddressRules {
  interfaces: Interfaces
  /** IP addresses of the relays: a friend makes nobody knock there. */
  relayHosts: readonly string[]
  /** Several nodes on one machine: its own addresses and those of relays are as good as others. */
  mayUseLoopback: boolean
}

/**
 * The multiaddrs of a friend that may be dialled (I10): private ones only inside a network of our own, whatever our own
 * `listen` is, because the friend told them inside a proven connection; from port 1024 on, or 443 outside our networks; never this machine or a relay.
 * What is judged is what is dialled, however it is spelled. The layers above TCP are left to `planDial`.
 */
export function dialableAddresses (texts: readonly string[], rules: FriendAddressRules): string[] {
  return texts.filter((text) => {
    if (rules.mayUseLoopback) return true
    const endpoint = directEndpoint(text)
    if (endpoint === undefined || !isUnicastHost(endpoint.host) || isLoopbackHost(endpoint.host)) return false
    const { host, port } = endpoint
    if ([...ownHosts(rules.interfaces), ...rules.relayHosts].some((other) => isSameHost(other, host))) return false
    if (isInOwnSubnet(host, rules.interfaces)) return port >= MIN_FRIEND_PORT
    return !isPrivateHost(host) && (port >= MIN_FRIEND_PORT || port === TLS_PORT)
  })
}

/** Where a direct address leads, as it would be dialled; undefined when it is none. */
export function directEndpoint (text: string): HostAndPort | undefined {
  try {
    const [ip, tcp] = multiaddr(text).getComponents()
    if (ip?.value === undefined || (ip.name !== 'ip4' && ip.name !== 'ip6') || tcp?.name !== 'tcp') return undefined
    return { host: plainHost(ip.value), port: Number(tcp.value) }
  } catch {
    // no multiaddr leads nowhere
    return undefined
  }
}

function isIn (host: string, { cidr }: NetworkInterfaceInfo): boolean {
  const [network, prefix] = cidr?.split('/') ?? []
  if (network === undefined || prefix === undefined || Number(prefix) === 0) return false
  const list = new BlockList()
  const family = host.includes(':') ? 'ipv6' : 'ipv4'
  list.addSubnet(network, Number(prefix), family)
  return list.check(host, family)
}
