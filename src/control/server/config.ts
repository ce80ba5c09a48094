/** carrier.toml: what a daemon is started from. Every complaint says FILE:LINE, what is wrong and what would be right. */
import { z } from 'zod'
import type { DeclaredForward, DeclaredService, ListenMode } from '../../carrier-types.ts'
import type { KeepaliveMode, LogLevel } from '../../base/index.ts'
import { CarrierError, KEEPALIVE_MODES, LIMITS, errorMessage } from '../../base/index.ts'
import { parseRelayAddress } from '../../node/index.ts'
import { parseToml } from '../../base/toml.ts'
import type { TomlDocument } from '../../base/toml.ts'
import { NetworkShape, toNetworkConfig } from './network-settings.ts'
import type { NetworkConfig } from './network-settings.ts'

/** What a file says; absent means "not said here". */
export interface CarrierConfig {
  relays?: string[]
  listen?: ListenMode
  port?: number
  keepalive?: KeepaliveMode
  punch?: boolean
  logLevel?: LogLevel
  network?: NetworkConfig
  services: DeclaredService[]
  forwards: DeclaredForward[]
}

/** Modes of `listen`. */
export const LISTEN_MODES = ['none', 'lan', 'mapped', 'public'] as const satisfies readonly ListenMode[]

/** Levels of the log. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const satisfies readonly LogLevel[]

const PortNumber = z.number().int().min(1).max(65_535)
const Relay = z.string().transform((text, context) => {
  try {
    return parseRelayAddress(text).text
  } catch (err) {
    context.addIssue({ code: 'custom', message: errorMessage(err) })
    return z.NEVER
  }
})
// DNS labels (stored lower case); the engine checks the finer rules and names this file and line too
const ItemName = z.string().regex(/^[a-zA-Z0-9-]{1,63}$/, 'a name has 1 to 63 of the characters a-z, 0-9 and -')
const Service = z.strictObject({
  target: z.union([PortNumber.transform(String), z.string().min(1).max(512)], { error: 'must be PORT, "HOST:PORT" or "unix:PATH"' }),
  allow: z.array(z.string().min(1).max(256)).max(LIMITS.friendCount).optional()
})
const LISTEN_FORM = 'must be PORT or "HOST:PORT"'
const ForwardItem = z.strictObject({
  listen: z.union([z.number().int().min(0).max(65_535).transform(String), z.string().regex(/^(.+:)?\d{1,5}$/, LISTEN_FORM)], { error: LISTEN_FORM }),
  to: z.string().regex(/^.+\/[^/]+$/, 'must be "WHO/SERVICE"')
})

/** The whole file. Its keys are the documentation's table. */
export const ConfigShape = z.strictObject({
  relays: z.array(Relay).max(LIMITS.relayCount, `at most ${LIMITS.relayCount} relays`).optional(),
  listen: z.enum(LISTEN_MODES, { error: `must be one of ${LISTEN_MODES.join(', ')}` }).optional(),
  port: z.number({ error: 'must be a number from 0 to 65535' }).int().min(0).max(65_535, 'must be a number from 0 to 65535').optional(),
  punch: z.boolean().optional(),
  keepalive: z.enum(KEEPALIVE_MODES, { error: `must be one of ${KEEPALIVE_MODES.join(', ')}` }).optional(),
  log_level: z.enum(LOG_LEVELS, { error: `must be one of ${LOG_LEVELS.join(', ')}` }).optional(),
  network: NetworkShape.optional(),
  services: z.record(ItemName, Service).optional(),
  forwards: z.record(ItemName, ForwardItem).optional()
})

/** Keys that a table of the file may have; for messages and documents. */
export const CONFIG_KEYS = {
  '': Object.keys(ConfigShape.shape),
  network: Object.keys(NetworkShape.shape),
  'services.NAME': Object.keys(Service.shape),
  'forwards.NAME': Object.keys(ForwardItem.shape)
} as const

/**
 * Reads the text of a carrier.toml; `file` is its path for messages.
 *
 * @throws CarrierError ERR_CONFIG, one line `FILE:LINE: …` per complaint
 */
export function parseConfig (text: string, file: string): CarrierConfig {
  const document = parseToml(text, file)
  const parsed = ConfigShape.safeParse(document.value)
  if (!parsed.success) {
    const complaints = parsed.error.issues.flatMap((issue) => describe(issue, document, file))
    throw new CarrierError('ERR_CONFIG', complaints.slice(0, 8).join('\n'), { detail: { file } })
  }
  const { relays, listen, port, keepalive, punch, log_level: logLevel, network, services = {}, forwards = {} } = parsed.data
  return {
    ...(relays === undefined ? {} : { relays }),
    ...(listen === undefined ? {} : { listen }),
    ...(port === undefined ? {} : { port }),
    ...(keepalive === undefined ? {} : { keepalive }),
    ...(punch === undefined ? {} : { punch }),
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(network === undefined ? {} : { network: toNetworkConfig(network, file) }),
    services: Object.entries(services).map(([name, { target, allow = [] }]) => ({
      name, target, allow, source: { kind: 'config', file, line: document.lineOf(['services', name]) }
    })),
    forwards: Object.entries(forwards).map(([name, item]) => ({
      name, ...item, source: { kind: 'config', file, line: document.lineOf(['forwards', name]) }
    }))
  }
}

function describe (issue: z.core.$ZodIssue, document: TomlDocument, file: string): string[] {
  const path = issue.path.map((part) => typeof part === 'number' ? part : String(part))
  if (issue.code === 'unrecognized_keys') {
    const table = path.length < 2 ? String(path[0] ?? '') : `${String(path[0])}.NAME`
    const known = (CONFIG_KEYS as Record<string, readonly string[]>)[table] ?? []
    return issue.keys.map((key) =>
      `${file}:${document.lineOf([...path, key])}: unknown key "${key}"${path.length === 0 ? '' : ` in [${path.join('.')}]`}, known keys are ${known.join(', ')}`)
  }
  const key = path.join('.')
  const isMissing = issue.code !== 'invalid_key' && !has(document.value, path)
  const reason = issue.code === 'invalid_key' ? issue.issues[0]?.message ?? issue.message : issue.message
  return [`${file}:${document.lineOf(path)}: ${isMissing ? `"${key}" is missing` : `"${key}": ${reason}`}`]
}

function has (value: unknown, path: ReadonlyArray<string | number>): boolean {
  let at: unknown = value
  for (const part of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return false
    at = (at as Record<string | number, unknown>)[part]
  }
  return true
}
