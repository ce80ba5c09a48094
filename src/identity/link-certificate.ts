/**
 * The certificate of a TLS link: a key of this process, for which the device key vouches in the libp2p extension.
 * Specification: https://github.com/libp2p/specs/blob/master/tls/tls.md
 */
import { KeyObject, X509Certificate } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { CarrierError, concatBytes, decodeProtobuf, encodeProtobuf, equalBytes, errorMessage, LIMITS, utf8Encode } from '../base/index.ts'
import { CLOCK_SKEW_MS } from './clock-guard.ts'
import { publicKeyFromDid } from './did.ts'
import type { Did } from './did.ts'
import { parseLinkCertificate } from './link-certificate-der.ts'
import type { Identity } from './types.ts'

/** A certificate and its private key, for node:tls. The key is secret: never log it, never store it. */
export interface LinkCertificate { keyPem: string, certificatePem: string }

const EXTENSION_OID = '1.3.6.1.4.1.53594.1.1'
const SIGNATURE_DOMAIN = utf8Encode('libp2p-tls-handshake:')
const ECDSA_P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
/** Number of the key type in libp2p's protobuf. */
const ED25519_KEY_TYPE = 1n
const ED25519_SIGNATURE_BYTES = 64
/** A key has two fields; a few unknown ones are skipped. */
const MAX_KEY_FIELDS = 8

/** Valid at any time that a wrong clock may show. */
const VALID_FROM = new Date(0)
const VALID_UNTIL = new Date(Date.UTC(4096, 0, 1))

/**
 * Makes a fresh P-256 key and its self-signed certificate, without any name. Once per process is enough.
 * Loads the certificate library, which nothing else needs.
 */
export async function createLinkCertificate (identity: Pick<Identity, 'publicKey' | 'sign'>): Promise<LinkCertificate> {
  await import('reflect-metadata')
  const { Extension, X509CertificateGenerator } = await import('@peculiar/x509')
  const keys = await crypto.subtle.generateKey(ECDSA_P256, true, ['sign', 'verify'])
  const subjectPublicKeyInfo = new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey))
  const signature = await identity.sign(signedMessage(subjectPublicKeyInfo))
  const publicKey = encodeProtobuf([[1, ED25519_KEY_TYPE], [2, identity.publicKey]])
  const certificate = await X509CertificateGenerator.createSelfSigned({
    notBefore: VALID_FROM,
    notAfter: VALID_UNTIL,
    keys,
    signingAlgorithm: ECDSA_P256,
    extensions: [new Extension(EXTENSION_OID, false, encodeSignedKey(publicKey, signature))]
  }, crypto)
  return {
    keyPem: KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificatePem: certificate.toString('pem')
  }
}

/**
 * Refuses every certificate that does not prove the key of `expected`: one self-signed P-256 certificate whose key that device vouches for.
 * That the peer holds the certificate's private key is what TLS proves. Our own are valid at any time: a wrong clock cuts no link.
 *
 * @param nowMs - epoch ms by the wall clock
 * @throws CarrierError ERR_PROTOCOL with the reason
 */
export function verifyLinkCertificate (der: Uint8Array, expected: Did, nowMs: number): void {
  if (der.length > LIMITS.linkCertificateBytes) throw refused(`it is longer than ${LIMITS.linkCertificateBytes} bytes`)
  const parts = parseLinkCertificate(der)
  assertSelfSigned(der)
  if (nowMs + CLOCK_SKEW_MS < parts.notBefore) throw refused('it is not valid yet; compare the clocks of both machines')
  if (nowMs - CLOCK_SKEW_MS > parts.notAfter) throw refused('it has expired')
  const publicKey = readEd25519Key(parts.signedKey.publicKey)
  if (!equalBytes(publicKey, publicKeyFromDid(expected))) throw refused('it is of another device than the one expected')
  if (!isSignedBy(publicKey, parts)) throw refused('its key is not signed by the device it names')
}

function assertSelfSigned (der: Uint8Array): void {
  let isSelfSigned: boolean
  try {
    const certificate = new X509Certificate(der)
    isSelfSigned = certificate.verify(certificate.publicKey)
  } catch (err) {
    throw refused(errorMessage(err), err)
  }
  if (!isSelfSigned) throw refused('it is not signed with its own key')
}

function readEd25519Key (protobuf: Uint8Array): Uint8Array {
  const fields = decodeProtobuf(protobuf, MAX_KEY_FIELDS)
  const type = fields.varint(1)
  if (type !== ED25519_KEY_TYPE) throw refused('the key that vouches for it is not an Ed25519 key; Carrier devices have no others')
  const publicKey = fields.bytes(2)
  if (publicKey?.length !== 32) throw refused('the key that vouches for it does not have 32 bytes')
  return publicKey
}

function isSignedBy (publicKey: Uint8Array, { subjectPublicKeyInfo, signedKey }: ReturnType<typeof parseLinkCertificate>): boolean {
  if (signedKey.signature.length !== ED25519_SIGNATURE_BYTES) return false
  try {
    // zip215: false is the strict verification of RFC 8032
    return ed25519.verify(signedKey.signature, signedMessage(subjectPublicKeyInfo), publicKey, { zip215: false })
  } catch {
    // a signature that is no pair of point and number proves nothing
    return false
  }
}

function signedMessage (subjectPublicKeyInfo: Uint8Array): Uint8Array {
  return concatBytes([SIGNATURE_DOMAIN, subjectPublicKeyInfo])
}

/** DER SEQUENCE of two OCTET STRINGs, each shorter than 128 bytes. */
function encodeSignedKey (publicKey: Uint8Array, signature: Uint8Array): Uint8Array<ArrayBuffer> {
  const content = concatBytes([Uint8Array.of(0x04, publicKey.length), publicKey, Uint8Array.of(0x04, signature.length), signature])
  return Uint8Array.from(concatBytes([Uint8Array.of(0x30, content.length), content]))
}

function refused (why: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_PROTOCOL', `the certificate of the peer is refused: ${why}`, { cause })
}
