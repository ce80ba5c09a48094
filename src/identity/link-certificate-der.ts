/** Reads the few parts of an X.509 certificate that a link looks at: strict DER, bounded by its input, no copies. */
import { CarrierError, equalBytes, fromHex } from '../base/index.ts'

/** What a link certificate says; bytes are views into the input. */
export interface LinkCertificateParts {
  /** DER SubjectPublicKeyInfo of the certificate's own key. */
  subjectPublicKeyInfo: Uint8Array
  /** Epoch ms. */
  notBefore: number
  /** Epoch ms. */
  notAfter: number
  /** Content of the libp2p extension: the key that vouches, as libp2p protobuf, and its signature. */
  signedKey: { publicKey: Uint8Array, signature: Uint8Array }
}

/** DER of the object identifier of the libp2p extension, 1.3.6.1.4.1.53594.1.1. */
const LIBP2P_EXTENSION = fromHex('060a2b0601040183a25a0101')
/** DER of the only signature algorithm: ecdsa-with-SHA256. */
const ECDSA_SHA256 = fromHex('300a06082a8648ce3d040302')
/** How the only kind of key begins: id-ecPublicKey, named curve P-256, an uncompressed point. */
const P256_KEY_HEAD = fromHex('3059301306072a8648ce3d020106082a8648ce3d03010703420004')
const P256_KEY_BYTES = 91
const MAX_EXTENSIONS = 32

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  version: 0xa0,
  extensions: 0xa3
} as const

/**
 * Takes a certificate apart. The caller has bounded `der`. Signatures, dates and keys are not judged here.
 *
 * @throws CarrierError ERR_PROTOCOL for what is not DER, not X.509 v3, not self-issued, has another key than P-256 or another signature
 * algorithm than ecdsa-with-SHA256, has unique ids or a critical extension that is unknown, or lacks the libp2p extension
 */
export function parseLinkCertificate (der: Uint8Array): LinkCertificateParts {
  const outer = createDerReader(der)
  const certificate = outer.enter(TAG.sequence)
  outer.end()
  const body = certificate.enter(TAG.sequence)
  const algorithm = certificate.next(TAG.sequence).whole
  certificate.next(TAG.bitString)
  certificate.end()

  const version = body.enter(TAG.version)
  if (!equalBytes(version.next(TAG.integer).content, Uint8Array.of(2))) throw malformed('it is not of version 3')
  version.end()
  body.next(TAG.integer)
  if (!equalBytes(algorithm, ECDSA_SHA256) || !equalBytes(body.next(TAG.sequence).whole, ECDSA_SHA256)) throw malformed('it is not signed with ecdsa-with-SHA256')
  const issuer = body.next(TAG.sequence).whole
  const validity = body.enter(TAG.sequence)
  const notBefore = readTime(validity.next())
  const notAfter = readTime(validity.next())
  validity.end()
  if (!equalBytes(issuer, body.next(TAG.sequence).whole)) throw malformed('it is not self-signed')
  const subjectPublicKeyInfo = body.next(TAG.sequence).whole
  if (subjectPublicKeyInfo.length !== P256_KEY_BYTES || !equalBytes(subjectPublicKeyInfo.subarray(0, P256_KEY_HEAD.length), P256_KEY_HEAD)) {
    throw malformed('its key is not a P-256 key of the named curve')
  }
  if (body.isAtEnd()) throw malformed('the libp2p extension is missing')
  const extensions = body.enter(TAG.extensions)
  body.end()
  const signedKey = readSignedKey(findExtension(extensions.enter(TAG.sequence)))
  extensions.end()
  return { subjectPublicKeyInfo, notBefore, notAfter, signedKey }
}

interface DerElement { tag: number, content: Uint8Array, whole: Uint8Array }

interface DerReader {
  /** The next element, of this tag if one is named. */
  next: (tag?: number) => DerElement
  /** A reader of the content of the next element. */
  enter: (tag: number) => DerReader
  isAtEnd: () => boolean
  /** Refuses left-over bytes. */
  end: () => void
}

