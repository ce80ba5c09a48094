/**
 * The datagrams of PCP (RFC 6887) and NAT-PMP (RFC 6886), which share UDP port 5351 of the router. Nothing here opens a socket.
 *
 * ```
 * PCP MAP request, 60 bytes: 02 01 0000, u32 lifetime, client address (16), nonce (12), protocol 06, 000000, u16 inside port, u16 outside port, outside address (16)
 * answer, 60 bytes and options: 02 81 00, u8 result, u32 lifetime, u32 epoch, 12 zeros, then as in the request from the nonce on
 * NAT-PMP address: 00 00 → 00 80, u16 result, u32 epoch, IPv4 (4)
 * NAT-PMP map TCP: 00 02 0000, u16 inside port, u16 outside port, u32 lifetime → 00 82, u16 result, u32 epoch, u16 inside port, u16 outside port, u32 lifetime
 * ```
 */
import { decodeAddress } from '../base/index.ts'

/** UDP port of the router. */
export const ROUTER_PORT = 5351

/** Bytes of a PCP nonce: it names a mapping, and only who knows it may change it. */
export const NONCE_BYTES = 12

const PCP_BYTES = 60
const TCP = 6

/** A mapping that is asked for; lifetime 0 removes it. */
export interface MapRequest {
  insidePort: number
  /** What we would like; 0: any. */
  outsidePort: number
  lifetimeSeconds: number
}

/** What a router granted. */
export interface MapGrant { outsidePort: number, lifetimeSeconds: number }

/** Why a router said no, as its number and in words. */
export interface MapRefusal { code: number, text: string }

/** An answer; undefined stands for a datagram that is none. */
export type MapAnswer<T> = { grant: T } | { refusal: MapRefusal } | undefined

const PCP_RESULTS: Readonly<Record<number, string>> = {
  1: 'it speaks another version',
  2: 'it does not allow it',
  3: 'it does not understand the request',
  4: 'it does not know the operation',
  7: 'it has a failure of its network',
  8: 'it has no room for another mapping',
  10: 'this machine has too many mappings',
  11: 'it cannot give the outside port',
  12: 'another router is in between',
  13: 'it does not know the outside address'
}
const NAT_PMP_RESULTS: Readonly<Record<number, string>> = { 1: 'it speaks another version', 2: 'port mapping is switched off there', 3: 'it has no connection itself', 4: 'it has no room for another mapping', 5: 'it does not know the operation' }

/** Encodes a PCP request; `client` is our own IPv4 address as the router sees it. */
export function encodePcpMap ({ insidePort, outsidePort, lifetimeSeconds }: MapRequest, client: string, nonce: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(PCP_BYTES)
  bytes[0] = 2
  bytes[1] = 1
  bytes.writeUInt32BE(lifetimeSeconds, 4)
  bytes.set(mappedIpv4(client), 8)
  bytes.set(nonce, 24)
  bytes[36] = TCP
  bytes.writeUInt16BE(insidePort, 40)
  bytes.writeUInt16BE(lifetimeSeconds === 0 ? 0 : outsidePort, 42)
  // any outside address, of IPv4
  bytes.set(mappedIpv4('0.0.0.0'), 44)
  return bytes
}

/** Decodes the answer to {@link encodePcpMap}. A router that speaks NAT-PMP only answers in its own version with result 1. */
export function decodePcpMap (datagram: Uint8Array, request: Pick<MapRequest, 'insidePort'>, nonce: Uint8Array): MapAnswer<MapGrant & { outsideHost: string }> {
  const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength)
  if (bytes.length >= 4 && bytes[0] === 0) return { refusal: { code: 1, text: PCP_RESULTS[1] ?? '' } }
  if (bytes.length < 24 || bytes[0] !== 2 || bytes[1] !== 0x81) return undefined
  const code = bytes[3] ?? 0
  if (code !== 0) return { refusal: { code, text: PCP_RESULTS[code] ?? `it says no (${code})` } }
  if (bytes.length < PCP_BYTES || bytes.compare(nonce, 0, NONCE_BYTES, 24, 36) !== 0 || bytes[36] !== TCP || bytes.readUInt16BE(40) !== request.insidePort) return undefined
  const outside = bytes.subarray(44, PCP_BYTES)
  const isIpv4 = outside.subarray(0, 12).equals(mappedIpv4('0.0.0.0').subarray(0, 12))
  const outsideHost = isIpv4 ? outside.subarray(12).join('.') : decodeAddress(Buffer.concat([Buffer.of(6, 0, 0), outside])).host
  return { grant: { outsidePort: bytes.readUInt16BE(42), lifetimeSeconds: bytes.readUInt32BE(4), outsideHost } }
}

/** Asks for the router's address. */
export const NAT_PMP_ADDRESS_REQUEST: Uint8Array = Uint8Array.of(0, 0)

/** Decodes the answer to {@link NAT_PMP_ADDRESS_REQUEST}. */
export function decodeNatPmpAddress (datagram: Uint8Array): MapAnswer<{ outsideHost: string }> {
  const bytes = natPmpAnswer(datagram, 0x80, 12)
  if (bytes === undefined || 'refusal' in bytes) return bytes
  return { grant: { outsideHost: bytes.grant.subarray(8, 12).join('.') } }
}

/** Encodes a NAT-PMP request for TCP. */
export function encodeNatPmpMap ({ insidePort, outsidePort, lifetimeSeconds }: MapRequest): Uint8Array {
  const bytes = Buffer.alloc(12)
  bytes[1] = 2
  bytes.writeUInt16BE(insidePort, 4)
  bytes.writeUInt16BE(lifetimeSeconds === 0 ? 0 : outsidePort, 6)
  bytes.writeUInt32BE(lifetimeSeconds, 8)
  return bytes
}

/** Decodes the answer to {@link encodeNatPmpMap}. */
export function decodeNatPmpMap (datagram: Uint8Array, request: Pick<MapRequest, 'insidePort'>): MapAnswer<MapGrant> {
  const bytes = natPmpAnswer(datagram, 0x82, 16)
  if (bytes === undefined || 'refusal' in bytes) return bytes
  if (bytes.grant.readUInt16BE(8) !== request.insidePort) return undefined
  return { grant: { outsidePort: bytes.grant.readUInt16BE(10), lifetimeSeconds: bytes.grant.readUInt32BE(12) } }
}

function natPmpAnswer (datagram: Uint8Array, operation: number, leastBytes: number): MapAnswer<Buffer> {
  const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength)
  if (bytes.length < 4 || bytes[0] !== 0 || bytes[1] !== operation) return undefined
  const code = bytes.readUInt16BE(2)
  if (code !== 0) return { refusal: { code, text: NAT_PMP_RESULTS[code] ?? `it says no (${code})` } }
  return bytes.length < leastBytes ? undefined : { grant: bytes }
}

function mappedIpv4 (host: string): Buffer {
  return Buffer.from([...new Uint8Array(10), 0xff, 0xff, ...host.split('.').map(Number)])
}
