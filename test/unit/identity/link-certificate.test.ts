import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromHex, LIMITS } from '../../../src/base/index.ts'
import { createLinkCertificate, verifyLinkCertificate } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { CRITICAL, der, ECDSA_SHA256, extension, forgeCertificate, LIBP2P_OID, OTHER_OID, spkiOf, testDevice, time } from '../../support/forged-certificate.ts'
import type { ForgedParts } from '../../support/forged-certificate.ts'
import { readVectors } from '../../support/vectors.ts'

interface Vectors { certificates: Array<{ name: string, device: Did, der: string, refused: string | null }> }
const { certificates } = readVectors<Vectors>('link-certificate')

const NOW_MS = Date.UTC(2027, 0, 2)
const device = testDevice(1)

function refuses (reason: RegExp, certificate: Uint8Array, expected = device.did, nowMs = NOW_MS): void {
  assert.throws(() => { verifyLinkCertificate(certificate, expected, nowMs) }, (err: Error & { code: string }) => {
    assert.equal(err.code, 'ERR_PROTOCOL')
    assert.match(err.message, reason)
    return true
  })
}

test('the vectors of the specification and our own', () => {
  assert.equal(certificates.length, 5)
  for (const { name, device: expected, der: certificate, refused } of certificates) {
    if (refused === null) assert.doesNotThrow(() => { verifyLinkCertificate(fromHex(certificate), expected, NOW_MS) }, name)
    else refuses(new RegExp(refused), fromHex(certificate), expected)
  }
})

test('a certificate of ours is accepted at every time a clock may show, names nobody, and is fresh', async () => {
  const first = await createLinkCertificate(device)
  const second = await createLinkCertificate(device)
  const certificate = new X509Certificate(first.certificatePem)
  for (const nowMs of [0, NOW_MS, Date.UTC(4000, 0, 1)]) verifyLinkCertificate(certificate.raw, device.did, nowMs)
  assert.equal(certificate.subject, undefined)
  assert.equal(certificate.issuer, undefined)
  assert.notEqual(first.keyPem, second.keyPem)
  assert.ok(certificate.raw.length < 512)
  refuses(/another device/, certificate.raw, testDevice(2).did)
})

test('accepted: critical or not, first, last or in the middle of other extensions', () => {
  const other = extension(OTHER_OID, Uint8Array.of(5, 0))
  const cases: ForgedParts[] = [
    {},
    { critical: CRITICAL },
    { critical: Uint8Array.of(0x01, 0x01, 0x00) },
    { extensions: (libp2p) => [other, libp2p] },
    { extensions: (libp2p) => [libp2p, other] },
    { extensions: (libp2p) => [other, libp2p, extension('06032a0305', new Uint8Array())] },
    { issuer: der(0x30), subject: der(0x30) },
    { validity: Buffer.concat([der(0x17, Buffer.from('500101000000Z')), der(0x17, Buffer.from('491231235959Z'))]) }
  ]
  for (const parts of cases) verifyLinkCertificate(forgeCertificate(parts).der, device.did, NOW_MS)
})

const P384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 })
const OTHER_KEYS = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ED25519_KEY = Buffer.concat([Uint8Array.of(8, 1, 18, 32), device.publicKey])
const SIGNATURE = new Uint8Array(64)
const octets = (bytes: Uint8Array): Uint8Array => der(0x04, bytes)

