/** Which addresses two friends name to each other for a punch, and which of the other's are tried. Pure. */
import { isSameHost, LIMITS } from '../base/index.ts'
import type { HostAndPort } from '../base/index.ts'
import { isInOwnSubnet, ownHosts } from './own-network.ts'
import { isGlobalIpv6Host, isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'
import type { Interfaces } from './listen-addresses.ts'
import type { NatMapping } from './types.ts'

/** What the own side knows when it judges. */
export interface CandidateRules {
  /** IP addresses of the relays: never a target. */
  relayHosts: readonly string[]
  interfaces: Interfaces
  /** The local network may be used: the listen mode is not `none`. */
  mayUseLan: boolean
  /** Loopback counts as local network; for several nodes on one machine. */
  mayUseLoopback: boolean
}

/** Ports below are services' own, and no router maps to them. */
const MIN_PORT = 1024

/**
 * The other side's candidates that may be tried, in its order (I10): never this machine, a neighbour (unless the local
 * network may be used), a relay, or a service's port. What is left are global addresses that the friend chooses: at those,
 * a few connection attempts is what a friend can make us do.
 */
export function usableCandidates (offered: readonly HostAndPort[], rules: CandidateRules): HostAndPort[] {
  return offered.slice(0, LIMITS.punchCandidateCount).filter((candidate) => isUsable(candidate, rules))
}

function isUsable ({ host, port }: HostAndPort, rules: CandidateRules): boolean {
  if (port < MIN_PORT || !isUnicastHost(host)) return false
  if (rules.relayHosts.some((relay) => isSameHost(relay, host))) return false
  if (isLoopbackHost(host)) return rules.mayUseLoopback
  if (ownHosts(rules.interfaces).some((own) => isSameHost(own, host))) return false
  // a neighbour is a neighbour, also with a global address
  if (isInOwnSubnet(host, rules.interfaces)) return rules.mayUseLan
  if (isPrivateHost(host)) return false
  return !host.includes(':') || isGlobalIpv6Host(host)
}

/**
 * Our own candidates for `localPort`: where relays see it, and when the local network may be used our own addresses too. An
 * IPv6 address that no relay saw is not named otherwise: behind a VPN it would tell who we are.
 */
export function ownCandidates (observed: readonly HostAndPort[], localPort: number, rules: Pick<CandidateRules, 'interfaces' | 'mayUseLan'>): HostAndPort[] {
  const own = ownHosts(rules.interfaces)
  const global = rules.mayUseLan ? own.filter(isGlobalIpv6Host) : []
  const local = rules.mayUseLan ? own.filter((host) => !host.includes(':') && isPrivateHost(host)) : []
  const all = [...observed, ...[...global, ...local].map((host) => ({ host, port: localPort }))]
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
