/** The configuration file of a bootstrap node: its keys and units, and how they become settings. */
import { z } from 'zod'
import { CarrierError, LIMITS, errorMessage, parseToml } from '../base/index.ts'
import type { AdmissionSettings } from './admission-files.ts'
import { parseListEntry } from './admission-lists.ts'
import { BOOTSTRAP_DEFAULTS, parseAnnounceAddress, parseHealthAddress, parseListenAddress, parsePeerAddress, parseSpliceAddress } from './config.ts'
import type { BootstrapSettings } from './config.ts'
import { CONNECTION_DEFAULTS } from './connection-gate.ts'
import type { CircuitLimits } from './hop-messages.ts'
import type { QuotaSettings, Quotas } from './quota-book.ts'

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
  return toSettings(result.data, (...path) => `${file}:${document.lineOf(path)}`)
}

/** A zod string that one of the parsers reads. */
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

const byteCount = z.number().int().min(1024).max(Number.MAX_SAFE_INTEGER).optional()

const QuotaSchema = z.strictObject({ reservations: count(1_000_000), circuits: count(1_000_000), bytes_per_second: byteCount, bytes_per_day: byteCount }).optional()

const list = z.array(parsed(parseListEntry)).max(LIMITS.relayAdmissionListCount).optional()

const AdmissionSchema = z.strictObject({
  mode: z.enum(['open', 'allow-list', 'members', 'friends']).optional(),
  callers: z.enum(['anyone', 'listed']).optional(),
  allow: list,
  allow_file: z.string().min(1).optional(),
  members: list,
  members_file: z.string().min(1).optional(),
  friends: list,
  friends_file: z.string().min(1).optional()
})

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
  connections: z.strictObject({ per_source_per_second: count(1_000_000), max_pending: count(100_000), handshakes_per_second: count(100_000) }).optional(),
  admission: AdmissionSchema.optional(),
  quotas: z.strictObject({ bytes_per_second: byteCount, friend: QuotaSchema, member: QuotaSchema, stranger: QuotaSchema, strangers: QuotaSchema }).optional(),
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

/** `FILE:LINE` of a key. */
type Locate = (...path: Array<string | number>) => string

function toSettings (file: z.output<typeof FileSchema>, locate: Locate): BootstrapSettings {
  const { relay = {} } = file
  const limits: CircuitLimits = withoutUndefined({
    durationSeconds: relay.circuit_duration_seconds,
    dataBytes: relay.circuit_data_bytes === undefined ? undefined : BigInt(relay.circuit_data_bytes)
  })
  return withoutUndefined({
    dataDirectory: file.data_dir,
    listen: file.listen,
    listenWhere: file.listen?.map((_, index) => locate('listen', index)),
    announce: file.announce,
    peers: file.peers,
    health: file.health,
    tls: file.tls === undefined ? undefined : { certificateFile: file.tls.cert_file, keyFile: file.tls.key_file, where: { cert: locate('tls', 'cert_file'), key: locate('tls', 'key_file') } },
    splice: file.splice,
    announceSplice: file.announce_splice,
    spliceCopy: relay.splice_copy,
    spliceBytesPerSecond: relay.splice_bytes_per_second,
    logLevel: file.log_level,
    maxConnections: file.max_connections,
    connections: file.connections === undefined ? undefined : { perSourcePerSecond: file.connections.per_source_per_second ?? CONNECTION_DEFAULTS.perSourcePerSecond, maxPending: file.connections.max_pending ?? CONNECTION_DEFAULTS.maxPending, handshakesPerSecond: file.connections.handshakes_per_second ?? CONNECTION_DEFAULTS.handshakesPerSecond },
    admission: file.admission === undefined ? undefined : toAdmission(file.admission, locate),
    quotas: file.quotas === undefined ? undefined : toQuotas(file.quotas),
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

function toAdmission (file: z.output<typeof AdmissionSchema>, locate: Locate): AdmissionSettings {
  return {
    mode: file.mode ?? 'open',
    callers: file.callers ?? 'anyone',
    lists: { allow: new Set(file.allow), members: new Set(file.members), friends: new Set(file.friends) },
    files: withoutUndefined({ allow: file.allow_file, members: file.members_file, friends: file.friends_file }),
    where: { mode: locate('admission', 'mode'), allow: locate('admission', 'allow_file'), members: locate('admission', 'members_file'), friends: locate('admission', 'friends_file') }
  }
}

function toQuotas (file: NonNullable<z.output<typeof FileSchema>['quotas']>): QuotaSettings {
  const { quotas } = BOOTSTRAP_DEFAULTS
  const of = (name: 'friend' | 'member' | 'stranger' | 'strangers'): Quotas => {
    const { reservations, circuits, bytes_per_second: bytesPerSecond, bytes_per_day: bytesPerDay } = file[name] ?? {}
    return { ...quotas[name], ...withoutUndefined({ reservations, circuits, bytesPerSecond, bytesPerDay }) }
  }
  return { friend: of('friend'), member: of('member'), stranger: of('stranger'), strangers: of('strangers'), ...withoutUndefined({ bytesPerSecond: file.bytes_per_second }) }
}

type Defined<Value> = { [Key in keyof Value]?: Exclude<Value[Key], undefined> }

function withoutUndefined<Value extends object> (value: Value): Defined<Value> {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as Defined<Value>
}