const WRONG: Array<[what: string, reason: RegExp, parts: ForgedParts]> = [
  ['another key', /another device/, { device: testDevice(2) }],
  ['the right key named, another one signed', /not signed by the device/, { publicKey: ED25519_KEY, device: testDevice(2) }],
  ['no extensions', /libp2p extension is missing/, { tail: new Uint8Array() }],
  ['an empty list of extensions', /libp2p extension is missing/, { extensions: () => [] }],
  ['other extensions only', /libp2p extension is missing/, { extensions: () => [extension(OTHER_OID, new Uint8Array())] }],
  ['the extension twice', /comes twice/, { extensions: (libp2p) => [libp2p, libp2p] }],
  ['a critical extension that is unknown', /critical extension/, { extensions: (libp2p) => [extension(OTHER_OID, new Uint8Array(), CRITICAL), libp2p] }],
  ['too many extensions', /more than 32/, { extensions: (libp2p) => [...new Array<Uint8Array>(32).fill(extension(OTHER_OID, new Uint8Array())), libp2p] }],
  ['an empty value', /ends too early/, { signedKey: new Uint8Array() }],
  ['no sequence', /wrong kind/, { signedKey: octets(ED25519_KEY) }],
  ['no signature', /ends too early/, { signedKey: der(0x30, octets(ED25519_KEY)) }],
  ['bit strings instead of octet strings', /wrong kind/, { signedKey: der(0x30, der(0x03, Uint8Array.of(0), ED25519_KEY), der(0x03, Uint8Array.of(0), SIGNATURE)) }],
  ['something behind the signature', /follows its end/, { signedKey: der(0x30, octets(ED25519_KEY), octets(SIGNATURE), octets(SIGNATURE)) }],
  ['something behind the sequence', /follows its end/, { signedKey: Buffer.concat([der(0x30, octets(ED25519_KEY), octets(SIGNATURE)), Uint8Array.of(0)]) }],
  ['a length that is not minimal', /length is not DER/, { signedKey: Uint8Array.of(0x30, 0x81, 0x02, 0x04, 0x00) }],
  ['an indefinite length', /length is not DER/, { signedKey: Uint8Array.of(0x30, 0x80, 0x00, 0x00) }],
  ['a length beyond the whole', /longer than the whole/, { signedKey: Uint8Array.of(0x30, 0x7f, 0x04, 0x00) }],
  ['a key that is no protobuf', /not valid protobuf/, { publicKey: Uint8Array.of(0xff) }],
  ['an empty key', /not an Ed25519 key/, { publicKey: new Uint8Array() }],
  ['a secp256k1 key', /not an Ed25519 key/, { publicKey: Buffer.concat([Uint8Array.of(8, 2, 18, 33, 2), device.publicKey]) }],
  ['a key of 31 bytes', /32 bytes/, { publicKey: Buffer.concat([Uint8Array.of(8, 1, 18, 31), device.publicKey.subarray(1)]) }],
  ['a key without bytes', /32 bytes/, { publicKey: Uint8Array.of(8, 1) }],
  ['no bytes in the signature', /not signed by the device/, { signature: new Uint8Array() }],
  ['a signature of zeros', /not signed by the device/, { signature: SIGNATURE }],
  ['a signature without the domain', /not signed by the device/, { keys: OTHER_KEYS, message: spkiOf(OTHER_KEYS.privateKey) }],
  ['a signature over the key of another certificate', /not signed by the device/, { message: Buffer.concat([Buffer.from('libp2p-tls-handshake:'), spkiOf(OTHER_KEYS.privateKey)]) }],
  ['a certificate that another key signed', /not signed with its own key/, { signer: OTHER_KEYS.privateKey }],
  ['an issuer that is not the subject', /not self-signed/, { issuer: der(0x30, der(0x31, der(0x30, Buffer.from('0603550403', 'hex'), der(0x0c, Buffer.from('x'))))) }],
  ['expired', /has expired/, { validity: Buffer.concat([time('19750101000000Z'), time('20270101235800Z')]) }],
  ['not valid yet', /not valid yet/, { validity: Buffer.concat([time('20270102000200Z'), time('40960101000000Z')]) }],
  ['a date that does not exist', /date does not exist/, { validity: Buffer.concat([time('20270230000000Z'), time('40960101000000Z')]) }],
  ['a date with a zone', /not one of X.509/, { validity: Buffer.concat([time('20270101000000+0000'), time('40960101000000Z')]) }],
  ['version 1', /not of version 3/, { version: der(0xa0, der(0x02, Uint8Array.of(0))) }],
  ['no version', /wrong kind/, { version: new Uint8Array() }],
  ['unique ids', /wrong kind/, { uniqueId: Uint8Array.of(0x81, 0x02, 0x00, 0x01) }],
  ['a P-384 key', /not a P-256 key/, { keys: P384 }],
  ['an RSA key', /ecdsa-with-SHA256/, { keys: RSA, algorithm: Buffer.from('300d06092a864886f70d01010b0500', 'hex') }],
  ['SHA-1', /ecdsa-with-SHA256/, { digest: 'sha1', algorithm: Buffer.from('300906072a8648ce3d0401', 'hex') }],
  ['two algorithms', /ecdsa-with-SHA256/, { innerAlgorithm: Buffer.from('300a06082a8648ce3d040303', 'hex') }],
  ['explicit curve parameters', /not a P-256 key/, { spki: explicitCurve() }],
  ['a point that is not on the curve', /refused/, { spki: Buffer.concat([spkiOf(OTHER_KEYS.privateKey).subarray(0, 27), new Uint8Array(64).fill(5)]) }]
]

for (const [what, reason, parts] of WRONG) {
  test(`I2: refused: ${what}`, () => { refuses(reason, forgeCertificate(parts).der) })
}

function explicitCurve (): Uint8Array {
  return generateKeyPairSync('ec', { namedCurve: 'P-256', paramEncoding: 'explicit' }).publicKey.export({ type: 'spki', format: 'der' })
}

test('a minute of skew is allowed on both ends of the validity', () => {
  const { der: certificate } = forgeCertificate({ validity: Buffer.concat([time('20270102000100Z'), time('20270102000200Z')]) })
  for (const offsetMs of [0, 60_000, 120_000, 180_000]) verifyLinkCertificate(certificate, device.did, NOW_MS + offsetMs)
  refuses(/not valid yet/, certificate, device.did, NOW_MS - 1)
  refuses(/has expired/, certificate, device.did, NOW_MS + 180_001)
})

test('a long certificate is refused before anything is read', () => {
  const { der: certificate } = forgeCertificate({ extensions: (libp2p) => [extension(OTHER_OID, new Uint8Array(LIMITS.linkCertificateBytes)), libp2p] })
  refuses(/longer than 8192 bytes/, certificate)
  refuses(/longer than 8192 bytes/, new Uint8Array(10_000_000))
})

test('bytes behind the certificate, a cut one, and nothing are refused', () => {
  const { der: certificate } = forgeCertificate()
  refuses(/follows its end/, Buffer.concat([certificate, certificate]))
  for (let length = 0; length < certificate.length; length++) refuses(/refused/, certificate.subarray(0, length))
})

test('no changed byte is accepted, and nothing but ERR_PROTOCOL is thrown', () => {
  const { der: certificate } = forgeCertificate({ extensions: (libp2p) => [libp2p, extension(LIBP2P_OID.replace(/01$/, '02'), Uint8Array.of(1))] })
  fc.assert(fc.property(fc.nat(certificate.length - 1), fc.integer({ min: 1, max: 255 }), (index, change) => {
    const changed = Uint8Array.from(certificate)
    changed[index] = (changed[index] ?? 0) ^ change
    refuses(/./, changed)
  }), { numRuns: 500 })
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => { refuses(/./, bytes) }))
  assert.equal(ECDSA_SHA256.length, 12)
})
