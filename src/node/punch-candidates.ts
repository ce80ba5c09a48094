/** Which addresses two friends name to each other for a punch, and which of the other's are tried. Pure. */
import { BlockList } from 'node:net'
import type { NetworkInterfaceInfo } from 'node:os'
import { isSameHost, LIMITS } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'
import { isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'
import type { NatMapping } from './types.ts'

/** What the own side knows when it judges. */
export interface CandidateRules {
  /** IP addresses of the relays: never a target. */
  relayHosts: readonly string[]
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>
  /** The local network may be used: the listen mode is not `none`. */
  mayUseLan: boolean
  /** Loopback counts as local network; for several nodes on one machine. */
  mayUseLoopback: boolean
}

/** Ports below are services' own, and no router maps to them. */
const MIN_PORT = 1024

/** The other side's candidates that may be tried, in its order. A friend cannot make us knock at arbitrary places (I10). */
export function usableCandidates (offered: readonly HostAndPort[], rules: CandidateRules): HostAndPort[] {
  return offered.slice(0, LIMITS.punchCandidateCount).filter((candidate) => isUsable(candidate, rules))
}

function isUsable ({ host, port }: HostAndPort, rules: CandidateRules): boolean {
  if (port < MIN_PORT || !isUnicastHost(host)) return false
  if (rules.relayHosts.some((relay) => isSameHost(relay, host))) return false
  if (isLoopbackHost(host)) return rules.mayUseLoopback
  if (isPrivateHost(host)) return rules.mayUseLan && isInOwnSubnet(host, rules.interfaces)
  return !host.includes(':') || isGlobalIpv6(host)
}

/** 2000::/3, the only part of IPv6 that is given out. */
function isGlobalIpv6 (host: string): boolean {
  return /^[23][0-9a-f]{3}:/.test(host)
}

/** Our own candidates for `localPort`: where relays see it, global IPv6 addresses, and private ones when the local network may be used. */
export function ownCandidates (observed: readonly HostAndPort[], localPort: number, rules: Pick<CandidateRules, 'interfaces' | 'mayUseLan'>): HostAndPort[] {
  const own = addressesOf(rules.interfaces)
  const global = own.filter(isGlobalIpv6)
  const local = rules.mayUseLan ? own.filter((host) => !host.includes(':') && isPrivateHost(host)) : []
  const all = [...observed, ...[...local, ...global].map((host) => ({ host, port: localPort }))]
  const different = all.filter((one, index) => all.findIndex((other) => other.port === one.port && isSameHost(other.host, one.host)) === index)
  return different.slice(0, LIMITS.punchCandidateCount)
}

/** Judges by what relays saw of one local port. */
export function natMapping (observed: readonly HostAndPort[], localPort: number): NatMapping {
  const v4 = observed.filter(({ host }) => !host.includes(':'))
  const [first, ...others] = v4
  if (first === undefined) return 'unknown'
  if (others.some((other) => other.port !== first.port || other.host !== first.host)) return 'dependent'
  return others.length > 0 || first.port === localPort ? 'independent' : 'unknown'
}

function addressesOf (interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>): string[] {
  return Object.values(interfaces).flatMap((infos) => (infos ?? []).filter((info) => !info.internal).map((info) => info.address))
}

function isInOwnSubnet (host: string, interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>): boolean {
  return Object.values(interfaces).some((infos) => (infos ?? []).some((info) => !info.internal && info.family === (host.includes(':') ? 'IPv6' : 'IPv4') && isIn(host, info)))
}

function isIn (host: string, { cidr }: NetworkInterfaceInfo): boolean {
  const [network, prefix] = cidr?.split('/') ?? []
  if (network === undefined || prefix === undefined || Number(prefix) === 0) return false
  const list = new BlockList()
  const family = host.includes(':') ? 'ipv6' : 'ipv4'
  list.addSubnet(network, Number(prefix), family)
  return list.check(host, family)
}
