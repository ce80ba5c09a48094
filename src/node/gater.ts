/** Who may connect and what may be dialed; every method decides before anything is allocated (I9, I10). */
import type { ConnectionGater, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { InboundLimits, InboundRefusal } from './inbound-limits.ts'
import type { PeerDirectory } from './peer-directory.ts'
import { createRateLimit } from './rate-limit.ts'
import { addressesOf } from './relay-address.ts'
import type { RelayAddress } from './relay-address.ts'
import type { PeerLevel } from './types.ts'

/** What the gater asks. */
export interface GaterComponents {
  clock: Pick<Clock, 'monotonicMs'>
  relays: readonly RelayAddress[]
  peers: PeerDirectory
  levelOf: (device: Did) => PeerLevel
  limits: InboundLimits
  /** Counts and audits a refusal. */
  onRefused: (peer: PeerId, reason: InboundRefusal | 'weak-key' | 'unlisted-relay' | 'rate-limit') => void
}

/**
 * The gater for libp2p. Own dials of friends do not pass `denyDial…` (they go to the transport directly), so through
 * libp2p's dial queue, which also serves the DHT, nothing but the listed relays can be dialed.
 */
export function createGater (components: GaterComponents): ConnectionGater {
  const { relays, levelOf, limits, onRefused } = components
  const { isRelay, isListedRelay, deviceOf } = components.peers
  const hosts = createRateLimit(components.clock, LIMITS.inboundPerHostPerSecondCount)
  const knocks = createRateLimit(components.clock, LIMITS.strangerKnocksPerSecondCount)

  /** Exactly a configured address; behind dnsaddr any address that DNS gives for this relay's key. */
  function isRelayAddress (address: Multiaddr): boolean {
    const text = address.toString()
    const peerId = address.getComponents().findLast((part) => part.name === 'p2p')?.value
    return relays.flatMap(addressesOf).some((relay) => relay.text === text ||
      (relay.peerId === peerId && relay.text.startsWith('/dnsaddr/') && !text.includes('/p2p-circuit')))
  }

  function denyPeer (peer: PeerId, isInbound: boolean): boolean {
    // a relay of a friend is dialled and dials nobody
    if (isInbound ? isListedRelay(peer) : isRelay(peer)) return false
    const device = deviceOf(peer)
    if (device === undefined) {
      onRefused(peer, 'weak-key')
      return true
    }
    const level = levelOf(device)
    if (level === 'blocked') {
      onRefused(peer, 'blocked')
      return true
    }
    if (!isInbound) return false
    const verdict = limits.judge(device, level)
    if (!verdict.allow) onRefused(peer, verdict.reason)
    return !verdict.allow
  }

  return {
    // relays of friends are not dialled by libp2p: it would try all addresses that anybody told of them
    denyDialPeer: (peer) => !isListedRelay(peer),
    denyDialMultiaddr: (address) => !isRelayAddress(address),
    // libp2p's own rate limit takes all circuits of a relay for one host: strangers could use up the friends' share (see below)
    denyInboundConnection: ({ remoteAddr }) => {
      const parts = remoteAddr.getComponents()
      return !parts.some((part) => part.name === 'p2p-circuit') && !hosts.take(parts[0]?.value ?? '')
    },
    denyInboundEncryptedConnection: (peer) => denyPeer(peer, true),
    denyOutboundEncryptedConnection: (peer) => denyPeer(peer, false),
    denyInboundRelayedConnection: (relay, peer) => {
      if (!isListedRelay(relay)) {
        onRefused(relay, 'unlisted-relay')
        return true
      }
      if (denyPeer(peer, true)) return true
      // the relay has proven the caller's key; a stranger's handshake costs more than this refusal
      const device = deviceOf(peer)
      if (device !== undefined && levelOf(device) === 'friend') return false
      if (knocks.take('')) return false
      onRefused(peer, 'rate-limit')
      return true
    },
    // we are nobody's relay
    denyInboundRelayReservation: () => true,
    denyOutboundRelayedConnection: () => true,
    // identify would fill the peer store with addresses that nobody may dial
    filterMultiaddrForPeer: (_peer, address) => isRelayAddress(address)
  }
}
