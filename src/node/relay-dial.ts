/** Connects to a listed relay at whichever of its addresses answers first. */
import type { Connection } from '@libp2p/interface'
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Host } from './host.ts'
import { race } from './race.ts'
import { addressesOf } from './relay-address.ts'
import type { RelayAddress } from './relay-address.ts'

/** A connection, and the address at which the relay was reached; undefined when it was connected already. */
export interface RelayConnection { connection: Connection, address: RelayAddress | undefined }

/**
 * Gives a connection to the relay: one that is open, or a new one. Of several addresses `first` has a lead of one stagger over the
 * next: a family that this network lacks, or a port that it does not let through, costs no more.
 *
 * @throws the failure of its only address, AggregateError of all failures, or the signal's reason
 */
export async function dialRelay (components: { host: () => Pick<Host, 'libp2p' | 'dialAddress'>, clock: Clock }, relay: RelayAddress, first: RelayAddress | undefined, signal: AbortSignal): Promise<RelayConnection> {
  const { libp2p, dialAddress } = components.host()
  if (relay.others.length === 0) return { connection: await libp2p.dial(relay.multiaddr, { signal }), address: relay }
  // one that came over another relay is no place for a reservation; libp2p's own dial does not take it either
  const open = libp2p.getConnections().find((connection) => connection.remotePeer.toString() === relay.peerId && connection.status === 'open' && connection.direct && connection.limits === undefined)
  if (open !== undefined) return { connection: open, address: undefined }
  const addresses = addressesOf(relay)
  const ordered = first === undefined ? addresses : [first, ...addresses.filter((address) => address !== first)]
  const winner = race(components.clock, ordered.map((address) => async (attempt: AbortSignal) => {
    // only libp2p's own dial looks up what a dnsaddr leads to
    const connection = address.text.startsWith('/dnsaddr/') ? await libp2p.dial(address.multiaddr, { signal: attempt }) : await dialAddress(address.multiaddr, attempt)
    return { connection, address }
  }), {
    staggerMs: LIMITS.dialStaggerMs,
    signal,
    discard: (late) => { void discard(late.connection, winner) }
  })
  return winner
}

/** Two addresses may come out at one connection: libp2p's dial gives the one that is there. */
async function discard (late: Connection, winner: Promise<RelayConnection>): Promise<void> {
  const used = await winner.catch(() => { /* whoever waits for the race is told */ })
  if (used?.connection !== late) late.abort(new CarrierError('ERR_CANCELLED', 'the relay was reached at another of its addresses'))
}
