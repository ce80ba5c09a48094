/** Names for friends: what may be a label, what a friend without one is called, and what people may type to mean somebody. */
import { CarrierError } from '../base/index.ts'
import { parseLabel } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'

/** Words that follow `carrier forward` and so cannot name a friend. */
const RESERVED_WORDS = ['list', 'close']

const SHORT_NAME_PREFIX = 'friend-'
const SHORT_NAME_CHARACTERS = 6

/** The stored form of a friend's label. @throws CarrierError ERR_INVALID_ARGUMENT */
export function parseFriendLabel (text: string): string {
  const label = parseLabel(text, 'friend label')
  if (RESERVED_WORDS.includes(label)) throw new CarrierError('ERR_INVALID_ARGUMENT', `"${label}" cannot be a friend label: it is a word of the command line`)
  return label
}

/** `friend-` and the last 6 characters of the DID in lower case; as many more as make it free. */
export function shortName (did: Did, isTaken: (name: string) => boolean): string {
  const key = keyText(did)
  for (let count = SHORT_NAME_CHARACTERS; count < key.length; count++) {
    const name = SHORT_NAME_PREFIX + key.slice(-count)
    if (!isTaken(name)) return name
  }
  return SHORT_NAME_PREFIX + key
}

/** True when `who` is the short name of `did`, of whatever length. */
export function isShortNameOf (who: string, did: Did): boolean {
  const text = who.toLowerCase()
  const tail = text.slice(SHORT_NAME_PREFIX.length)
  return text.startsWith(SHORT_NAME_PREFIX) && tail.length >= SHORT_NAME_CHARACTERS && keyText(did).endsWith(tail)
}

/** Fewest characters of a key that may stand for the whole DID. */
const MIN_PREFIX_CHARACTERS = 4
const DID_START = 'did:key:z6Mk'

/** True when `who` is the beginning of `did`, long enough to mean something. */
export function isPrefixOf (who: string, did: Did): boolean {
  return who.length >= DID_START.length + MIN_PREFIX_CHARACTERS && did.startsWith(who)
}

/** The one of `dids` that `who` means by DID, short name or prefix; all candidates when there are several. */
export function matchDids (who: string, dids: readonly Did[]): Did[] {
  const exact = dids.filter((did) => did === who)
  return exact.length > 0 ? exact : dids.filter((did) => isShortNameOf(who, did) || isPrefixOf(who, did))
}

function keyText (did: Did): string {
  return did.slice('did:key:'.length).toLowerCase()
}
