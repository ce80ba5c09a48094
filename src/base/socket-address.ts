/**
 * An IP address and a port in fixed length: what a relay answers to an observe ticket, and a candidate of a punch. 19 bytes:
 * u8 family (4 or 6) ‖ u16 port ‖ address (16 bytes; an IPv4 address stands in the first four, the others are zero).
 */
import { isIP, isIPv6 } from 'node:net'
import { CarrierError } from './errors.ts'

/** One end of a connection. */
export interface HostAndPort { host: string, port: number }

/** Bytes of one address. */
export const ADDRESS_BYTES = 19

/** Encodes an address. @throws CarrierError ERR_INVALID_ARGUMENT when `host` is no IP address */
export function encodeAddress ({ host, port }: HostAndPort): Uint8Array {
  const plain = plainHost(host)
  const family = isIP(plain)
  if (family === 0) throw new CarrierError('ERR_INVALID_ARGUMENT', 'only IP addresses have this form')
  const bytes = new Uint8Array(ADDRESS_BYTES)
  bytes[0] = family
  bytes[1] = port >> 8
  bytes[2] = port & 0xff
  bytes.set(family === 4 ? plain.split('.').map(Number) : ipv6Bytes(plain), 3)
  return bytes
}

/** Decodes an address. @throws CarrierError ERR_PROTOCOL */
export function decodeAddress (bytes: Uint8Array): HostAndPort {
  const [family = 0, high = 0, low = 0] = bytes
  const address = bytes.subarray(3)
  // an IPv4 address in IPv6 form has a form of its own
  const isRight = bytes.length === ADDRESS_BYTES && ((family === 6 && !isMapped(address)) || (family === 4 && address.subarray(4).every((byte) => byte === 0)))
  if (!isRight) throw new CarrierError('ERR_PROTOCOL', 'the message holds no address')
  const port = high << 8 | low
  if (family === 4) return { host: address.subarray(0, 4).join('.'), port }
  const groups = Array.from({ length: 8 }, (_group, index) => ((address[2 * index] ?? 0) << 8 | (address[2 * index + 1] ?? 0)).toString(16))
  return { host: shortIpv6(groups.join(':')), port }
}

/** `host:port`, with brackets around an IPv6 host. */
export function formatHostPort ({ host, port }: HostAndPort): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
}

/** True when packets to both come to the same host. */
export function isSameHost (one: string, other: string): boolean {
  const first = reachedHost(one)
  return isIP(first) !== 0 && first === reachedHost(other)
}

/** The one way in which everybody writes an IP address: an IPv4 address in IPv6 form (however that is spelled) as IPv4, IPv6 as in RFC 5952, no zone. Names stay. */
export function plainHost (host: string): string {
  const [address = ''] = host.split('%')
  if (!isIPv6(address)) return address
  const bytes = ipv6Bytes(shortIpv6(address))
  return isMapped(bytes) ? bytes.slice(12).join('.') : shortIpv6(address)
}

/** The host that packets come to in the end, for judging: like {@link plainHost}, and out of `::a.b.c.d` and a translator's 64:ff9b::/96 (RFC 6052) too. */
export function reachedHost (host: string): string {
  const plain = plainHost(host)
  if (!isIPv6(plain) || plain === '::' || plain === '::1') return plain
  const bytes = ipv6Bytes(plain)
  return EMBEDDING.some((prefix) => prefix.every((byte, index) => bytes[index] === byte)) ? bytes.slice(12).join('.') : plain
}

/** First twelve bytes of IPv6 addresses that end with an IPv4 address. */
const EMBEDDING = [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0]] as const

function isMapped (address: readonly number[] | Uint8Array): boolean {
  return address.slice(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff
}

/** The short form, which is the one by which special addresses are known. */
function shortIpv6 (address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1)
}

/** @param host in the short form */
function ipv6Bytes (host: string): number[] {
  const [head = '', tail] = host.split('::')
  const groupsOf = (text: string): number[] => text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const first = groupsOf(head)
  const last = tail === undefined ? [] : groupsOf(tail)
  const groups = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last]
  return groups.flatMap((group) => [group >> 8, group & 0xff])
}
