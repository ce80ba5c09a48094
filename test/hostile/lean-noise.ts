/**
 * The opening of a libp2p connection by hand, for attackers that need many: Noise XX as the side that dials, on node:crypto, without any check
 * of who answers. One handshake costs about a millisecond; a whole libp2p node costs twenty.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, createPublicKey, diffieHellman, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { encodeProtobuf } from '../../src/base/index.ts'

const PROTOCOL = Buffer.from('Noise_XX_25519_ChaChaPoly_SHA256')
const SPKI_HEAD = Buffer.from('302a300506032b656e032100', 'hex')
/** What stands before a raw Ed25519 key in its SubjectPublicKeyInfo. */
const ED25519_HEAD_BYTES = 12
const KEY_BYTES = 32
const TAG_BYTES = 16
const ED25519 = 1

interface KeyPair { privateKey: KeyObject, raw: Buffer }

/** Made once for each process: only the identity has to be fresh. */
const fixed: KeyPair = makeX25519()

/** A fresh identity: the payload of the third message, which proves it. */
export function makeIdentity (): Uint8Array {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(ED25519_HEAD_BYTES)
  const proof = sign(null, Buffer.concat([Buffer.from('noise-libp2p-static-key:'), fixed.raw]), privateKey)
  return encodeProtobuf([[1, encodeProtobuf([[1, ED25519], [2, Uint8Array.from(raw)]])], [2, Uint8Array.from(proof)]])
}

/** Both directions after the handshake; frames have two bytes of length. */
export interface LeanCipher { seal: (plain: Uint8Array) => Buffer, open: (sealed: Uint8Array) => Buffer }

/** One handshake. */
export interface LeanHandshake {
  /** The first message, framed. */
  first: Buffer
  /** Takes the answer (without its length) and gives the third message, framed, and what comes after. Throws when the answer is none. */
  finish: (answer: Uint8Array, identity: Uint8Array) => { third: Buffer, cipher: LeanCipher }
}

/** Begins one with a key of its own. */
export function startHandshake (): LeanHandshake {
  const own = makeX25519()
  // the name has exactly the length of a hash, so it is the first one itself
  let chain: Buffer = PROTOCOL
  let hash: Buffer = PROTOCOL
  let key: Buffer | undefined
  let nonce = 0

  function mixHash (bytes: Uint8Array): void { hash = sha256(hash, bytes) }

  function mixKey (privateKey: KeyObject, remote: Uint8Array): void {
    const [nextChain, nextKey] = derive(chain, diffieHellman({ privateKey, publicKey: importX25519(remote) }))
    chain = nextChain
    key = nextKey
    nonce = 0
  }

  function sealHandshake (plain: Uint8Array): Buffer {
    const sealed = encrypt(key ?? Buffer.alloc(0), nonce++, plain, hash)
    mixHash(sealed)
    return sealed
  }

  function openHandshake (sealed: Uint8Array): Buffer {
    const plain = decrypt(key ?? Buffer.alloc(0), nonce++, sealed, hash)
    mixHash(sealed)
    return plain
  }

  // an empty prologue; the key; a message without payload
  mixHash(Buffer.alloc(0))
  mixHash(own.raw)
  mixHash(Buffer.alloc(0))

  return {
    first: framed(own.raw),
    finish: (answer, identity) => {
      const theirs = answer.subarray(0, KEY_BYTES)
      mixHash(theirs)
      mixKey(own.privateKey, theirs)
      const theirFixed = openHandshake(answer.subarray(KEY_BYTES, 2 * KEY_BYTES + TAG_BYTES))
      mixKey(own.privateKey, theirFixed)
      openHandshake(answer.subarray(2 * KEY_BYTES + TAG_BYTES))
      const sealedFixed = sealHandshake(fixed.raw)
      mixKey(fixed.privateKey, theirs)
      const third = framed(Buffer.concat([sealedFixed, sealHandshake(identity)]))
      const [sendKey, receiveKey] = derive(chain, Buffer.alloc(0))
      let [sent, received] = [0, 0]
      return {
        third,
        cipher: {
          seal: (plain) => framed(encrypt(sendKey, sent++, plain, Buffer.alloc(0))),
          open: (sealed) => decrypt(receiveKey, received++, sealed, Buffer.alloc(0))
        }
      }
    }
  }
}

function makeX25519 (): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('x25519')
  return { privateKey, raw: publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_HEAD.length) }
}

function importX25519 (raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' })
}

function sha256 (first: Uint8Array, second: Uint8Array): Buffer {
  return createHash('sha256').update(first).update(second).digest()
}

/** HKDF with two outputs, as Noise has it. */
function derive (salt: Uint8Array, secret: Uint8Array): [Buffer, Buffer] {
  const mac = (key: Uint8Array, ...parts: Uint8Array[]): Buffer => createHmac('sha256', key).update(Buffer.concat(parts)).digest()
  const middle = mac(salt, secret)
  const first = mac(middle, Uint8Array.of(1))
  return [first, mac(middle, first, Uint8Array.of(2))]
}

function nonceOf (count: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32LE(count, 4)
  return bytes
}

function encrypt (key: Uint8Array, count: number, plain: Uint8Array, beside: Uint8Array): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, nonceOf(count), { authTagLength: TAG_BYTES })
  cipher.setAAD(beside, { plaintextLength: plain.length })
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function decrypt (key: Uint8Array, count: number, sealed: Uint8Array, beside: Uint8Array): Buffer {
  const plainBytes = sealed.length - TAG_BYTES
  const decipher = createDecipheriv('chacha20-poly1305', key, nonceOf(count), { authTagLength: TAG_BYTES })
  decipher.setAAD(beside, { plaintextLength: plainBytes })
  decipher.setAuthTag(sealed.subarray(plainBytes))
  return Buffer.concat([decipher.update(sealed.subarray(0, plainBytes)), decipher.final()])
}

function framed (bytes: Uint8Array): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(bytes.length)
  return Buffer.concat([length, bytes])
}
