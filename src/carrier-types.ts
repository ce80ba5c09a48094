/** The library's main type: one running Carrier. The daemon, the CLI and applications use the same engine. */
import type { AuditLog } from './audit/index.ts'
import type { Clock, KeepaliveMode, Logger, Metrics, Startable } from './base/index.ts'
import type { Forwarding, ItemSource } from './forwarding/index.ts'
import type { Friends } from './friends/index.ts'
import type { AddressBook, Did, Identity } from './identity/index.ts'
import type { CarrierNode, Path, RelayStatus, UpstreamInit } from './node/index.ts'
import type { LinkKind, PathReason, SessionManager } from './session/index.ts'

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
  /** How soon the loss of a link is noticed: `fast` (4 s), `normal` (the default: 4 s in use, 25 s idle) or `saver` (few wake-ups). */
  keepalive?: KeepaliveMode
  /** Friends and this node tell each other their public addresses inside their session and punch through their routers; true when absent. False: everything stays at the relays, unless one of them listens. */
  punch?: boolean
  /** The proxy to relays, and certificates that are trusted besides the usual ones; neither when absent. */
  upstream?: UpstreamInit
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

/** The way to a friend, and what stands against a better one. */
export interface WayReport {
  did: Did
  label: string
  presence: 'online' | 'offline'
  link: string | undefined
  path: Path | undefined
  relayPeerId: string | undefined
  /** False when that relay is the friend's and not one of ours; undefined without a relay. */
  isRelayListed: boolean | undefined
  rttMs: number | undefined
  /** Why there is no session; undefined when there is one. */
  offlineReason: string | undefined
  /** One for each way that would be better. */
  reasons: PathReason[]
  /** Whether the friend lets us dial the service that was named; undefined when none was, or the friend is not there. */
  service: { name: string, isOffered: boolean } | undefined
  /** What would help, in the imperative; empty when nothing is wrong. */
  advice: string[]
}

/** What kind of network a node is in. */
export interface NetReport {
  /** How the router maps ports: \`none\` is no router at all; see \`reason\` for \`unknown\`. */
  nat: 'none' | 'independent' | 'dependent' | 'unknown'
  /** Address and port under which relays saw a fresh port of this machine. */
  seenAs: string[]
  reason: string | undefined
  hasIpv4: boolean
  hasIpv6: boolean
  /** Addresses on which the node listens. */
  listen: string[]
  relays: RelayStatus[]
  /** What would help, in the imperative; empty when nothing is wrong. */
  advice: string[]
}

/** One thing that `doctor` looked at. */
export interface DoctorCheck {
  /** What kind of thing; stable, several checks may share it. */
  name: string
  /** Which one, where there are several: an address, a name. */
  subject: string | undefined
  /** `warn`: it works, or may be meant so. `fail`: something does not work. */
  result: 'ok' | 'warn' | 'fail'
  /** What was found, and why. */
  text: string
  /** What to do next; undefined when there is nothing to do. */
  advice: string | undefined
}

/** Everything that was looked at, in an order for people. */
export interface DoctorReport { checks: DoctorCheck[] }

/** One step of a connection to a service. */
export interface TraceStep {
  /** `friend`, `session`, `way`, `relay`, `offer`, `open` or `answer`, in this order; steps behind a failed one are left out. */
  step: 'friend' | 'session' | 'way' | 'relay' | 'offer' | 'open' | 'answer'
  result: 'ok' | 'failed'
  /** What it took; undefined where there is nothing to measure. */
  ms: number | undefined
  text: string
}

/** A connection to a service, step by step. */
export interface TraceReport {
  did: Did
  label: string
  service: string
  steps: TraceStep[]
  /** What a connection would end with; undefined when one comes about. */
  code: string | undefined
  /** Where the time goes, or what is wrong: one sentence. */
  summary: string
  /** What would help, in the imperative; empty when nothing is wrong. */
  advice: string[]
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
  /**
   * Why bytes to a friend (and, with a name behind a slash, to one of the friend's services) take the way they take, or none.
   *
   * @throws ERR_UNKNOWN_FRIEND
   */
  why: (to: string, options?: { signal?: AbortSignal }) => Promise<WayReport>
  /** Asks the relays what kind of network this is. */
  netcheck: (options?: { signal?: AbortSignal }) => Promise<NetReport>
  /** Looks at everything that a Carrier stands on; never throws because of what it finds. Takes at most about LIMITS.doctorCheckMs. */
  doctor: (options?: { signal?: AbortSignal }) => Promise<DoctorReport>
  /**
   * Takes the steps of a connection to `WHO/SERVICE` and times each. The friend records the last one as an access (I6).
   *
   * @throws ERR_UNKNOWN_FRIEND, ERR_INVALID_ARGUMENT
   */
  trace: (to: string, options?: { signal?: AbortSignal }) => Promise<TraceReport>
  /** Every event of every part: `friend:*`, `session:*`, `forward:*`, `relay:*`, `node:*`. Payloads are plain JSON. Returns the remover. */
  onAnyEvent: (listener: (name: string, payload: unknown) => void) => () => void
}
