/** Small things that are done with bytes everywhere. */
import { timingSafeEqual } from 'node:crypto'

/** Joins chunks into one array; one chunk is returned as it is. */
export function concatBytes (chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0]
  return new Uint8Array(Buffer.concat(chunks))
}

/** Lower-case hex. */
export function toHex (bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}

/** Bytes of a hex string; the caller knows that it is hex. */
export function fromHex (hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'))
}

/** Equality of values that are not secret. */
export function equalBytes (a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0
}

/** Equality of secrets in constant time; different lengths are unequal at once. */
export function equalSecrets (a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Strict UTF-8: throws TypeError on invalid bytes. */
export function utf8Decode (bytes: Uint8Array): string {
  return STRICT_UTF8.decode(bytes)
}

/** UTF-8 bytes of a string. */
export function utf8Encode (text: string): Uint8Array {
  return ENCODER.encode(text)
}

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const ENCODER = new TextEncoder()
