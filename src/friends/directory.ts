/** Who is who, in memory: always equal to the tables, so that admission costs a look-up and no query. */
import { CarrierError } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { isDid, parseDid } from '../identity/index.ts'
import type { PeerLevel } from '../node/index.ts'
import { matchDids, shortName } from './labels.ts'
import { friendOf } from './store.ts'
import type { FriendStore } from './store.ts'
import type { Friend, FriendRequest } from './types.ts'

/** The friend list as others look at it. */
export interface Directory {
  /** Reads the rows of one owner again; call after every committed change. */
  reload: (owner: Did) => void
  list: () => Friend[]
  readonly size: number
  get: (owner: Did) => Friend | undefined
  ownerOf: (device: Did) => Did
  levelOf: (device: Did) => PeerLevel
  isLabelTaken: (label: string, owner: Did) => boolean
  noteSeen: (owner: Did, atMs: number) => void
  blocked: () => Did[]
  requests: () => FriendRequest[]
  /** @throws CarrierError ERR_UNKNOWN_FRIEND, ERR_INVALID_DID */
  resolveFriend: (who: string) => Friend
  /** @throws CarrierError ERR_UNKNOWN_REQUEST, ERR_INVALID_DID */
  resolveRequest: (who: string) => Did
  /** Friend, request, or any DID. @throws CarrierError ERR_UNKNOWN_FRIEND, ERR_INVALID_DID */
  resolveAnybody: (who: string) => Did
  /** @throws CarrierError ERR_NOT_FOUND, ERR_INVALID_DID */
  resolveBlocked: (who: string) => Did
}

/** Longest part of somebody's input that a message repeats. */
const SHOWN_CHARACTERS = 80

