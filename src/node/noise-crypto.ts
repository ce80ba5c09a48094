/**
 * The primitives of Noise from node:crypto, with each cipher key converted once per connection: Node 24 needs 15 µs for
 * that on every record, which is a quarter of the whole cost of a stream link there (Node 26: nothing).
 */
import { createCipheriv, createDecipheriv, createHash, createPrivateKey, createPublicKey, createSecretKey, diffieHellman, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { pureJsCrypto } from '@chainsafe/libp2p-noise'
import type { ICryptoInterface } from '@chainsafe/libp2p-noise'

const CIPHER = 'chacha20-poly1305'
const TAG_BYTES = 16
/** DER before the 32 key bytes (RFC 8410). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex')

type Bytes = Parameters<ICryptoInterface['hashSHA256']>[0]

/** The implementation; keys are forgotten with the connections that hold them. */
export function createNoiseCrypto (): ICryptoInterface {
  const keys = new WeakMap<Uint8Array, KeyObject>()

  function keyObject (key: Uint8Array): KeyObject {
    const known = keys.get(key)
    if (known !== undefined) return known
    const made = createSecretKey(key)
    keys.set(key, made)
    return made
  }

  return {
    ...pureJsCrypto,
    hashSHA256: (data) => createHash('sha256').update(data.subarray()).digest(),
    generateX25519KeyPair: () => {
      const { publicKey, privateKey } = generateKeyPairSync('x25519')
      return {
        publicKey: publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_PREFIX.length),
        privateKey: privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(PKCS8_PREFIX.length)
      }
    },
    generateX25519SharedKey: (privateKey, publicKey) => diffieHellman({ privateKey: privateKeyOf(privateKey), publicKey: publicKeyOf(publicKey) }),
    chaCha20Poly1305Encrypt: (plaintext, nonce, ad, key) => {
      const cipher = createCipheriv(CIPHER, keyObject(key), nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(ad, { plaintextLength: plaintext.byteLength })
      const parts = piecesOf(plaintext).map((piece) => cipher.update(piece))
      parts.push(cipher.final(), cipher.getAuthTag())
      return Buffer.concat(parts, plaintext.byteLength + TAG_BYTES)
    },
    chaCha20Poly1305Decrypt: (ciphertext, nonce, ad, key) => {
      const bytes = ciphertext.subarray()
      const textBytes = bytes.length - TAG_BYTES
      const decipher = createDecipheriv(CIPHER, keyObject(key), nonce, { authTagLength: TAG_BYTES })
      decipher.setAAD(ad, { plaintextLength: textBytes })
      decipher.setAuthTag(bytes.subarray(textBytes))
      const text = decipher.update(bytes.subarray(0, textBytes))
      // throws unless every byte is what the other end sealed: nothing is given out before
      decipher.final()
      return text
    }
  }
}

function piecesOf (bytes: Bytes): Uint8Array[] {
  return bytes instanceof Uint8Array ? [bytes] : [...bytes]
}

function privateKeyOf (key: Bytes): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, key.subarray()]), type: 'pkcs8', format: 'der' })
}

function publicKeyOf (key: Bytes): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_PREFIX, key.subarray()]), type: 'spki', format: 'der' })
}
