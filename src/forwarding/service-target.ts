/** Targets of services as text: `PORT`, `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`. */
import { isAbsolute } from 'node:path'
import { CarrierError, formatHostPort } from '../base/index.ts'
import { parseHostPort } from './host-port.ts'
import type { ServiceTarget } from './types.ts'

const UNIX_PREFIX = 'unix:'

/** Longest path that every supported kernel takes in a socket address (macOS: 104 with the closing zero). */
const MAX_UNIX_PATH_BYTES = 103

/**
 * Parses a target.
 *
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseTarget (text: string): ServiceTarget {
  if (text.startsWith(UNIX_PREFIX)) return { kind: 'unix', path: parseUnixPath(text) }
  const scheme = /^([a-z]+):(?![0-9]+$)/.exec(text)
  if (scheme !== null && ['tcp', 'udp', 'http', 'https'].includes(scheme[1] ?? '')) {
    throw invalid(text, 'write PORT, HOST:PORT, [IPV6]:PORT or unix:PATH, without a scheme')
  }
  return { kind: 'tcp', ...parseHostPort(text, 'target', { minPort: 1 }) }
}

/** The text of a target; {@link parseTarget} reads it back. */
export function formatTarget (target: ServiceTarget): string {
  return target.kind === 'unix' ? `${UNIX_PREFIX}${target.path}` : formatHostPort(target)
}

function parseUnixPath (text: string): string {
  const path = text.slice(UNIX_PREFIX.length)
  // the daemon's working directory is nobody's business, so a relative path would mean something else than it says
  if (!isAbsolute(path)) throw invalid(text, 'the path of a Unix socket must be absolute, as in unix:/run/app.sock')
  if (path.includes('\0')) throw invalid(text, 'the path holds a zero byte')
  if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) throw invalid(text, `the path is longer than ${MAX_UNIX_PATH_BYTES} bytes; use a shorter one or a symbolic link`)
  return path
}

function invalid (text: string, reason: string): CarrierError {
  return new CarrierError('ERR_INVALID_ARGUMENT', `"${text.slice(0, 120)}" is no valid target: ${reason}`)
}
