/** The keystore: makes the device's identity on first use and opens it ever after. One file, so that key and nospam secret are always of one piece. */
import { randomBytes } from 'node:crypto'
import { chmod, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { PeerId } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { CarrierError, ensurePrivateDirectory, errorMessage, readFileIfExists, removeStaleTemporaries, silentLogger, writePrivateFile } from '../base/index.ts'
import type { Logger } from '../base/index.ts'
import { didFromPublicKey, parseDid, peerIdFromDid, publicKeyFromDid } from './did.ts'
import type { Did } from './did.ts'
import { assertPassphrase, decodeKeyFile, encodeKeyFile, isSealedFile, KEY_FILE_MAX_BYTES, openSealedSecrets, readPlainSecrets } from './keystore-file.ts'
import type { KeyFile, KeySecrets } from './keystore-file.ts'
import type { Identity } from './types.ts'

/** Name of the key file inside the data directory. */
export const KEY_FILE_NAME = 'identity.key'

/** How the keystore is opened. */
export interface OpenKeystoreInit {
  /** The data directory; made with mode 0700 when missing. The caller holds its state lock. */
  directory: string
  /** Opens a sealed key file; seals a new one, and one that was not sealed before. */
  passphrase?: string | undefined
  log?: Logger
}

/**
 * Opens the identity of `directory`, making it on first use. A key file that cannot be read is never replaced.
 *
 * @throws CarrierError ERR_KEYSTORE when the file is damaged or cannot be read or written,
 *   ERR_PASSPHRASE when the passphrase is missing, empty or wrong
 */
export async function openKeystore (init: OpenKeystoreInit): Promise<Identity> {
  const { directory, passphrase, log = silentLogger } = init
  if (passphrase !== undefined) assertPassphrase(passphrase)
  const path = join(directory, KEY_FILE_NAME)
  await guardFileErrors(directory, async () => {
    await ensurePrivateDirectory(directory)
    await removeLeftovers(directory)
  })
  const file = await readKeyFile(path)
  if (file === undefined) return createIdentity(path, passphrase, log)

  await guardFileErrors(path, async () => { await closeToOthers(path, log) })
  if (isSealedFile(file)) return toIdentity(await openSealedSecrets(file, passphrase, path), file.did, path)
  const secrets = readPlainSecrets(file)
  const identity = await toIdentity(secrets, file.did, path)
  if (passphrase !== undefined) {
    await writeKeyFile(path, identity.did, secrets, passphrase)
    log.info('the key file was not sealed and is now sealed with the given passphrase', { path })
  }
  return identity
}

/** What a key file says about its owner without its passphrase. */
export interface PublicIdentity {
  did: Did
  peerId: PeerId
  publicKey: Uint8Array
  isSealed: boolean
  /** From this the addresses are derived; undefined when the file is sealed. */
  nospamSecret: Uint8Array | undefined
}

/**
 * Reads who the owner of `directory` is; undefined when no identity was made yet. Changes nothing and needs no lock.
 *
 * @throws CarrierError ERR_KEYSTORE when the file is damaged or cannot be read
 */
export async function loadPublicIdentity (directory: string): Promise<PublicIdentity | undefined> {
  const path = join(directory, KEY_FILE_NAME)
  const file = await readKeyFile(path)
  if (file === undefined) return undefined
  const did = checkDid(file, path)
  const facts = { did, peerId: peerIdFromDid(did), publicKey: publicKeyFromDid(did) }
  if (isSealedFile(file)) return { ...facts, isSealed: true, nospamSecret: undefined }
  const secrets = readPlainSecrets(file)
  await toIdentity(secrets, did, path)
  return { ...facts, isSealed: false, nospamSecret: secrets.nospamSecret }
}

async function createIdentity (path: string, passphrase: string | undefined, log: Logger): Promise<Identity> {
  const secrets = { seed: new Uint8Array(randomBytes(32)), nospamSecret: new Uint8Array(randomBytes(32)) }
  const identity = await toIdentity(secrets, undefined, path)
  await writeKeyFile(path, identity.did, secrets, passphrase)
  log.info('a new identity was made', { did: identity.did, path, isSealed: passphrase !== undefined })
  return identity
}

async function writeKeyFile (path: string, did: Did, secrets: KeySecrets, passphrase: string | undefined): Promise<void> {
  const bytes = await encodeKeyFile(did, secrets, passphrase)
  await guardFileErrors(path, async () => { await writePrivateFile(path, bytes) })
}

async function readKeyFile (path: string): Promise<KeyFile | undefined> {
  return guardFileErrors(path, async () => {
    const bytes = await readFileIfExists(path)
    if (bytes === undefined) return undefined
    if (bytes.length > KEY_FILE_MAX_BYTES) throw new CarrierError('ERR_KEYSTORE', `the key file ${path} is damaged (${bytes.length} bytes long); it was left as it is: restore it from a backup`)
    return decodeKeyFile(bytes, path)
  })
}

/** Builds the identity from its seed and checks it against the DID that the file names. */
async function toIdentity (secrets: KeySecrets, expected: Did | undefined, path: string): Promise<Identity> {
  const privateKey = await generateKeyPairFromSeed('Ed25519', secrets.seed)
  const publicKey = privateKey.publicKey.raw
  const did = didFromPublicKey(publicKey)
  if (expected !== undefined && did !== expected) throw new CarrierError('ERR_KEYSTORE', `the key file ${path} names ${expected} but holds the key of ${did}; it was left as it is: restore it from a backup`)
  return {
    did,
    peerId: peerIdFromPrivateKey(privateKey),
    publicKey,
    privateKey,
    nospamSecret: secrets.nospamSecret,
    instanceId: new Uint8Array(randomBytes(16)),
    sign: async (message) => {
      assertDomain(message)
      return privateKey.sign(message)
    }
  }
}

/** The DID that a file names, checked as if it came from outside. */
function checkDid (file: KeyFile, path: string): Did {
  try {
    return parseDid(file.did)
  } catch (err) {
    throw new CarrierError('ERR_KEYSTORE', `the key file ${path} is damaged (${errorMessage(err)}); it was left as it is: restore it from a backup`, { cause: err })
  }
}

/** Every signed statement starts with its domain, so that a signature for one purpose serves no other. */
function assertDomain (message: Uint8Array): void {
  const start = Buffer.from(message.subarray(0, 32)).toString('latin1')
  if (!DOMAINS.some((domain) => start.startsWith(domain))) throw new CarrierError('ERR_INTERNAL', 'only messages that start with a known signature domain are signed with the device key')
}

/** Ours, and that of the libp2p TLS certificate. Noise signs through libp2p. */
const DOMAINS = ['carrier-', 'carrier/', 'libp2p-tls-handshake:']

async function closeToOthers (path: string, log: Logger): Promise<void> {
  const { mode } = await stat(path)
  if ((mode & 0o077) === 0) return
  await chmod(path, 0o600)
  log.warn('the key file was readable for other users of this machine and is now closed to them; if one of them may have read it, make a new identity', { path })
}

/** Removes what a crash left behind while the file was written. */
async function removeLeftovers (directory: string): Promise<void> {
  const names = await readdir(directory)
  await removeStaleTemporaries(directory, names.filter((name) => name.startsWith(`${KEY_FILE_NAME}.`)))
}

/** Gives errors of the file system a code and a next step. */
async function guardFileErrors<T> (path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (err) {
    if (err instanceof CarrierError) throw err
    throw new CarrierError('ERR_KEYSTORE', `${path} cannot be used for the device key: ${errorMessage(err)}; check that it belongs to you and that the disk has room`, { cause: err })
  }
}
