/** The proxy through which a node reaches its relays: how it is named, and what goes past it. Pure. */
import { BlockList, isIP } from 'node:net'
import { CarrierError, formatHostPort, LIMITS } from '../base/index.ts'
import { isLoopbackHost } from './path.ts'

/** One proxy. It holds a secret: log {@link describeProxy}, never this. */
export interface UpstreamProxy {
  kind: 'http' | 'https' | 'socks5'
  /** A name or an IP address, without brackets. */
  host: string
  port: number
  credentials?: ProxyCredentials
  /** What goes past it: `*`, names (with everything below them), IP addresses, CIDR blocks, each with `:PORT` if only that port is meant. */
  exceptions: readonly string[]
  /** This machine itself is reached without it: so for the proxies that a whole desktop uses. */
  skipsLoopback: boolean
}

/** What a proxy asks its users for. */
export interface ProxyCredentials { user: string, password: string }

/** Where a connection shall end. */
export interface Endpoint { host: string, port: number }

const DEFAULT_PORTS = { http: 80, https: 443, socks5: 1080 } as const
const KINDS: Readonly<Record<string, UpstreamProxy['kind']>> = { 'http:': 'http', 'https:': 'https', 'socks5:': 'socks5', 'socks5h:': 'socks5', 'socks:': 'socks5' }

/**
 * Reads `http://[USER:PASSWORD@]HOST[:PORT]`, `https://…` or `socks5://…`; without a scheme it is http.
 *
 * @throws CarrierError ERR_CONFIG; its message does not repeat the text, which may hold a password
 */
export function parseProxyUrl (text: string, options: { exceptions?: readonly string[], skipsLoopback?: boolean } = {}): UpstreamProxy {
  let url: URL
  try {
    url = new URL(text.includes('://') ? text : `http://${text}`)
  } catch {
    // the error of URL repeats its input
    throw wrong('is no URL')
  }
  const kind = KINDS[url.protocol]
  if (kind === undefined) throw wrong(`has the scheme "${url.protocol.slice(0, 16)}"`)
  if (url.hostname === '') throw wrong('names no host')
  if (!/^\/?$/.test(url.pathname) || url.search !== '' || url.hash !== '') throw wrong('has more than a host and a port')
  const { exceptions = [], skipsLoopback = false } = options
  if (exceptions.length > LIMITS.proxyExceptionCount) throw new CarrierError('ERR_CONFIG', `no_proxy has ${exceptions.length} entries, at most ${LIMITS.proxyExceptionCount} can be used: remove some`)
  const proxy = { kind, host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? DEFAULT_PORTS[kind] : Number(url.port), exceptions, skipsLoopback }
  if (proxy.port === 0) throw wrong('names port 0')
  if (url.username === '' && url.password === '') return proxy
  return withCredentials(proxy, { user: decode(url.username), password: decode(url.password) })
}

/** The same proxy with credentials. @throws CarrierError ERR_CONFIG when this kind of proxy cannot take them */
export function withCredentials (proxy: UpstreamProxy, credentials: ProxyCredentials): UpstreamProxy {
  const { user, password } = credentials
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(user + password)) throw new CarrierError('ERR_CONFIG', 'the user name or password for the proxy has control characters in it')
  if (proxy.kind !== 'socks5' && user.includes(':')) throw new CarrierError('ERR_CONFIG', 'the user name for an HTTP proxy cannot hold a colon')
  if ([user, password].some((part) => Buffer.byteLength(part) > 255) || user === '') throw new CarrierError('ERR_CONFIG', 'the user name for the proxy is missing, or it or the password is longer than 255 bytes')
  return { ...proxy, credentials }
}

/** Reads the file of credentials: one line, `USER:PASSWORD`. @throws CarrierError ERR_CONFIG */
export function parseProxyCredentials (text: string): ProxyCredentials {
  const line = text.replace(/\r?\n$/, '')
  const at = line.indexOf(':')
  if (at < 1 || /[\r\n]/.test(line)) throw new CarrierError('ERR_CONFIG', 'the file of proxy credentials must hold one line, USER:PASSWORD')
  return { user: line.slice(0, at), password: line.slice(at + 1) }
}

/** `http://host:port`, for people; never its credentials. */
export function describeProxy (proxy: UpstreamProxy): string {
  return `${proxy.kind}://${formatHostPort(proxy)}`
}

/** True when a connection to this place goes through the proxy. */
export function usesProxy (proxy: UpstreamProxy | undefined, { host, port }: Endpoint): proxy is UpstreamProxy {
  if (proxy === undefined) return false
  if (proxy.skipsLoopback && (host.toLowerCase() === 'localhost' || isLoopbackHost(host))) return false
  return !proxy.exceptions.some((entry) => matches(entry, host.toLowerCase(), port))
}

function matches (entry: string, host: string, port: number): boolean {
  const { name, port: onlyPort } = splitPort(entry.trim().toLowerCase())
  if (name === '' || (onlyPort !== undefined && onlyPort !== port)) return false
  if (name === '*') return true
  if (isIP(host) !== 0) return name.includes('/') ? isInBlock(name, host) : isInBlock(`${name}/${isIP(name) === 4 ? 32 : 128}`, host)
  const suffix = name.replace(/^\*?\./, '')
  return host === suffix || host.endsWith(`.${suffix}`)
}

function splitPort (entry: string): { name: string, port?: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(entry)
  if (match !== null) return { name: match[1] ?? match[2] ?? '', port: Number(match[3]) }
  return { name: entry.replace(/^\[|\]$/g, '') }
}

function isInBlock (block: string, host: string): boolean {
  const [network = '', bits = ''] = block.split('/')
  const family = isIP(network)
  if (family === 0 || family !== isIP(host) || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) return false
  const list = new BlockList()
  list.addSubnet(network, Number(bits), family === 4 ? 'ipv4' : 'ipv6')
  return list.check(host, family === 4 ? 'ipv4' : 'ipv6')
}

function decode (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // a lone % stands for itself, as other programs read it
    return text
  }
}

function wrong (what: string): CarrierError {
  return new CarrierError('ERR_CONFIG', `the proxy ${what}; it looks like http://proxy.example.org:3128, https://… or socks5://…`)
}
