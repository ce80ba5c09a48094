/** The key file: one JSON document with the seed of the device key and the nospam secret, plain or sealed under a passphrase. ARCHITECTURE.md "Data directory". */
import crypto from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { argon2idAsync } from '@noble/hashes/argon2.js'
import { z } from 'zod'
import { CarrierError, concatBytes, encodeCbor, errorMessage, utf8Decode, utf8Encode } from '../base/index.ts'
import type { Did } from './did.ts'

/** What the file protects. */
export interface KeySecrets {
  /** 32 bytes: the Ed25519 seed. */
  seed: Uint8Array
  /** 32 bytes. */
  nospamSecret: Uint8Array
}

/** A key file that was read and is undamaged. */
export type KeyFile = z.infer<typeof keyFileSchema>

/** Largest file that is read; ours have under 1 KiB. */
export const KEY_FILE_MAX_BYTES = 16 * 1024

const SECRET_BYTES = 32
const MAX_PASSPHRASE_BYTES = 1024

/** Cost of guessing: 64 MiB, 3 passes (RFC 9106, second recommendation, one lane). */
const ARGON2_DEFAULTS = { memoryKib: 64 * 1024, passes: 3, lanes: 1 }

const base64Bytes = (length: number): z.ZodType<string> => z.base64().refine((text) => Buffer.from(text, 'base64').length === length)

// a file that asks for more memory or time than these bounds is refused: it was not written by us
const sealSchema = z.strictObject({
  kdf: z.literal('argon2id'),
  memoryKib: z.number().int().min(8 * 1024).max(1024 * 1024),
  passes: z.number().int().min(1).max(16),
  lanes: z.number().int().min(1).max(8),
  salt: base64Bytes(16),
  cipher: z.literal('xchacha20-poly1305'),
  nonce: base64Bytes(24)
})

const common = { format: z.literal('carrier-keystore'), version: z.literal(1), did: z.string().max(128) as z.ZodType<Did> }
const plainSchema = z.strictObject({ ...common, secrets: base64Bytes(2 * SECRET_BYTES) })
const sealedSchema = z.strictObject({ ...common, seal: sealSchema, sealed: base64Bytes(2 * SECRET_BYTES + 16) })
const keyFileSchema = z.union([plainSchema, sealedSchema])
const envelopeSchema = z.object({ format: z.literal('carrier-keystore'), version: z.number(), check: z.string() })

/** Bytes of a key file; sealed when a passphrase is given. */
export async function encodeKeyFile (did: Did, secrets: KeySecrets, passphrase: string | undefined): Promise<Uint8Array> {
  const plain = concatBytes([secrets.seed, secrets.nospamSecret])
  const header = { format: 'carrier-keystore' as const, version: 1 as const, did }
  if (passphrase === undefined) return serialize({ ...header, secrets: toBase64(plain) })
  const seal = {
    kdf: 'argon2id' as const,
    ...ARGON2_DEFAULTS,
    salt: toBase64(crypto.randomBytes(16)),
    cipher: 'xchacha20-poly1305' as const,
    nonce: toBase64(crypto.randomBytes(24))
  }
  const cipher = await openCipher({ ...header, seal }, passphrase)
  return serialize({ ...header, seal, sealed: toBase64(cipher.encrypt(plain)) })
}

/**
 * Reads a key file without opening it.
 *
 * @throws CarrierError ERR_KEYSTORE when it is damaged or of a newer release
 */
export function decodeKeyFile (bytes: Uint8Array, path: string): KeyFile {
  let value: unknown
  try {
    value = JSON.parse(utf8Decode(bytes))
  } catch (err) {
    throw damaged(path, errorMessage(err), err)
  }
  const envelope = envelopeSchema.safeParse(value)
  if (!envelope.success) throw damaged(path, 'it is not a Carrier key file')
  if (envelope.data.version > 1) {
    throw new CarrierError('ERR_KEYSTORE', `the key file ${path} has format ${envelope.data.version}, this release knows format 1; it was left as it is: use the newer release of Carrier`)
  }
  const { check, ...content } = value as Record<string, unknown>
  if (check !== checksum(content)) throw damaged(path, 'its checksum does not fit')
  const file = keyFileSchema.safeParse(content)
  if (!file.success) throw damaged(path, 'a value in it is out of range')
  return file.data
}

