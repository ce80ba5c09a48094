/** The closed list of things that can go wrong, and what each becomes at an edge: exit code, HTTP status, wire number. */

/** How one code appears outside: process exit code, status of the control API, number inside session frames. */
export interface ErrorFacts { exit: 1 | 2 | 3 | 4 | 5, http: number, wire: number }

/**
 * Every code that Carrier throws or sends. Match on `code`, never on a message or a class.
 * Wire numbers are part of PROTOCOL.md and never change meaning; 0 means "not sent to peers" (peers see ERR_INTERNAL).
 */
export const ERRORS = {
  ERR_INTERNAL: { exit: 1, http: 500, wire: 1 },
  ERR_PROTOCOL: { exit: 1, http: 502, wire: 2 },
  ERR_NOT_AVAILABLE: { exit: 3, http: 404, wire: 3 },
  ERR_TARGET_UNREACHABLE: { exit: 1, http: 502, wire: 4 },
  ERR_LIMIT: { exit: 1, http: 429, wire: 5 },
  ERR_LINK_LOST: { exit: 1, http: 502, wire: 6 },
  ERR_CANCELLED: { exit: 1, http: 499, wire: 7 },
  ERR_TIMEOUT: { exit: 5, http: 504, wire: 8 },
  ERR_CLOSED: { exit: 1, http: 410, wire: 9 },
  ERR_UNSUPPORTED_VERSION: { exit: 1, http: 502, wire: 10 },
  ERR_REVOKED: { exit: 3, http: 403, wire: 11 },
  ERR_DUPLICATE_IDENTITY: { exit: 1, http: 409, wire: 12 },
  ERR_RESET: { exit: 1, http: 502, wire: 13 },
  ERR_SUPERSEDED: { exit: 1, http: 409, wire: 14 },
  ERR_QUOTA: { exit: 1, http: 429, wire: 15 },
  ERR_PEER_OFFLINE: { exit: 4, http: 503, wire: 0 },
  ERR_NO_RELAY: { exit: 1, http: 503, wire: 0 },
  ERR_PROXY: { exit: 1, http: 502, wire: 0 },
  ERR_CERTIFICATE: { exit: 1, http: 502, wire: 0 },
  ERR_INVALID_ARGUMENT: { exit: 2, http: 400, wire: 0 },
  ERR_INVALID_ADDRESS: { exit: 2, http: 400, wire: 0 },
  ERR_UNSUPPORTED_ADDRESS: { exit: 2, http: 400, wire: 0 },
  ERR_OWN_ADDRESS: { exit: 2, http: 400, wire: 0 },
  ERR_INVALID_DID: { exit: 2, http: 400, wire: 0 },
  ERR_WEAK_KEY: { exit: 2, http: 400, wire: 0 },
  ERR_TOO_LARGE: { exit: 2, http: 413, wire: 0 },
  ERR_HELLO_TOO_LONG: { exit: 2, http: 400, wire: 0 },
  ERR_CONFIG: { exit: 2, http: 400, wire: 0 },
  ERR_UNKNOWN_FRIEND: { exit: 1, http: 404, wire: 0 },
  ERR_UNKNOWN_REQUEST: { exit: 1, http: 404, wire: 0 },
  ERR_NOT_FOUND: { exit: 1, http: 404, wire: 0 },
  ERR_ALREADY_EXISTS: { exit: 1, http: 409, wire: 0 },
  ERR_CONFIG_OWNED: { exit: 1, http: 409, wire: 0 },
  ERR_PORT_IN_USE: { exit: 1, http: 409, wire: 0 },
  ERR_NOT_RUNNING: { exit: 1, http: 503, wire: 0 },
  ERR_ALREADY_RUNNING: { exit: 1, http: 409, wire: 0 },
  ERR_UNAUTHORIZED: { exit: 3, http: 401, wire: 0 },
  ERR_KEYSTORE: { exit: 1, http: 500, wire: 0 },
  ERR_PASSPHRASE: { exit: 1, http: 500, wire: 0 },
  ERR_DATABASE: { exit: 1, http: 500, wire: 0 },
  ERR_DATABASE_CORRUPT: { exit: 1, http: 500, wire: 0 },
  ERR_DATABASE_NEWER: { exit: 1, http: 500, wire: 0 },
  ERR_AUDIT: { exit: 1, http: 500, wire: 0 }
} as const satisfies Record<string, ErrorFacts>

/** A code of the closed list in {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS

/** Optional parts of a {@link CarrierError}. */
export interface CarrierErrorOptions {
  /** What was caught, when this error translates another. */
  cause?: unknown
  /** Plain facts for a program: never secrets, never payload. */
  detail?: Record<string, string | number | boolean>
}

/** The only error class that Carrier throws. The message says what failed, why, and what to do next. */
export class CarrierError extends Error {
  readonly code: ErrorCode
  readonly detail: Record<string, string | number | boolean> | undefined

  constructor (code: ErrorCode, message: string, options: CarrierErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'CarrierError'
    this.code = code
    this.detail = options.detail
  }
}

/** The code of anything that was caught; what is not ours is ERR_INTERNAL. Works across copies of the package. */
export function errorCode (err: unknown): ErrorCode {
  if (typeof err === 'object' && err !== null && 'code' in err && isErrorCode(err.code)) return err.code
  return 'ERR_INTERNAL'
}

/** True for a code of the closed list. */
export function isErrorCode (value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value)
}

/** The text of anything that was caught. */
export function errorMessage (err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}

/** Keeps a CarrierError, wraps anything else with `code` and `message`. */
export function toCarrierError (err: unknown, code: ErrorCode = 'ERR_INTERNAL', message?: string): CarrierError {
  if (err instanceof CarrierError) return err
  return new CarrierError(code, message ?? errorMessage(err), { cause: err })
}

/** The number that stands for `code` in session frames; codes that peers may not learn become ERR_INTERNAL. */
export function wireCode (code: ErrorCode): number {
  const wire = ERRORS[code].wire
  return wire === 0 ? ERRORS.ERR_INTERNAL.wire : wire
}

/** The code that a number in a session frame stands for; unknown numbers are ERR_INTERNAL. */
export function codeFromWire (wire: number): ErrorCode {
  return CODE_BY_WIRE.get(wire) ?? 'ERR_INTERNAL'
}

const CODE_BY_WIRE = new Map<number, ErrorCode>(
  Object.entries(ERRORS).filter(([, facts]) => facts.wire !== 0).map(([code, facts]) => [facts.wire, code as ErrorCode]))
