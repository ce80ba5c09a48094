/** What the rest of Carrier sees of a device's own identity. */
import type { PeerId, PrivateKey } from '@libp2p/interface'
import type { Did } from './did.ts'

/** This device: its key in every spelling, and what is derived from it. Lives as long as the process. */
export interface Identity {
  did: Did
  peerId: PeerId
  /** Raw 32 bytes. */
  publicKey: Uint8Array
  /** For libp2p only. */
  privateKey: PrivateKey
  /** 32 bytes from which the nospam of every address is derived. */
  nospamSecret: Uint8Array
  /** 16 random bytes of this process; tells two live instances of one key apart. */
  instanceId: Uint8Array
  /** Ed25519 signature over a domain-prefixed message (never over bare hashes). */
  sign: (message: Uint8Array) => Promise<Uint8Array>
}

/** One address that was handed out; its nospam is derived, never stored. */
export interface LabelledAddress {
  /** Name that people use: "1" for the first, or what they chose. */
  label: string
  /** 1 to 65535; part of the nospam. */
  number: number
  address: string
  createdAt: number
  revokedAt: number | undefined
}

/** The labelled, revocable addresses of this device. Number 1 exists from the start. */
export interface AddressBook {
  /** @throws CarrierError ERR_ALREADY_EXISTS, ERR_INVALID_ARGUMENT (not a DNS label), ERR_LIMIT */
  create: (name?: string) => LabelledAddress
  list: () => LabelledAddress[]
  /** The address that `carrier id` prints: the oldest one that is not revoked; undefined when all are revoked. */
  current: () => LabelledAddress | undefined
  /** @throws CarrierError ERR_NOT_FOUND */
  revoke: (label: string) => LabelledAddress
  /** True when `nospam` (8 bytes) belongs to a label that exists and is not revoked; constant time in its MAC. */
  accepts: (nospam: Uint8Array) => boolean
}