function createDerReader (bytes: Uint8Array): DerReader {
  let offset = 0

  function readByte (): number {
    const byte = bytes[offset]
    if (byte === undefined) throw malformed('it ends too early')
    offset++
    return byte
  }

  function readLength (): number {
    const first = readByte()
    if (first < 0x80) return first
    const count = first & 0x7f
    if (count === 0 || count > MAX_LENGTH_BYTES) throw malformed('a length is not DER')
    let length = 0
    for (let index = 0; index < count; index++) length = length * 256 + readByte()
    if (length < 0x80 || length < 256 ** (count - 1)) throw malformed('a length is not DER')
    return length
  }

  function next (tag?: number): DerElement {
    const start = offset
    const found = readByte()
    if ((found & 0x1f) === 0x1f || (tag !== undefined && found !== tag)) throw malformed('a part is of the wrong kind')
    const length = readLength()
    if (length > bytes.length - offset) throw malformed('a part is longer than the whole')
    const content = bytes.subarray(offset, offset + length)
    offset += length
    return { tag: found, content, whole: bytes.subarray(start, offset) }
  }

  return {
    next,
    enter: (tag) => createDerReader(next(tag).content),
    isAtEnd: () => offset === bytes.length,
    end: () => { if (offset !== bytes.length) throw malformed('something follows its end') }
  }
}

/** Lengths are below 2^24: the input is bounded far below that. */
const MAX_LENGTH_BYTES = 3

function findExtension (extensions: DerReader): Uint8Array {
  let found: Uint8Array | undefined
  for (let count = 0; !extensions.isAtEnd(); count++) {
    if (count === MAX_EXTENSIONS) throw malformed(`it has more than ${MAX_EXTENSIONS} extensions`)
    const extension = extensions.enter(TAG.sequence)
    const id = extension.next(TAG.objectIdentifier).whole
    let value = extension.next()
    let isCritical = false
    if (value.tag === TAG.boolean) {
      if (value.content.length !== 1) throw malformed('a boolean is not DER')
      isCritical = value.content[0] !== 0
      value = extension.next()
    }
    if (value.tag !== TAG.octetString) throw malformed('an extension has no value')
    extension.end()
    if (!equalBytes(id, LIBP2P_EXTENSION)) {
      if (isCritical) throw malformed('it has a critical extension that is unknown')
      continue
    }
    if (found !== undefined) throw malformed('the libp2p extension comes twice')
    found = value.content
  }
  if (found === undefined) throw malformed('the libp2p extension is missing')
  return found
}

function readSignedKey (value: Uint8Array): LinkCertificateParts['signedKey'] {
  const outer = createDerReader(value)
  const signedKey = outer.enter(TAG.sequence)
  outer.end()
  const publicKey = signedKey.next(TAG.octetString).content
  const signature = signedKey.next(TAG.octetString).content
  signedKey.end()
  return { publicKey, signature }
}

/** RFC 5280 4.1.2.5: seconds are given, the zone is Z; years of two digits are 1950 to 2049. */
function readTime ({ tag, content }: DerElement): number {
  const text = String.fromCharCode(...content.subarray(0, MAX_TIME_CHARACTERS))
  const match = (tag === TAG.utcTime ? UTC_TIME : tag === TAG.generalizedTime ? GENERALIZED_TIME : undefined)?.exec(text)
  if (match === undefined || match === null || content.length > MAX_TIME_CHARACTERS) throw malformed('a date is not one of X.509')
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number)
  const fullYear = tag === TAG.generalizedTime ? year : year < 50 ? 2000 + year : 1900 + year
  const date = new Date(0)
  // setUTCFullYear takes every year as it is; Date.UTC would move the years 0 to 99
  date.setUTCFullYear(fullYear, month - 1, day)
  date.setUTCHours(hour, minute, second)
  const isReal = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60
  if (!isReal) throw malformed('a date does not exist')
  return date.getTime()
}

const MAX_TIME_CHARACTERS = 15
const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/

function malformed (why: string): CarrierError {
  return new CarrierError('ERR_PROTOCOL', `the certificate of the peer is refused: ${why}`)
}
