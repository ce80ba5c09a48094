/** Configured relays: parsed once, then known by PeerId. */
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'

/** One configured relay. */
export interface RelayAddress {
  /** As configured, in canonical form. */
  text: string
  peerId: string
  /** To dial the relay itself. */
  multiaddr: Multiaddr
  /** To listen through it. */
  circuit: Multiaddr
  /** Further addresses of the same relay, in the order of the list: of the other family, or another port. */
  others: readonly RelayAddress[]
}

/** All addresses of a relay. */
export function addressesOf (relay: RelayAddress): RelayAddress[] {
  return [relay, ...relay.others]
}

/**
 * Parses relay addresses; several addresses of one relay are one relay.
 *
 * @throws CarrierError ERR_CONFIG with the address that is wrong and why, or with what is too many
 */
export function parseRelayAddresses (texts: readonly string[]): RelayAddress[] {
  const relays = new Map<string, RelayAddress>()
  for (const text of texts) {
    const relay = parseRelayAddress(text)
    const known = relays.get(relay.peerId)
    if (known !== undefined && addressesOf(known).some((address) => address.text === relay.text)) continue
    const joined = known === undefined ? relay : { ...known, others: [...known.others, relay] }
    if (addressesOf(joined).length > LIMITS.relayAddressCount) throw new CarrierError('ERR_CONFIG', `the relay ${relay.peerId} has more than ${LIMITS.relayAddressCount} addresses: remove some`)
    relays.set(relay.peerId, joined)
  }
  if (relays.size > LIMITS.relayCount) throw new CarrierError('ERR_CONFIG', `${relays.size} relays are configured, at most ${LIMITS.relayCount} can be used: remove some`)
  return [...relays.values()]
}

/**
 * Parses one relay address.
 *
 * @throws CarrierError ERR_CONFIG with what is missing and where to find it
 */
export function parseRelayAddress (text: string): RelayAddress {
  let address: Multiaddr
  try {
    address = multiaddr(text.trim())
  } catch (err) {
    throw wrong(text, `is no multiaddr: ${errorMessage(err)}; it looks like ${EXAMPLE}`, err)
  }
  const parts = address.getComponents()
  if (parts.some((part) => part.name === 'p2p-circuit')) throw wrong(text, 'leads through another relay; give the relay\'s own address, without /p2p-circuit')
  const last = parts.at(-1)
  if (last?.name !== 'p2p' || last.value === undefined) {
    throw wrong(text, `does not say who the relay is: append /p2p/ and its peer id (carrier-bootstrap prints the whole address); it looks like ${EXAMPLE}`)
  }
  if (!last.value.startsWith('12D3KooW')) throw wrong(text, 'names a peer id that is no Ed25519 one (these start with 12D3KooW)')
  if (!parts.some((part) => part.name === 'tcp') && parts[0]?.name !== 'dnsaddr') throw wrong(text, 'has no /tcp/PORT part: relays are reached over TCP, WebSockets or /dnsaddr')
  return { text: address.toString(), peerId: last.value, multiaddr: address, circuit: address.encapsulate('/p2p-circuit'), others: [] }
}

const EXAMPLE = '/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…'

function wrong (text: string, reason: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_CONFIG', `the relay address "${text.slice(0, 200)}" ${reason}`, cause === undefined ? {} : { cause })
}
