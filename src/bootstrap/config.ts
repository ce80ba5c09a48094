/** The configuration of a bootstrap node: one TOML file, over it the environment, over that the flags. */
import { multiaddr } from '@multiformats/multiaddr'
import { CarrierError, LIMITS, errorMessage } from '../base/index.ts'
import type { LogLevel } from '../base/index.ts'
import type { AdmissionSettings } from './admission-files.ts'
import { CONNECTION_DEFAULTS } from './connection-gate.ts'
import type { ConnectionBounds } from './connection-gate.ts'
import type { HealthAddress } from './health-server.ts'
import type { CircuitLimits } from './hop-messages.ts'
import { completeBounds } from './hop-bounds.ts'
import type { HopServerInit } from './hop-bounds.ts'
import type { QuotaSettings } from './quota-book.ts'
import type { SpliceCopy } from './splice-leg.ts'

/** Everything that can be configured, checked. */
export interface BootstrapConfig {
  dataDirectory: string
  /** Multiaddrs to listen on: TCP and WebSocket. */
  listen: readonly string[]
  /** Where each of these stands, as `FILE:LINE`; undefined: not in a file. */
  listenWhere?: readonly string[] | undefined
  /** Multiaddrs that others shall use; empty: those on which it listens. */
  announce: readonly string[]
  /** Other bootstrap nodes, as multiaddrs with /p2p/…. */
  peers: readonly string[]
  health: HealthAddress
  logLevel: LogLevel
  maxConnections: number
  connections: ConnectionBounds
  /** Whom the relay serves. */
  admission: AdmissionSettings
  quotas: QuotaSettings
  drainMs: number
  /** Limits of each circuit, announced to both ends; undefined: none. */
  circuitLimits: CircuitLimits | undefined
  relay: HopServerInit
  /** PEM files for TLS on WebSocket; undefined: there is none. */
  tls: TlsFiles | undefined
  /** Where legs of splices are taken; `auto`: on the addresses of plain TCP, one port above. */
  splice: SpliceAddress
  /** The splice port that others shall use, when it differs from the bound one. */
  announceSplice: number | undefined
  /** How splices read; `public` is for comparison. */
  spliceCopy: SpliceCopy
  /** What each identity may send through splices in a second; undefined: no bound. */
  spliceBytesPerSecond: number | undefined
}

/** A certificate with its chain, and its key. `where`: the places in the configuration that name them, as `FILE:LINE`. */
export interface TlsFiles { certificateFile: string, keyFile: string, where?: { cert: string, key: string } }

/** Where the splice port is. */
export type SpliceAddress = 'auto' | 'off' | HealthAddress

/** Settings of one source, before defaults; absent means not set there. */
export type BootstrapSettings = Partial<Pick<BootstrapConfig, 'dataDirectory' | 'listen' | 'listenWhere' | 'announce' | 'peers' | 'health' | 'logLevel' | 'maxConnections' | 'connections' | 'admission' | 'quotas' | 'drainMs' | 'circuitLimits' | 'relay' | 'tls' | 'splice' | 'announceSplice' | 'spliceCopy' | 'spliceBytesPerSecond'>>

/** What holds where nothing is configured; the data directory has no default here. */
export const BOOTSTRAP_DEFAULTS: Omit<BootstrapConfig, 'dataDirectory'> = {
  listen: ['/ip4/0.0.0.0/tcp/4001', '/ip6/::/tcp/4001', '/ip4/0.0.0.0/tcp/4003/ws', '/ip6/::/tcp/4003/ws'],
  announce: [],
  peers: [],
  // port 0 picks a free one, which is printed: two nodes on one machine do not collide
  health: { host: '127.0.0.1', port: 0 },
  logLevel: 'info',
  maxConnections: LIMITS.relayConnectionCount,
  connections: CONNECTION_DEFAULTS,
  admission: { mode: 'open', callers: 'anyone', lists: { allow: new Set(), members: new Set(), friends: new Set() }, files: {} },
  // identities are free: without this one source could take all places
  quotas: { friend: {}, member: {}, stranger: { reservations: LIMITS.relayReservationsPerSourceCount, circuits: LIMITS.relayCircuitsPerSourceCount }, strangers: {}, places: { reservations: LIMITS.relayReservationCount, circuits: LIMITS.relayCircuitCount } },
  drainMs: LIMITS.relayDrainMs,
  circuitLimits: undefined,
  relay: {},
  tls: undefined,
  splice: 'auto',
  announceSplice: undefined,
  spliceCopy: 'auto',
  spliceBytesPerSecond: undefined
}

