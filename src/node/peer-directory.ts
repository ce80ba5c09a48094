/** Who a PeerId is: a listed relay, a relay of a friend that is in use, a Carrier device, or nobody that is admitted. */
import type { PeerId } from '@libp2p/interface'
import { didFromPeerId } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import type { RelayAddress } from './relay-address.ts'

/** Look-ups by PeerId. */
export interface PeerDirectory {
  /** A relay that this node uses: listed, or borrowed from a friend. */
  isRelay: (peer: PeerId) => boolean
  /** A relay that the owner of this node lists: only these may bring something to us. */
  isListedRelay: (peer: PeerId) => boolean
  /** undefined for keys that cannot be a Carrier device. */
  deviceOf: (peer: PeerId) => Did | undefined
}

/** Creates the directory. Decoding a key costs more than most decisions that need it, so it is done once per PeerId object. */
export function createPeerDirectory (relays: readonly RelayAddress[], isBorrowed: (peerId: string) => boolean = () => false): PeerDirectory {
  const devices = new WeakMap<PeerId, Did>()
  const relayIds = new Set(relays.map((relay) => relay.peerId))
  return {
    isRelay: (peer) => relayIds.has(peer.toString()) || isBorrowed(peer.toString()),
    isListedRelay: (peer) => relayIds.has(peer.toString()),
    deviceOf: (peer) => {
      const known = devices.get(peer)
      if (known !== undefined) return known
      try {
        const device = didFromPeerId(peer)
        devices.set(peer, device)
        return device
      } catch {
        // a key that Carrier does not admit; the gater counts it
        return undefined
      }
    }
  }
}
