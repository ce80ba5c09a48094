/** Whether somebody would still get what it holds of the relay; asked again after the operator's lists have changed. */
import type { PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Admit } from './admission.ts'
import type { PeerClass, QuotaAccount } from './quota-book.ts'
import { peerKey } from './reservation-table.ts'

/** Who holds something, and to whose quotas it counts. */
export interface Holder { peerId: PeerId, account: Pick<QuotaAccount, 'class'> }

/** The two ends of a circuit or splice. */
export interface CircuitEnds { action: 'connect' | 'splice', caller: Holder & { remoteAddress: Multiaddr }, called: Holder }

/** Judges by the lists as they are now. */
export interface Standing {
  /** True when the relay would refuse the reservation now, or would count it to a lower class. */
  isReservationBarred: (holder: Holder) => boolean
  /** True when it would refuse the circuit or splice now, or would count one of its ends to a lower class. */
  isCircuitBarred: (ends: CircuitEnds) => boolean
}

/** Creates it. */
export function createStanding ({ admit, classOf }: { admit: Admit, classOf: (peer: string) => PeerClass }): Standing {
  /** It would go on with quotas that are not its own any more. Who was raised counts to the new class with its next request. */
  function isDemoted ({ peerId, account }: Holder): boolean {
    return RANKS[classOf(peerKey(peerId.toMultihash().bytes))] < RANKS[account.class]
  }

  function isReservationBarred (holder: Holder): boolean {
    return !admit({ action: 'reserve', peerId: holder.peerId, remoteAddress: NO_ADDRESS }).allow || isDemoted(holder)
  }

  return {
    isReservationBarred,
    isCircuitBarred: ({ action, caller, called }) => isReservationBarred(called) || isDemoted(caller) ||
      !admit({ action, peerId: caller.peerId, remoteAddress: caller.remoteAddress, called: called.peerId }).allow
  }
}

const RANKS: Readonly<Record<PeerClass, number>> = { stranger: 0, member: 1, friend: 2 }

/** For a question that is not about a place in the network. */
const NO_ADDRESS = multiaddr('/ip4/0.0.0.0')