/** Puts the sources together; the last one wins. Where somebody is listed, strangers leave an eighth of all places to them, unless it was said how many. */
export function composeConfig (dataDirectory: string, sources: readonly BootstrapSettings[]): BootstrapConfig {
  const config = Object.assign({ ...BOOTSTRAP_DEFAULTS, dataDirectory }, ...sources) as BootstrapConfig
  // flags may have replaced the addresses of the file
  const from = sources.findLast(({ listen }) => listen !== undefined)
  delete config.listenWhere
  if (from?.listenWhere !== undefined) config.listenWhere = from.listenWhere
  const { lists, files } = config.admission
  const { maxReservations, maxCircuits } = completeBounds(config.relay)
  config.quotas = { ...config.quotas, places: { reservations: maxReservations, circuits: maxCircuits } }
  const isAnyoneListed = lists.allow.size + lists.members.size + lists.friends.size + Object.keys(files).length > 0
  if (!isAnyoneListed) return config
  const { quotas } = config
  return { ...config, quotas: { ...quotas, strangers: { reservations: strangersShare(maxReservations), circuits: strangersShare(maxCircuits), ...quotas.strangers } } }
}

function strangersShare (count: number): number { return Math.max(1, Math.floor(count * 7 / 8)) }

/** Reads HOST:PORT; [HOST]:PORT for IPv6. @throws CarrierError ERR_CONFIG */
export function parseHealthAddress (text: string): HealthAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65_535) throw new CarrierError('ERR_CONFIG', `"${text}" is not HOST:PORT, for example 127.0.0.1:9180`)
  return { host, port }
}

/** Reads `auto`, `off` or HOST:PORT. @throws CarrierError ERR_CONFIG */
export function parseSpliceAddress (text: string): SpliceAddress {
  if (text === 'auto' || text === 'off') return text
  try {
    return parseHealthAddress(text)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `"${text}" is not a place for splices: it takes HOST:PORT, for example 0.0.0.0:4002, or "off"`, { cause: err })
  }
}

/** Reads a port that is announced. @throws CarrierError ERR_CONFIG */
export function parseAnnouncedPort (text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65_535) throw new CarrierError('ERR_CONFIG', `"${text}" is not a port (1 to 65535)`)
  return port
}

/** Where splices are taken: the hosts of plain TCP with the port above theirs, unless it was said. None: WebSocket only, or off. */
export function spliceAddresses (config: Pick<BootstrapConfig, 'splice' | 'listen'>): HealthAddress[] {
  if (config.splice === 'off') return []
  if (config.splice !== 'auto') return [config.splice]
  const plain = config.listen.map((text) => multiaddr(text).getComponents()).filter((parts) => parts.length === 2)
  const port = Number(plain[0]?.[1]?.value)
  const hosts = new Set(plain.map((parts) => parts[0]?.value ?? ''))
  // one port for all, because a ticket names one; the highest TCP port has none above it
  return [...hosts].map((host) => ({ host, port: port === 0 || port === 65_535 ? 0 : port + 1 }))
}

/** Checks a multiaddr to listen on. @throws CarrierError ERR_CONFIG */
export function parseListenAddress (text: string): string {
  const names = protocolsOf(text)
  if (!(names[0] === 'ip4' || names[0] === 'ip6') || names[1] !== 'tcp' || !['', 'ws', 'tls/ws'].includes(names.slice(2).join('/'))) {
    throw new CarrierError('ERR_CONFIG', `"${text}" cannot be listened on: it takes /ip4/…/tcp/PORT or /ip6/…/tcp/PORT, with /ws at the end for WebSocket, /tls/ws for WebSocket in TLS`)
  }
  return text
}

/** Checks a multiaddr that is announced to others. @throws CarrierError ERR_CONFIG */
export function parseAnnounceAddress (text: string): string {
  if (!protocolsOf(text).includes('tcp')) throw new CarrierError('ERR_CONFIG', `"${text}" cannot be announced: it takes /ip4/…/tcp/PORT, /ip6/…/tcp/PORT or /dns/…/tcp/PORT, with /ws or /wss for WebSocket`)
  return text
}

/** Checks the multiaddr of another bootstrap node. @throws CarrierError ERR_CONFIG */
export function parsePeerAddress (text: string): string {
  if (protocolsOf(text).at(-1) !== 'p2p') throw new CarrierError('ERR_CONFIG', `"${text}" does not end with /p2p/PEERID: without it anybody could answer at that address`)
  return text
}

function protocolsOf (text: string): string[] {
  try {
    return multiaddr(text).getComponents().map((component) => component.name)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `"${text}" is not a multiaddr: ${errorMessage(err)}`, { cause: err })
  }
}
