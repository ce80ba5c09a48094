/**
 * Which relays of a friend's record may be dialled (I10): a friend names them, so they must lead to a relay somewhere in the
 * internet and nowhere else. Pure but for `resolveRelayHint`, which asks DNS.
 */
import { isIP } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { CarrierError, LIMITS, isSameHost } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { isInOwnSubnet, MIN_FRIEND_PORT, ownHosts } from './own-network.ts'
import { isGlobalIpv6Host, isLoopbackHost, isPrivateHost, isUnicastHost } from './path.ts'
import { parseRelayAddress } from './relay-address.ts'
import type { RelayAddress } from './relay-address.ts'

/** What decides about a relay of a friend. */
export interface RelayHintRules {
  /** PeerIds of the listed relays: those are reached at the address that the owner of this node gave. */
  isListed: (peerId: string) => boolean
  ownPeerId: string
  /** Hosts of the listed relays, as IP addresses and names: other ports of theirs are nobody's to name. */
  relayHosts: readonly string[]
  interfaces: Interfaces
  /** Several nodes on one machine: its own addresses are as good as others. */
  mayUseLoopback: boolean
  /** False: no relay is dialled that is not listed. Whoever runs one sees where this node is, so this goes with the punch. */
  mayBorrow: boolean
}

/** Relays of a record, judged. */
export interface RelayHints {
  /** PeerIds of listed relays that the record names too. */
  listed: readonly string[]
  /** Relays that are not ours, at most LIMITS.relayRecordRelayCount. Names are still to be resolved. */
  borrowed: readonly RelayAddress[]
}

/** Judges the relays of a record. */
export function judgeRelayHints (texts: readonly string[], rules: RelayHintRules): RelayHints {
  const relays = texts.slice(0, LIMITS.relayRecordRelayCount).flatMap(parse)
  const borrowed = new Map<string, RelayAddress>()
  for (const relay of relays) {
    if (!rules.mayBorrow || rules.isListed(relay.peerId) || relay.peerId === rules.ownPeerId || borrowed.has(relay.peerId)) continue
    if (isAcceptable(relay, rules)) borrowed.set(relay.peerId, relay)
  }
  return { listed: [...new Set(relays.map(({ peerId }) => peerId).filter(rules.isListed))], borrowed: [...borrowed.values()] }
}

/**
 * The relay with IP addresses in the place of a name, all of which were judged: a second look-up could give others.
 *
 * @throws CarrierError ERR_PEER_OFFLINE when the name leads nowhere, or nowhere where we go
 */
export async function resolveRelayHint (relay: RelayAddress, rules: HostRules, lookUp: (name: string, family: 0 | 4 | 6) => Promise<readonly string[]>): Promise<RelayAddress> {
  const [host, tcp, ...rest] = relay.multiaddr.getComponents()
  if (host?.value === undefined || isIP(host.value) !== 0) return relay
  const name = host.value
  const ip = (await lookUp(name, FAMILIES[host.name] ?? 0)).find((one) => isAcceptableHost(one, Number(tcp?.value), layersOf(rest), rules))
  if (ip === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'the name of a relay of the device leads to no address that may be used')
  // the certificate is for the name, whatever is dialled
  const layers = rest.map((part) => part.name === 'wss' ? `/tls/sni/${name}/ws` : part.name === 'tls' && !rest.some((other) => other.name === 'sni') ? `/tls/sni/${name}` : `/${part.name}${part.value === undefined ? '' : `/${part.value}`}`)
  return parseRelayAddress(`/${ip.includes(':') ? 'ip6' : 'ip4'}/${ip}/tcp/${tcp?.value ?? ''}${layers.join('')}`)
}

/** True when the relay is called by a name, which has to be resolved before it is dialled. */
export function isNamedRelay (relay: RelayAddress): boolean {
  return FAMILIES[relay.multiaddr.getComponents()[0]?.name ?? ''] !== undefined
}

/** True when the name is proven by TLS below Noise. */
export function isTlsRelay (relay: RelayAddress): boolean {
  return relay.multiaddr.getComponents().some((part) => part.name === 'wss' || part.name === 'tls')
}

function isAcceptable (relay: RelayAddress, rules: RelayHintRules): boolean {
  const [host, tcp, ...rest] = relay.multiaddr.getComponents()
  if (host?.value === undefined || tcp?.name !== 'tcp' || Number(tcp.value) < 1) return false
  const layers = layersOf(rest)
  if (!LAYERS.test(layers)) return false
  if (FAMILIES[host.name] !== undefined) return isIP(host.value) === 0 && NAME.test(host.value) && !rules.relayHosts.some((other) => other.toLowerCase() === host.value?.toLowerCase())
  return (host.name === 'ip4' || host.name === 'ip6') && isAcceptableHost(host.value, Number(tcp.value), layers, rules)
}

type HostRules = Pick<RelayHintRules, 'interfaces' | 'mayUseLoopback' | 'relayHosts'>

function isAcceptableHost (host: string, port: number, layers: string, { interfaces, mayUseLoopback, relayHosts }: HostRules): boolean {
  if (!isUnicastHost(host)) return false
  if (isLoopbackHost(host)) return mayUseLoopback
  if (!mayUseLoopback && [...ownHosts(interfaces), ...relayHosts].some((other) => isSameHost(other, host))) return false
  // neighbours are not ours to knock at: no well-known port, and nothing that a web server would take for a request
  if (isInOwnSubnet(host, interfaces)) return mayUseLoopback || (port >= MIN_FRIEND_PORT && !PLAIN_WS.test(layers))
  if (isPrivateHost(host)) return false
  return !host.includes(':') || isGlobalIpv6Host(host)
}

function layersOf (parts: ReadonlyArray<{ name: string }>): string {
  return parts.map((part) => part.name).join('/')
}

function parse (text: string): RelayAddress[] {
  try {
    return [parseRelayAddress(multiaddr(text).toString())]
  } catch {
    // what is no relay address cannot be dialled; the next one may do
    return []
  }
}

/** Names that DNS resolves, and to which family. dnsaddr may lead to any number of addresses of any kind: not from a friend. */
const FAMILIES: Readonly<Record<string, 0 | 4 | 6>> = { dns: 0, dns4: 4, dns6: 6 }

/** What may stand between port and key: no path, which would let a friend choose what is requested. */
const LAYERS = /^(?:(?:ws|wss|tls\/ws|tls\/sni\/ws)\/)?p2p$/

/** HTTP that anybody's device would answer. */
const PLAIN_WS = /^ws\//

/** Names of the internet have a dot, and are no numbers. */
const NAME = /^(?=.{4,253}$)(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{1,62}$/i
