/** `HOST:PORT` as people write it: `5432`, `127.0.0.1:5432`, `db.local:5432`, `[::1]:5432`. */
import { isIP, isIPv4, isIPv6 } from 'node:net'
import { CarrierError } from '../base/index.ts'

/** A host and a port. */
export interface HostPort { host: string, port: number }

/** What is used where no host was written. */
const LOOPBACK = '127.0.0.1'

/** Dots and DNS labels; underscores occur in names of containers. */
const HOST_NAME = /^(?=.{1,253}$)[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,62})(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,62}))*\.?$/

/**
 * Parses `PORT` or `HOST:PORT`.
 *
 * @param what says in the message what was given: "target", "listen address"
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseHostPort (text: string, what: string, options: { minPort: 0 | 1 }): HostPort {
  const bracketed = /^\[([^\]]*)\]:(.*)$/.exec(text)
  if (bracketed !== null) {
    const host = bracketed[1] ?? ''
    if (!isIPv6(host)) throw invalid(text, what, `"${host}" is not an IPv6 address`)
    return { host, port: parsePort(bracketed[2] ?? '', text, what, options.minPort) }
  }
  const colon = text.lastIndexOf(':')
  if (colon === -1) return { host: LOOPBACK, port: parsePort(text, text, what, options.minPort) }
  const host = text.slice(0, colon)
  if (host.includes(':')) throw invalid(text, what, 'an IPv6 address needs brackets, as in [::1]:5432')
  if (host === '') throw invalid(text, what, 'the host is missing')
  // only digits and dots must be an address: "256.1.1.1" is a mistake, not a name
  if (isIP(host) === 0 && (/^[0-9.]+$/.test(host) || !HOST_NAME.test(host))) throw invalid(text, what, `"${host}" is neither an IP address nor a host name`)
  return { host, port: parsePort(text.slice(colon + 1), text, what, options.minPort) }
}

/**
 * Parses where a forward listens: `[BIND:]PORT` with an IP address or `localhost`; port 0 picks one.
 *
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function parseListenAddress (text: string): HostPort {
  const { host, port } = parseHostPort(text, 'listen address', { minPort: 0 })
  return checkListenAddress({ host, port })
}

/**
 * Checks where a forward shall listen; `localhost` becomes 127.0.0.1.
 *
 * @throws CarrierError ERR_INVALID_ARGUMENT
 */
export function checkListenAddress (address: { host?: string | undefined, port: number }): HostPort {
  const host = address.host === undefined || address.host === 'localhost' ? LOOPBACK : address.host
  const shown = `${host.slice(0, 80)}:${address.port}`
  if (isIP(host) === 0) throw invalid(shown, 'listen address', 'bind to an IP address of this machine, or to localhost')
  if (!Number.isInteger(address.port) || address.port < 0 || address.port > 65_535) throw invalid(shown, 'listen address', 'the port must be 0 to 65535')
  return { host, port: address.port }
}

/** True when only this machine can connect to `host`. */
export function isLoopback (host: string): boolean {
  return isIPv4(host) ? host.startsWith('127.') : host === '::1'
}

function parsePort (digits: string, text: string, what: string, minPort: number): number {
  const port = /^[0-9]{1,5}$/.test(digits) ? Number(digits) : -1
  if (port < minPort || port > 65_535) throw invalid(text, what, `the port must be ${minPort} to 65535`)
  return port
}

function invalid (text: string, what: string, reason: string): CarrierError {
  return new CarrierError('ERR_INVALID_ARGUMENT', `"${text.slice(0, 120)}" is no valid ${what}: ${reason}`)
}
