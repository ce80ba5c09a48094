/** The operator's lists of who is known: DIDs and PeerIds in the configuration or in files, and the policy that follows from them. */
import { peerIdFromString } from '@libp2p/peer-id'
import { CarrierError, LIMITS, errorMessage } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Admit } from './admission.ts'
import type { CircuitLimits } from './hop-messages.ts'
import type { PeerClass } from './quota-book.ts'
import { peerKey, peerKeyOfPublicKey } from './reservation-table.ts'

/** Whom the relay serves: everybody, all who are on a list, or those of one list. */
export type AdmissionMode = 'open' | 'allow-list' | 'members' | 'friends'

/** The lists, read; each entry is a {@link peerKey}. */
export interface AdmissionLists { allow: ReadonlySet<string>, members: ReadonlySet<string>, friends: ReadonlySet<string> }

/** What follows from mode and lists. */
export interface AdmissionPolicy {
  mode: AdmissionMode
  /** Who may open circuits and splices to those that are served: anyone, as a friend request needs it, or only who is served too. */
  callers: 'anyone' | 'listed'
  lists: AdmissionLists
}

/** How the operator knows the peer. Who is merely allowed counts as a member. */
export function classOf ({ lists }: Pick<AdmissionPolicy, 'lists'>, key: string): PeerClass {
  if (lists.friends.has(key)) return 'friend'
  return lists.members.has(key) || lists.allow.has(key) ? 'member' : 'stranger'
}

/** True when the relay serves the peer. */
export function isServed ({ mode, lists }: AdmissionPolicy, key: string): boolean {
  switch (mode) {
    case 'open': return true
    case 'members': return lists.members.has(key)
    case 'friends': return lists.friends.has(key)
    case 'allow-list': return lists.allow.has(key) || lists.members.has(key) || lists.friends.has(key)
  }
}

/** The policy as the servers ask it; `policy` and `limits` are asked each time, so that they can change. */
export function admitByLists (policy: () => AdmissionPolicy, limits: () => CircuitLimits | undefined): Admit {
  return ({ action, peerId }) => {
    const current = policy()
    const mayAsk = (action !== 'reserve' && current.callers === 'anyone') || isServed(current, peerKey(peerId.toMultihash().bytes))
    if (!mayAsk) return { allow: false, status: 'PERMISSION_DENIED' }
    const now = limits()
    return now === undefined ? { allow: true } : { allow: true, limits: now }
  }
}

/**
 * Reads a list: one DID or PeerId per line, after it a label that is not used, `#` before a comment; or the JSON that
 * `carrier friend list --json` prints.
 *
 * @throws CarrierError ERR_CONFIG `FILE:LINE: what is wrong`
 */
export function parseAdmissionList (text: string, file: string): Set<string> {
  const keys = new Set<string>()
  const add = (entry: string, line: number): void => {
    try {
      keys.add(parseListEntry(entry))
    } catch (err) {
      throw new CarrierError('ERR_CONFIG', `${file}:${line}: ${errorMessage(err)}`, { cause: err })
    }
    if (keys.size > LIMITS.relayAdmissionListCount) throw new CarrierError('ERR_CONFIG', `${file}:${line}: more than ${LIMITS.relayAdmissionListCount} entries`)
  }
  if (text.trimStart().startsWith('[')) {
    for (const did of friendDids(text, file)) add(did, 1)
    return keys
  }
  for (const [index, raw] of text.split('\n').entries()) {
    const [entry = ''] = raw.replace(/#.*$/, '').trim().split(/\s+/)
    if (entry !== '') add(entry, index + 1)
  }
  return keys
}

/** The key of a DID or PeerId. @throws CarrierError ERR_CONFIG */
export function parseListEntry (text: string): string {
  try {
    return text.startsWith('did:') ? peerKeyOfPublicKey(publicKeyFromDid(text)) : peerKey(peerIdFromString(text).toMultihash().bytes)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `"${text.slice(0, 128)}" is neither a DID (did:key:z6Mk…) nor a PeerId: ${errorMessage(err)}`, { cause: err })
  }
}

function friendDids (text: string, file: string): string[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `${file}:1: it starts with "[" but is no JSON: ${errorMessage(err)}`, { cause: err })
  }
  if (!Array.isArray(value)) return []
  return value.map((item: unknown) => {
    if (typeof item === 'object' && item !== null && 'did' in item && typeof item.did === 'string') return item
    throw new CarrierError('ERR_CONFIG', `${file}:1: it is no list of friends as "carrier friend list --json" prints it`)
  }).filter((item) => !('state' in item) || item.state === 'friend').map((item) => String(item.did))
}
