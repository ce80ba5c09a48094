/** Link certificates made by hand, right ones and wrong ones: every part can be replaced. */
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { didFromPublicKey } from '../../src/identity/index.ts'
import type { Did } from '../../src/identity/index.ts'

/** A device with a known key. */
export interface TestDevice { did: Did, publicKey: Uint8Array, sign: (message: Uint8Array) => Promise<Uint8Array>, signNow: (message: Uint8Array) => Uint8Array }

/** The device whose seed is 32 times `fill`. */
export function testDevice (fill: number): TestDevice {
  const seed = new Uint8Array(32).fill(fill)
  const publicKey = ed25519.getPublicKey(seed)
  const signNow = (message: Uint8Array): Uint8Array => ed25519.sign(message, seed)
  return { did: didFromPublicKey(publicKey), publicKey, signNow, sign: async (message) => signNow(message) }
}

/** One DER element. */
export function der (tag: number, ...parts: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts)
  const { length } = content
  const head = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : length < 0x10000 ? [0x82, length >> 8, length & 0xff] : [0x83, length >> 16, (length >> 8) & 0xff, length & 0xff]
  return Buffer.concat([Uint8Array.of(tag, ...head), content])
}

/** An X.509 extension. */
export function extension (oid: string, value: Uint8Array, critical: Uint8Array = new Uint8Array()): Uint8Array {
  return der(0x30, Buffer.from(oid, 'hex'), critical, der(0x04, value))
}

export const LIBP2P_OID = '060a2b0601040183a25a0101'
/** An object identifier that nobody knows. */
export const OTHER_OID = '06032a0304'
/** DER TRUE. */
export const CRITICAL = Uint8Array.of(0x01, 0x01, 0xff)

/** Parts of a certificate; what is left out is right. */
export interface ForgedParts {
  device?: TestDevice
  keys?: { publicKey: KeyObject, privateKey: KeyObject }
  /** Signs the certificate instead of its own key. */
  signer?: KeyObject
  digest?: string
  algorithm?: Uint8Array
  innerAlgorithm?: Uint8Array
  version?: Uint8Array
  issuer?: Uint8Array
  subject?: Uint8Array
  /** Two DER times. */
  validity?: Uint8Array
  spki?: Uint8Array
  uniqueId?: Uint8Array
  /** libp2p protobuf of the key that vouches. */
  publicKey?: Uint8Array
  /** What the device signs. */
  message?: Uint8Array
  signature?: Uint8Array
  /** Content of the libp2p extension. */
  signedKey?: Uint8Array
  critical?: Uint8Array
  /** The DER extensions, instead of the libp2p extension alone. */
  extensions?: (libp2p: Uint8Array) => Uint8Array[]
  /** Everything in the place of the extensions. */
  tail?: Uint8Array
}

/** A certificate and its key. */
export interface ForgedCertificate { der: Uint8Array, keyPem: string, certificatePem: string }

export const ECDSA_SHA256 = Buffer.from('300a06082a8648ce3d040302', 'hex')

/** DER GeneralizedTime of a text like 20270101000000Z. */
export function time (text: string): Uint8Array {
  return der(0x18, Buffer.from(text))
}

/** Makes a certificate. */
export function forgeCertificate (parts: ForgedParts = {}): ForgedCertificate {
  const device = parts.device ?? testDevice(1)
  const keys = parts.keys ?? generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = parts.spki ?? keys.publicKey.export({ type: 'spki', format: 'der' })
  const publicKey = parts.publicKey ?? Buffer.concat([Uint8Array.of(8, 1, 18, 32), device.publicKey])
  const signature = parts.signature ?? device.signNow(parts.message ?? Buffer.concat([Buffer.from('libp2p-tls-handshake:'), spki]))
  const libp2p = extension(LIBP2P_OID, parts.signedKey ?? der(0x30, der(0x04, publicKey), der(0x04, signature)), parts.critical)
  const extensions = parts.extensions?.(libp2p) ?? [libp2p]
  const algorithm = parts.algorithm ?? ECDSA_SHA256
  const body = der(0x30,
    parts.version ?? der(0xa0, der(0x02, Uint8Array.of(2))),
    der(0x02, Uint8Array.of(7)),
    parts.innerAlgorithm ?? algorithm,
    parts.issuer ?? der(0x30),
    der(0x30, parts.validity ?? Buffer.concat([time('19750101000000Z'), time('40960101000000Z')])),
    parts.subject ?? der(0x30),
    spki,
    parts.uniqueId ?? new Uint8Array(),
    parts.tail ?? der(0xa3, der(0x30, ...extensions)))
  const seal = sign(parts.digest ?? 'sha256', body, parts.signer ?? keys.privateKey)
  const certificate = der(0x30, body, algorithm, der(0x03, Uint8Array.of(0), seal))
  return {
    der: certificate,
    keyPem: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificatePem: pemOf(certificate)
  }
}

/** PEM of a DER certificate. */
export function pemOf (certificate: Uint8Array): string {
  const lines = Buffer.from(certificate).toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** SubjectPublicKeyInfo of a private key. */
export function spkiOf (privateKey: KeyObject): Uint8Array {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
}
