/** The door types of forwarding/: services that we offer, forwards that we use. */
import type { Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Path } from '../node/index.ts'
import type { Channel } from '../session/index.ts'

/** Where a service's connections go. Text forms: `PORT`, `HOST:PORT`, `unix:PATH`. */
export type ServiceTarget = { kind: 'tcp', host: string, port: number } | { kind: 'unix', path: string }

/** Who wrote an item: a command (`state`) or carrier.toml (`config`, with its line, unchangeable by commands). */
export type ItemSource = { kind: 'state' } | { kind: 'config', file: string, line: number }

/** A service that carrier.toml declares; `allow` holds labels or DIDs. */
export interface DeclaredService { name: string, target: string, allow: string[], source: ItemSource }

/** A forward that carrier.toml declares; `listen` is `[BIND:]PORT`, `to` is `WHO/SERVICE`. */
export interface DeclaredForward { name: string, listen: string, to: string, source: ItemSource }

/** A named target, dark to everybody who is not in `allow`. */
export interface Service {
  name: string
  target: ServiceTarget
  allow: Did[]
  source: ItemSource
  /** Live connections now. */
  connectionCount: number
}

/** A local listener bound to a friend's service. */
export interface Forward {
  /** The port asked for (0: any) and where it listens now. */
  bind: { host: string, port: number }
  listen: string
  /** `label/service` as people write it; stored by DID. */
  to: string
  /** Undefined only while carrier.toml names somebody who is not in the friend list. */
  friend: Did | undefined
  service: string
  /** `once`: gone when the daemon stops. */
  isPersistent: boolean
  source: ItemSource
  /**
   * `active` only with an end-to-end proof (probe or a passing connection) since the last failure.
   * `refused`: not offered to us or not there. `target-down`: the friend answered, its target did not.
   * `error`: cannot listen (see reason).
   */
  state: 'connecting' | 'active' | 'offline' | 'refused' | 'target-down' | 'error'
  reason: string | undefined
  path: Path | undefined
  connectionCount: number
  /** Epoch ms of the last proof. */
  provenAt: number | undefined
}

/** Events. */
export interface ForwardingEvents {
  'forward:state': Forward
  'forward:closed': { listen: string, to: string }
  'service:changed': { name: string }
  'service:connection': { name: string, owner: Did, state: 'open' | 'closed' }
}

/** Both halves of port forwarding. WHO is a label or a DID. */
export interface Forwarding extends Startable {
  on: <Name extends keyof ForwardingEvents & string>(name: Name, listener: (payload: ForwardingEvents[Name]) => void) => () => void

  /** Offers `name`. Repeating it replaces the target and adds to the allow-list. @throws ERR_INVALID_ARGUMENT, ERR_UNKNOWN_FRIEND, ERR_CONFIG_OWNED, ERR_LIMIT */
  serve: (name: string, target: string, options?: { allow?: string[] }) => Service
  /** Ends live connections too. @throws ERR_NOT_FOUND, ERR_CONFIG_OWNED */
  unserve: (name: string) => void
  grant: (who: string, service: string) => Service
  /** Withdraws one service, or all, from a friend; live connections are cut within 1 s. Returns how many were cut. */
  revoke: (who: string, service?: string) => { services: string[], closedConnections: number }
  services: () => Service[]
  /** Names that the friend lets us dial. @throws ERR_PEER_OFFLINE, ERR_TIMEOUT */
  remoteServices: (who: string, options?: { signal?: AbortSignal }) => Promise<string[]>

  /**
   * Binds a local port to `WHO/SERVICE`, probes it end to end and keeps it.
   *
   * @throws ERR_NOT_AVAILABLE (nothing is kept), ERR_PORT_IN_USE, ERR_UNKNOWN_FRIEND, ERR_LIMIT, ERR_INVALID_ARGUMENT.
   *   An offline friend is no throw: the forward is kept with state `offline`.
   */
  openForward: (init: { host?: string, port: number, to: string, once?: boolean }, options?: { signal?: AbortSignal }) => Promise<Forward>
  /** By local port. @throws ERR_NOT_FOUND, ERR_CONFIG_OWNED */
  closeForward: (port: number) => Promise<Forward>
  forwards: () => Forward[]
  /** One pipe to `WHO/SERVICE` (carrier nc). Resolves at once; refusal destroys the channel. @throws ERR_PEER_OFFLINE, ERR_UNKNOWN_FRIEND */
  dial: (to: string, options?: { signal?: AbortSignal }) => Promise<Channel>
}
