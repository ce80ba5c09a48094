/** The door types of friends/. */
import type { Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { PeerLevel } from '../node/index.ts'

/** A friend, or one whom we asked. `owner` is the id; devices are what one connects to. */
export interface Friend {
  owner: Did
  devices: Did[]
  /** Our private name for it: a DNS label, unique; `friend-` + 6 characters of the DID until one is given. */
  label: string
  /** `requested`: we asked and have no answer yet; `friend`: both agreed. */
  state: 'requested' | 'friend'
  /** Epoch ms. */
  addedAt: number
  /** Epoch ms of the last live session; undefined when never. */
  lastSeenAt: number | undefined
}

/** A request that waits for our answer. */
export interface FriendRequest {
  did: Did
  /** `friend-` + 6 or more characters of the DID: short for it in commands. */
  name: string
  hello: string
  receivedAt: number
  expiresAt: number
  state: 'pending' | 'ignored'
}

/** Events of the friend list. */
export interface FriendEvents {
  'friend:requested': { did: Did, hello: string }
  /** They accepted our request, or we theirs. */
  'friend:added': { did: Did, label: string }
  /** They declined our request. */
  'friend:rejected': { did: Did }
  /** Removed by us or by them; services, grants and forwards of theirs end. */
  'friend:removed': { did: Did, by: 'us' | 'them' }
  'friend:blocked': { did: Did }
  'friend:labelled': { did: Did, label: string }
}

/** The friend list: durable, crash-safe. WHO is a label or a DID. */
export interface Friends extends Startable {
  on: <Name extends keyof FriendEvents & string>(name: Name, listener: (payload: FriendEvents[Name]) => void) => () => void
  /**
   * Stores a request to the owner of `address` and returns its DID at once; delivery follows when it is reachable.
   * Repeating it re-sends with the new hello or nospam.
   *
   * @throws CarrierError ERR_INVALID_ADDRESS, ERR_UNSUPPORTED_ADDRESS, ERR_OWN_ADDRESS, ERR_WEAK_KEY, ERR_HELLO_TOO_LONG,
   *   ERR_LIMIT, ERR_ALREADY_EXISTS (already a friend)
   */
  add: (address: string, options?: { hello?: string, label?: string }) => Did
  list: () => Friend[]
  requests: () => FriendRequest[]
  /** @throws CarrierError ERR_UNKNOWN_REQUEST, ERR_LIMIT */
  accept: (who: string, options?: { label?: string }) => Friend
  /** The requester is told. */
  reject: (who: string) => Did
  /** The requester is not told; it may ask again after LIMITS.ignoreTtlMs. */
  ignore: (who: string) => Did
  /** Also withdraws a request of ours. The other side is told when reachable. @throws CarrierError ERR_UNKNOWN_FRIEND */
  remove: (who: string) => Promise<Did>
  /** Also for DIDs that are no friends. From then on they are strangers who cannot even connect. */
  block: (who: string) => Promise<Did>
  unblock: (who: string) => Did
  blocked: () => Did[]
  /** @throws CarrierError ERR_INVALID_ARGUMENT, ERR_ALREADY_EXISTS (label taken), ERR_UNKNOWN_FRIEND */
  label: (who: string, label: string) => Friend
  /** The friend (or requested one) of a label or DID. @throws CarrierError ERR_UNKNOWN_FRIEND with the known labels' count and what to do */
  resolve: (who: string) => Friend
  get: (owner: Did) => Friend | undefined
  /** The owner that a device belongs to: the friend's DID, or the device's own. */
  ownerOf: (device: Did) => Did
  /** How a device is known; used by node/ for admission. Pure look-up in memory or one indexed query. */
  levelOf: (device: Did) => PeerLevel
  /** Notes that a session with this owner is alive now. */
  markSeen: (owner: Did) => void
}