/** True when the file needs a passphrase. */
export function isSealedFile (file: KeyFile): file is z.infer<typeof sealedSchema> {
  return 'sealed' in file
}

/** The secrets of an unsealed file. */
export function readPlainSecrets (file: z.infer<typeof plainSchema>): KeySecrets {
  return splitSecrets(fromBase64(file.secrets))
}

/**
 * The secrets of a sealed file.
 *
 * @throws CarrierError ERR_PASSPHRASE when the passphrase is missing or wrong
 */
export async function openSealedSecrets (file: z.infer<typeof sealedSchema>, passphrase: string | undefined, path: string): Promise<KeySecrets> {
  if (passphrase === undefined) {
    throw new CarrierError('ERR_PASSPHRASE', `the key file ${path} is sealed and no passphrase was given; put it into a file that only you can read and set CARRIER_PASSPHRASE_FILE to its path`)
  }
  const { sealed, ...header } = file
  const cipher = await openCipher(header, passphrase)
  try {
    return splitSecrets(cipher.decrypt(fromBase64(sealed)))
  } catch (err) {
    // the checksum was right, so the file is whole: what is wrong is the passphrase
    throw new CarrierError('ERR_PASSPHRASE', `the passphrase does not open the key file ${path}; the file was left as it is`, { cause: err })
  }
}

/** Refuses what cannot have been meant as a passphrase. */
export function assertPassphrase (passphrase: string): void {
  if (passphrase === '') throw new CarrierError('ERR_PASSPHRASE', 'the passphrase is empty; leave it away to keep the key file unsealed')
  if (utf8Encode(passphrase).length > MAX_PASSPHRASE_BYTES) throw new CarrierError('ERR_PASSPHRASE', `the passphrase is longer than ${MAX_PASSPHRASE_BYTES} bytes`)
}

type SealedHeader = Omit<z.infer<typeof sealedSchema>, 'sealed'>

/** The cipher under the passphrase's key; the whole header is authenticated, so its parameters cannot be changed. */
async function openCipher (header: SealedHeader, passphrase: string): Promise<ReturnType<typeof xchacha20poly1305>> {
  const { seal } = header
  const key = await deriveKey(passphrase, fromBase64(seal.salt), seal)
  return xchacha20poly1305(key, fromBase64(seal.nonce), encodeCbor(header))
}

async function deriveKey (passphrase: string, salt: Uint8Array, cost: { memoryKib: number, passes: number, lanes: number }): Promise<Uint8Array> {
  // NFKC: the same passphrase typed on another keyboard or system has the same bytes
  const message = utf8Encode(passphrase.normalize('NFKC'))
  // Node has Argon2 from 24.7 on; before that the slower portable one gives the same key
  const native = crypto.argon2 as typeof crypto.argon2 | undefined
  if (native === undefined) return argon2idAsync(message, salt, { t: cost.passes, m: cost.memoryKib, p: cost.lanes, dkLen: 32 })
  return new Promise((resolve, reject) => {
    native('argon2id', { message, nonce: salt, parallelism: cost.lanes, tagLength: 32, memory: cost.memoryKib, passes: cost.passes }, (err, key) => {
      if (err === null) resolve(new Uint8Array(key))
      else reject(new CarrierError('ERR_KEYSTORE', `the passphrase could not be processed: ${err.message}; it needs ${Math.round(cost.memoryKib / 1024)} MiB of free memory`, { cause: err }))
    })
  })
}

function splitSecrets (plain: Uint8Array): KeySecrets {
  return { seed: plain.slice(0, SECRET_BYTES), nospamSecret: plain.slice(SECRET_BYTES, 2 * SECRET_BYTES) }
}

function serialize (content: KeyFile): Uint8Array {
  return utf8Encode(`${JSON.stringify({ ...content, check: checksum(content) }, undefined, 2)}\n`)
}

/** Tells a damaged file from a wrong passphrase; not a protection against people. */
function checksum (content: Record<string, unknown>): string {
  return crypto.createHash('sha256').update(encodeCbor(content)).digest('base64')
}

function damaged (path: string, reason: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_KEYSTORE', `the key file ${path} is damaged (${reason}); it was left as it is: restore it from a backup, or move the whole data directory away to start with a new identity`,
    cause === undefined ? {} : { cause })
}

function toBase64 (bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

function fromBase64 (text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}
