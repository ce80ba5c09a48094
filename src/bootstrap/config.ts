/** The configuration of a bootstrap node: one TOML file, over it the environment, over that the flags. */
import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import { CarrierError, LIMITS, errorMessage, parseToml } from '../base/index.ts'
import type { LogLevel } from '../base/index.ts'
import type { HealthAddress } from './health-server.ts'
import type { CircuitLimits } from './hop-messages.ts'
import type { HopServerInit } from './hop-server.ts'
import type { SpliceCopy } from './splice-leg.ts'

/** Everything that can be configured, checked. */
export interface BootstrapConfig {
  dataDirectory: string
  /** Multiaddrs to listen on: TCP and WebSocket. */
  listen: readonly string[]
  /** Multiaddrs that others shall use; empty: those on which it listens. */
  announce: readonly string[]
  /** Other bootstrap nodes, as multiaddrs with /p2p/…. */
  peers: readonly string[]
  health: HealthAddress
  logLevel: LogLevel
  maxConnections: number
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

/** A certificate with its chain, and its key. */
export interface TlsFiles { certificateFile: string, keyFile: string }

/** Where the splice port is. */
export type SpliceAddress = 'auto' | 'off' | HealthAddress

/** Settings of one source, before defaults; absent means not set there. */
export type BootstrapSettings = Partial<Pick<BootstrapConfig, 'dataDirectory' | 'listen' | 'announce' | 'peers' | 'health' | 'logLevel' | 'maxConnections' | 'drainMs' | 'circuitLimits' | 'relay' | 'tls' | 'splice' | 'announceSplice' | 'spliceCopy' | 'spliceBytesPerSecond'>>

/** What holds where nothing is configured; the data directory has no default here. */
export const BOOTSTRAP_DEFAULTS: Omit<BootstrapConfig, 'dataDirectory'> = {
  listen: ['/ip4/0.0.0.0/tcp/4001', '/ip6/::/tcp/4001', '/ip4/0.0.0.0/tcp/4003/ws', '/ip6/::/tcp/4003/ws'],
  announce: [],
  peers: [],
  // port 0 picks a free one, which is printed: two nodes on one machine do not collide
  health: { host: '127.0.0.1', port: 0 },
  logLevel: 'info',
  maxConnections: LIMITS.relayConnectionCount,
  drainMs: LIMITS.relayDrainMs,
  circuitLimits: undefined,
  relay: {},
  tls: undefined,
  splice: 'auto',
  announceSplice: undefined,
  spliceCopy: 'auto',
  spliceBytesPerSecond: undefined
}

/** Puts the sources together; the last one wins. */
export function composeConfig (dataDirectory: string, sources: readonly BootstrapSettings[]): BootstrapConfig {
  return Object.assign({ ...BOOTSTRAP_DEFAULTS, dataDirectory }, ...sources) as BootstrapConfig
}

/**
 * Reads a configuration file.
 *
 * @throws CarrierError ERR_CONFIG `FILE:LINE: what is wrong` for bad syntax, an unknown key or a wrong value
 */
export function parseBootstrapConfig (text: string, file: string): BootstrapSettings {
  const document = parseToml(text, file)
  const result = FileSchema.safeParse(document.value)
  if (!result.success) {
    const issue = result.error.issues[0]
    const path = (issue?.path ?? []).filter((part) => typeof part !== 'symbol')
    const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
    const where = unknown === undefined ? path : [...path, unknown]
    const what = unknown === undefined ? issue?.message ?? 'invalid' : 'unknown key'
    throw new CarrierError('ERR_CONFIG', `${file}:${document.lineOf(where)}: ${where.join('.')}: ${what}`)
  }
  return toSettings(result.data)
}

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

/** A zod string that one of the parsers above reads. */
function parsed<Value> (parse: (text: string) => Value): z.ZodType<Value, string> {
  return z.string().transform((text, context) => {
    try {
      return parse(text)
    } catch (err) {
      context.addIssue({ code: 'custom', message: errorMessage(err) })
      return z.NEVER
    }
  })
}

const count = (limit: number): z.ZodOptional<z.ZodNumber> => z.number().int().min(1).max(limit).optional()

const FileSchema = z.strictObject({
  data_dir: z.string().min(1).optional(),
  listen: z.array(parsed(parseListenAddress)).min(1).optional(),
  announce: z.array(parsed(parseAnnounceAddress)).optional(),
  peers: z.array(parsed(parsePeerAddress)).max(LIMITS.relayPeerCount).optional(),
  health: parsed(parseHealthAddress).optional(),
  tls: z.strictObject({ cert_file: z.string().min(1), key_file: z.string().min(1) }).optional(),
  splice: parsed(parseSpliceAddress).optional(),
  announce_splice: z.number().int().min(1).max(65_535).optional(),
  log_level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).optional(),
  max_connections: count(1_000_000),
  drain_seconds: z.number().int().min(0).max(3600).optional(),
  relay: z.strictObject({
    max_reservations: count(1_000_000),
    reservation_ttl_seconds: z.number().int().min(60).max(86_400).optional(),
    max_circuits: count(1_000_000),
    max_circuits_per_caller: count(100_000),
    max_circuits_per_called: count(100_000),
    max_buffered_bytes: z.number().int().min(1024 * 1024).optional(),
    circuit_duration_seconds: count(0xffff_ffff),
    circuit_data_bytes: count(Number.MAX_SAFE_INTEGER),
    splice_bytes_per_second: z.number().int().min(1024).max(Number.MAX_SAFE_INTEGER).optional(),
    splice_copy: z.enum(['auto', 'public']).optional()
  }).optional()
})

function toSettings (file: z.output<typeof FileSchema>): BootstrapSettings {
  const { relay = {} } = file
  const limits: CircuitLimits = withoutUndefined({
    durationSeconds: relay.circuit_duration_seconds,
    dataBytes: relay.circuit_data_bytes === undefined ? undefined : BigInt(relay.circuit_data_bytes)
  })
  return withoutUndefined({
    dataDirectory: file.data_dir,
    listen: file.listen,
    announce: file.announce,
    peers: file.peers,
    health: file.health,
    tls: file.tls === undefined ? undefined : { certificateFile: file.tls.cert_file, keyFile: file.tls.key_file },
    splice: file.splice,
    announceSplice: file.announce_splice,
    spliceCopy: relay.splice_copy,
    spliceBytesPerSecond: relay.splice_bytes_per_second,
    logLevel: file.log_level,
    maxConnections: file.max_connections,
    drainMs: file.drain_seconds === undefined ? undefined : file.drain_seconds * 1000,
    circuitLimits: Object.keys(limits).length === 0 ? undefined : limits,
    relay: withoutUndefined({
      maxReservations: relay.max_reservations,
      reservationTtlMs: relay.reservation_ttl_seconds === undefined ? undefined : relay.reservation_ttl_seconds * 1000,
      maxCircuits: relay.max_circuits,
      maxCircuitsPerCaller: relay.max_circuits_per_caller,
      maxCircuitsPerCalled: relay.max_circuits_per_called,
      maxBufferedBytes: relay.max_buffered_bytes
    })
  })
}

type Defined<Value> = { [Key in keyof Value]?: Exclude<Value[Key], undefined> }

function withoutUndefined<Value extends object> (value: Value): Defined<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as Defined<Value>
}
