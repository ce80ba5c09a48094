/** Which peers may be called through this relay, until when. Pure: time comes in as an argument. */
import type { PeerId } from '@libp2p/interface'
import { concatBytes } from '../base/index.ts'
import type { QuotaAccount } from './quota-book.ts'

/** One reservation. */
export interface Reservation {
  peerId: PeerId
  /** Epoch ms. */
  expiresAt: number
  /** Whose quotas it counts to. */
  account: QuotaAccount
}

/** Reservations by peer; the key is {@link peerKey}. */
export interface ReservationTable {
  /** Makes or refreshes one. The caller has asked `hasRoomFor`. */
  reserve: (request: ReservationRequest) => Reservation
  /** False when the table is full; a refresh always fits. */
  hasRoomFor: (peer: string) => boolean
  /** A live reservation. */
  get: (peer: string, nowMs: number) => Reservation | undefined
  remove: (peer: string) => void
  /** Forgets what is over. */
  sweep: (nowMs: number) => void
  clear: () => void
  /** All of them. */
  list: () => Reservation[]
  readonly size: number
}

/** What a reservation is made of. */
export interface ReservationRequest {
  peerId: PeerId
  nowMs: number
  account: QuotaAccount
  /** Counts it with its account; what it gives ends that. Called for a new one only. */
  hold: () => () => void
}

/** Bounds, asked each time, so that they can change. */
export interface ReservationBounds { maxReservations: number, ttlMs: number }

/** The key of a peer in tables: hex of its multihash, as it stands in circuit messages. */
export function peerKey (multihash: Uint8Array): string {
  return Buffer.from(multihash.buffer, multihash.byteOffset, multihash.byteLength).toString('hex')
}

/** The same key of an Ed25519 key: its multihash is the identity, 36 bytes, of protobuf {1: Ed25519, 2: key}. */
export function peerKeyOfPublicKey (rawKey: Uint8Array): string {
  return peerKey(concatBytes([Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20), rawKey]))
}

/** Creates an empty table. */
export function createReservationTable (bounds: () => ReservationBounds): ReservationTable {
  const table = new Map<string, Reservation & { release: () => void }>()

  function remove (peer: string): void {
    table.get(peer)?.release()
    table.delete(peer)
  }

  return {
    hasRoomFor: (peer) => table.has(peer) || table.size < bounds().maxReservations,
    reserve: ({ peerId, nowMs, account, hold }) => {
      const peer = peerKey(peerId.toMultihash().bytes)
      const known = table.get(peer)
      // after a change of the lists or of its network a refresh counts to another account
      const isKept = known?.account === account
      if (!isKept) known?.release()
      const reservation = { peerId, expiresAt: nowMs + bounds().ttlMs, account, release: isKept ? known.release : hold() }
      table.set(peer, reservation)
      return reservation
    },
    get: (peer, nowMs) => {
      const reservation = table.get(peer)
      return reservation !== undefined && reservation.expiresAt > nowMs ? reservation : undefined
    },
    remove,
    sweep: (nowMs) => {
      for (const [peer, { expiresAt }] of table) if (expiresAt <= nowMs) remove(peer)
    },
    clear: () => { for (const peer of [...table.keys()]) remove(peer) },
    list: () => [...table.values()],
    get size () { return table.size }
  }
}
