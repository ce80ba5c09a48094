/** Structured logs. Values are facts about what happened: never keys, secrets or payload. */
import { pino } from 'pino'

/** Facts that go with a log line. */
export type LogFields = Record<string, unknown>

/** What every part logs through; `child` adds a scope such as `carrier:session`. */
export interface Logger {
  debug: (message: string, fields?: LogFields) => void
  info: (message: string, fields?: LogFields) => void
  warn: (message: string, fields?: LogFields) => void
  error: (message: string, fields?: LogFields) => void
  child: (scope: string) => Logger
}

/** Names of levels, least important first. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Where lines go; `write` gets one JSON line with its newline. */
export interface LogSink { write: (line: string) => void }

/** Field names whose values are never written. */
const REDACTED = ['privateKey', 'secret', 'passphrase', 'token', 'nospam', 'address', 'seed'].flatMap((name) => [name, `*.${name}`])

/** A pino logger that writes JSON lines to `sink`. */
export function createLogger (scope: string, init: { level: LogLevel, sink: LogSink }): Logger {
  const root = pino({
    level: init.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: { paths: REDACTED, censor: '[redacted]' },
    serializers: { err: serializeError }
  }, init.sink)
  return wrap(root, scope)
}

/** Swallows everything; for tests and for library users that want silence. */
export const silentLogger: Logger = {
  debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silentLogger
}

interface PinoLike {
  debug: (fields: LogFields, message: string) => void
  info: (fields: LogFields, message: string) => void
  warn: (fields: LogFields, message: string) => void
  error: (fields: LogFields, message: string) => void
}

function wrap (root: PinoLike, scope: string): Logger {
  return {
    debug: (message, fields) => { root.debug({ scope, ...fields }, message) },
    info: (message, fields) => { root.info({ scope, ...fields }, message) },
    warn: (message, fields) => { root.warn({ scope, ...fields }, message) },
    error: (message, fields) => { root.error({ scope, ...fields }, message) },
    child: (name) => wrap(root, name)
  }
}

function serializeError (err: unknown): unknown {
  if (!(err instanceof Error)) return String(err)
  const code = (err as { code?: unknown }).code
  const cause = err.cause
  return {
    name: err.name,
    message: err.message,
    ...(code === undefined ? {} : { code }),
    ...(cause instanceof Error ? { cause: cause.message } : {})
  }
}
