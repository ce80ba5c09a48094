/** Addresses: what one gives away to receive friend requests. bech32m (BIP-350), prefix `cr`, of kind ‖ key ‖ nospam. PROTOCOL.md "Address". */
import { bech32m } from '@scure/base'
import { CarrierError, concatBytes, errorMessage } from '../base/index.ts'
import { assertStrongKey, didFromPublicKey } from './did.ts'
import type { Did } from './did.ts'
import { NOSPAM_BYTES } from './nospam.ts'

/** What an address says. */
export interface ParsedAddress {
  /** The device that takes the request. */
  did: Did
  publicKey: Uint8Array
  /** 8 bytes that prove to the device that it handed this address out. */
  nospam: Uint8Array
}

/** Length of every address. */
export const ADDRESS_CHARACTERS = 75

const PREFIX = 'cr'
const KIND_DEVICE = 1
const KIND_OWNER = 2
const KEY_BYTES = 32
const PAYLOAD_BYTES = 1 + KEY_BYTES + NOSPAM_BYTES

/** Longest text that is looked at; leaves room for the spaces of an address that is shown in groups. */
const MAX_TEXT_CHARACTERS = 160

/** Characters that bech32 leaves out because people mistake them, and what was meant. */
const LOOKALIKES: Readonly<Record<string, string>> = { 1: 'l', b: '8', i: 'l', o: '0' }
const ALPHABET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'

/** The address of a device key and one nospam. @throws CarrierError ERR_WEAK_KEY */
export function formatAddress (parts: { publicKey: Uint8Array, nospam: Uint8Array }): string {
  assertStrongKey(parts.publicKey)
  if (parts.nospam.length !== NOSPAM_BYTES) throw new CarrierError('ERR_INVALID_ARGUMENT', `a nospam has ${NOSPAM_BYTES} bytes, not ${parts.nospam.length}`)
  return bech32m.encodeFromBytes(PREFIX, concatBytes([Uint8Array.of(KIND_DEVICE), parts.publicKey, parts.nospam]))
}

/**
 * Parses an address in lower or upper case; white space between groups is ignored.
 *
 * @throws CarrierError ERR_INVALID_ADDRESS with what is wrong with it, ERR_UNSUPPORTED_ADDRESS for kinds that this
 *   release cannot befriend, ERR_WEAK_KEY
 */
export function parseAddress (text: string): ParsedAddress {
  if (text.length > MAX_TEXT_CHARACTERS) throw invalid(`it has ${text.length} characters instead of ${ADDRESS_CHARACTERS}`)
  const compact = text.replaceAll(/\s/g, '')
  assertForm(compact)
  const payload = decodePayload(compact)
  const kind = payload[0] ?? 0
  if (kind === KIND_OWNER) throw new CarrierError('ERR_UNSUPPORTED_ADDRESS', 'this is the address of an owner (kind 2), which this release cannot befriend yet; ask for the address of one device: "carrier id" prints it there')
  if (kind !== KIND_DEVICE) throw new CarrierError('ERR_UNSUPPORTED_ADDRESS', `this address is of kind ${kind}, which this release does not know; a newer release of Carrier made it: update, or ask for a device address`)
  const publicKey = payload.slice(1, 1 + KEY_BYTES)
  return { did: didFromPublicKey(publicKey), publicKey, nospam: payload.slice(1 + KEY_BYTES) }
}

/** Everything that can be said without decoding, most helpful sentence first. */
function assertForm (compact: string): void {
  // before any case mapping: some letters outside ASCII turn into k or s
  const foreign = /[^\x21-\x7e]/u.exec(compact)
  if (foreign !== null) throw invalid(`"${foreign[0]}" at position ${foreign.index + 1} does not occur in addresses`)
  const lower = compact.toLowerCase()
  if (lower === '') throw invalid('it is empty; it looks like cr1q…')
  if (!lower.startsWith(`${PREFIX}1`)) throw invalid(otherThing(lower) ?? 'it must start with cr1')
  if (compact !== lower && compact !== compact.toUpperCase()) throw invalid('it mixes upper and lower case; write it all in one of them')
  for (let index = PREFIX.length + 1; index < lower.length; index++) {
    const character = lower[index] ?? ''
    if (ALPHABET.includes(character)) continue
    const meant = LOOKALIKES[character]
    throw invalid(`"${character}" at position ${index + 1} does not occur in addresses${meant === undefined ? '' : `; did you mean "${meant}"?`}`)
  }
  const difference = compact.length - ADDRESS_CHARACTERS
  if (difference !== 0) throw invalid(`it has ${compact.length} characters instead of ${ADDRESS_CHARACTERS}: ${Math.abs(difference)} ${difference < 0 ? 'missing' : 'too many'}; copy it again as a whole`)
}

function decodePayload (compact: string): Uint8Array {
  let payload: Uint8Array
  try {
    payload = bech32m.decodeToBytes(compact).bytes
  } catch (err) {
    const reason = /checksum/i.test(errorMessage(err)) ? 'the checksum does not fit: at least one character is wrong; copy it again' : errorMessage(err)
    throw invalid(reason, err)
  }
  if (payload.length !== PAYLOAD_BYTES) throw invalid(`it holds ${payload.length} bytes instead of ${PAYLOAD_BYTES}`)
  return payload
}

/** Names what somebody pasted instead of an address. */
function otherThing (lower: string): string | undefined {
  const fix = 'did you mean the address (cr1…) that "carrier id" prints on that device?'
  if (lower.startsWith('did:')) return `this is a DID, which names a device but does not permit to ask it; ${fix}`
  if (/^(12d3koo|16uiu2|qm[1-9a-z]{20})/.test(lower)) return `this is a PeerId; ${fix}`
  if (lower.startsWith('/')) return `this is a network address; ${fix}`
  if (lower.startsWith('carrier:')) return `tickets and links are not understood by this release; ${fix}`
  if (/^[1-9a-z]{50,52}$/.test(lower)) return `this looks like an address of the old Elastos Carrier, which is another network; ${fix}`
  return undefined
}

function invalid (reason: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_INVALID_ADDRESS', `not a Carrier address: ${reason}`, cause === undefined ? {} : { cause })
}
