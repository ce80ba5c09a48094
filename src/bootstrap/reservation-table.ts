/** Which peers may be called through this relay, until when. Pure: time comes in as an argument. */
import type { PeerId } from '@libp2p/interface'

/** One reservation. */
export interface Reservation {
  peerId: PeerId
  /** Epoch ms. */
  expiresAt: number
}

/** Reservations by peer; the key is {@link peerKey}. */
export interface ReservationTable {
  /** Makes or refreshes one. The caller has asked `hasRoomFor`. */
  reserve: (request: { peerId: PeerId, nowMs: number }) => Reservation
  /** False when the table is full; a refresh always fits. */
  hasRoomFor: (peer: string) => boolean
  /** A live reservation. */
  get: (peer: string, nowMs: number) => Reservation | undefined
  remove: (peer: string) => void
  /** Forgets what is over. */
  sweep: (nowMs: number) => void
  clear: () => void
  readonly size: number
}

/** The key of a peer in tables: hex of its multihash, as it stands in circuit messages. */
export function peerKey (multihash: Uint8Array): string {
  return Buffer.from(multihash.buffer, multihash.byteOffset, multihash.byteLength).toString('hex')
}

/** Creates an empty table. */
export function createReservationTable (init: { maxReservations: number, ttlMs: number }): ReservationTable {
  const table = new Map<string, Reservation>()

  return {
    hasRoomFor: (peer) => table.has(peer) || table.size < init.maxReservations,
    reserve: ({ peerId, nowMs }) => {
      const reservation = { peerId, expiresAt: nowMs + init.ttlMs }
      table.set(peerKey(peerId.toMultihash().bytes), reservation)
      return reservation
    },
    get: (peer, nowMs) => {
      const reservation = table.get(peer)
      return reservation !== undefined && reservation.expiresAt > nowMs ? reservation : undefined
    },
    remove: (peer) => { table.delete(peer) },
    sweep: (nowMs) => {
      for (const [peer, { expiresAt }] of table) if (expiresAt <= nowMs) table.delete(peer)
    },
    clear: () => { table.clear() },
    get size () { return table.size }
  }
}
