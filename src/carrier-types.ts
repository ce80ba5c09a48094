/** The library's main type: one running Carrier. The daemon, the CLI and applications use the same engine. */
import type { AuditLog } from './audit/index.ts'
import type { Clock, Logger, Metrics, Startable } from './base/index.ts'
import type { Forwarding, ItemSource } from './forwarding/index.ts'
import type { Friends } from './friends/index.ts'
import type { AddressBook, Did, Identity } from './identity/index.ts'
import type { CarrierNode, Path, RelayStatus } from './node/index.ts'
import type { LinkKind, SessionManager } from './session/index.ts'

/** How a node may be reached besides its relays. `none`: no listener at all. */
export type ListenMode = 'none' | 'lan' | 'mapped' | 'public'

/** A service or forward that carrier.toml declares. */
export interface DeclaredService { name: string, target: string, allow: string[], source: ItemSource }
export interface DeclaredForward { name: string, listen: string, to: string, source: ItemSource }

/** What a Carrier is made of; everything but the directory has a default. */
export interface CarrierInit {
  /** Holds identity and state, mode 0700; one process at a time. */
  dataDirectory: string
  /** Relay multiaddrs with /p2p/ part, at most LIMITS.relayCount. There are no built-in ones (I10). */
  relays?: readonly string[]
  listen?: ListenMode
  /** Port for `listen` other than none; 0 picks one. */
  port?: number
  /** Opens a sealed keystore. */
  passphrase?: string
  services?: readonly DeclaredService[]
  forwards?: readonly DeclaredForward[]
  /** How long a session without a link waits for one before its channels fail, milliseconds; LIMITS.sessionResumeWindowMs when absent. 0: they fail with their link. */
  resumeWindowMs?: number
  log?: Logger
  clock?: Clock
  metrics?: Metrics
}

/** Reachability of a friend as `status` shows it: online means a live session. */
export type Presence = 'online' | 'offline' | 'requested'

/** Everything `carrier status` prints. */
export interface CarrierStatus {
  did: Did
  peerId: string
  version: string
  uptimeMs: number
  relays: RelayStatus[]
  friends: Array<{ did: Did, label: string, presence: Presence, link: LinkKind | undefined, path: Path | undefined, rttMs: number | undefined, lastSeenAt: number | undefined }>
  services: Array<{ name: string, target: string, allow: Did[], connections: number, source: 'state' | 'config' }>
  forwards: Array<{ listen: string, to: string, state: string, reason: string | undefined, path: Path | undefined, connections: number, source: 'state' | 'config' }>
  listen: string[]
  requestCount: number
  /** Plain sentences about what is wrong and what to do; empty when all is well. */
  problems: string[]
}

/** One running Carrier. `start` finishes or undoes itself; it never waits for a relay. */
export interface Carrier extends Startable {
  readonly identity: Identity
  readonly addresses: AddressBook
  readonly friends: Friends
  readonly sessions: SessionManager
  readonly forwarding: Forwarding
  readonly node: CarrierNode
  readonly audit: AuditLog
  readonly metrics: Metrics
  status: () => CarrierStatus
  /** Round trip to a friend through the session. @throws ERR_UNKNOWN_FRIEND, ERR_PEER_OFFLINE, ERR_TIMEOUT */
  ping: (who: string, options?: { signal?: AbortSignal }) => Promise<{ did: Did, label: string, rttMs: number, path: Path, relayPeerId: string | undefined, link: string }>
  /** Every event of every part: `friend:*`, `session:*`, `forward:*`, `relay:*`, `node:*`. Payloads are plain JSON. Returns the remover. */
  onAnyEvent: (listener: (name: string, payload: unknown) => void) => () => void
}