/** Loads the directory from the tables. */
export function createDirectory (store: FriendStore): Directory {
  const friends = new Map<Did, Friend>()
  const labels = new Map<string, Did>()
  const owners = new Map<Did, Did>()
  const aliases = new Map<Did, Did>()
  const blocked = new Set<Did>()

  function forget (owner: Did): void {
    const known = friends.get(owner)
    if (known === undefined) return
    friends.delete(owner)
    labels.delete(known.label)
    for (const device of known.devices) owners.delete(device)
    for (const [old, current] of aliases) {
      if (current === owner) aliases.delete(old)
    }
  }

  function remember (friend: Friend): void {
    friends.set(friend.owner, friend)
    labels.set(friend.label, friend.owner)
    for (const device of friend.devices) owners.set(device, friend.owner)
  }

  for (const row of store.friends()) remember(friendOf(row))
  for (const { old, owner } of store.aliases()) aliases.set(old, owner)
  for (const did of store.blocked()) blocked.add(did)

  function copy (friend: Friend): Friend {
    return { ...friend, devices: [...friend.devices] }
  }

  function ownerOf (device: Did): Did {
    return owners.get(device) ?? aliases.get(device) ?? device
  }

  function requestDids (): Did[] {
    return store.requests().map((row) => row.did)
  }

  /** The DIDs of friends that `who` means without being a label. */
  function friendMatches (who: string): Did[] {
    const named = isDid(who) ? ownerOf(who) : undefined
    return named !== undefined && friends.has(named) ? [named] : matchDids(who, [...friends.keys()])
  }

  /** A DID with a typing mistake is called so, instead of unknown. A mere beginning of one is no mistake. */
  function assertDidForm (who: string): void {
    if (who.startsWith('did:') && who.length > 50) parseDid(who)
  }

  function only (who: string, found: readonly Did[], code: 'ERR_UNKNOWN_FRIEND' | 'ERR_UNKNOWN_REQUEST' | 'ERR_NOT_FOUND', notFound: string): Did {
    const [first, ...others] = found
    if (first === undefined) {
      assertDidForm(who)
      throw new CarrierError(code, notFound)
    }
    if (others.length > 0) throw new CarrierError(code, `"${shown(who)}" means ${found.length} DIDs; use the whole one: ${found.slice(0, 5).join(', ')}`)
    return first
  }

  function findFriend (who: string): Did[] {
    const byLabel = labels.get(who.toLowerCase())
    return byLabel === undefined ? friendMatches(who) : [byLabel]
  }

  function unknownFriend (who: string): string {
    const count = friends.size
    const known = count === 0
      ? 'the friend list is empty; add one with "carrier friend add ADDRESS"'
      : `there ${count === 1 ? 'is 1 friend' : `are ${count} friends`}; see their labels with "carrier friend list", or add one with "carrier friend add ADDRESS"`
    const address = /^cr1/i.test(who) ? ' (this looks like an address; a friend is named by its label or DID)' : ''
    return `no friend is called "${shown(who)}"${address}: ${known}`
  }

  return {
    reload: (owner) => {
      const seenAtMs = friends.get(owner)?.lastSeenAt
      forget(owner)
      const row = store.friend(owner)
      if (row !== undefined) {
        // memory knows it better: the row is written once a minute only
        remember({ ...friendOf(row), lastSeenAt: seenAtMs ?? row.lastSeenAt })
        for (const alias of store.aliases()) {
          if (alias.owner === owner) aliases.set(alias.old, owner)
        }
      }
      if (store.isBlocked(owner)) blocked.add(owner)
      else blocked.delete(owner)
    },
    list: () => [...friends.values()].sort((a, b) => a.label < b.label ? -1 : 1).map(copy),
    get size () { return friends.size },
    get: (owner) => {
      const friend = friends.get(ownerOf(owner))
      return friend === undefined ? undefined : copy(friend)
    },
    ownerOf,
    levelOf: (device) => {
      const owner = ownerOf(device)
      if (blocked.has(device) || blocked.has(owner)) return 'blocked'
      const state = friends.get(owner)?.state
      // those whom we asked must be heard; those who asked us stay strangers until we agree
      return state === 'friend' ? 'friend' : state === 'requested' ? 'pending' : 'stranger'
    },
    isLabelTaken: (label, owner) => (labels.get(label) ?? owner) !== owner,
    noteSeen: (owner, atMs) => {
      const friend = friends.get(owner)
      if (friend !== undefined) friend.lastSeenAt = atMs
    },
    blocked: () => [...blocked],
    requests: () => {
      const rows = store.requests()
      return rows.map(({ did, hello, receivedAt, expiresAt, state }) => ({
        did,
        hello,
        receivedAt,
        expiresAt,
        state,
        name: shortName(did, (name) => labels.has(name) || matchDids(name, [...rows.map((other) => other.did), ...friends.keys()]).length > 1)
      }))
    },
    resolveFriend: (who) => {
      const owner = only(who, findFriend(who), 'ERR_UNKNOWN_FRIEND', unknownFriend(who))
      return copy(friends.get(owner) as Friend)
    },
    resolveRequest: (who) => only(who, matchDids(who, requestDids()), 'ERR_UNKNOWN_REQUEST',
      `no request from "${shown(who)}" is open; see who asked with "carrier friend requests"`),
    resolveAnybody: (who) => {
      const found = findFriend(who)
      const candidates = found.length > 0 ? found : matchDids(who, requestDids())
      if (candidates.length === 0 && isDid(who)) return who
      return only(who, candidates, 'ERR_UNKNOWN_FRIEND', `${unknownFriend(who)}; somebody else is named by the whole DID`)
    },
    resolveBlocked: (who) => only(who, matchDids(who, [...blocked]), 'ERR_NOT_FOUND', `"${shown(who)}" is not blocked, so there is nothing to lift`)
  }
}

function shown (who: string): string {
  // repeats only what a terminal shows as it is
  return who.slice(0, SHOWN_CHARACTERS).replaceAll(/[^\x20-\x7e]/g, '?')
}
