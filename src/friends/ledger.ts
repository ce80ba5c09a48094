/** Changes of the friend list: state table, rows, outbox and audit entries of one change in one transaction (I7). */
import type { Clock, Database } from '../base/index.ts'
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuditQueue, FriendAuditEntry } from './audit-queue.ts'
import type { Directory } from './directory.ts'
import { shortName } from './labels.ts'
import { decide } from './relation.ts'
import type { Notice, Relation, RelationEvent, RelationFact } from './relation.ts'
import type { FriendStore } from './store.ts'

/** What the ledger works with. */
export interface LedgerComponents {
  database: Database
  store: FriendStore
  directory: Directory
  auditQueue: AuditQueue
  clock: Clock
}

/** What a change brings along besides its event. */
export interface ChangeDetails {
  /** Already in stored form. */
  label?: string
  hello?: string
  nospam?: Uint8Array
  /** Devices of an owner that is not in the list yet; default: the owner itself. */
  devices?: Did[]
}

/** A committed change. */
export interface Change {
  owner: Did
  /** Devices that the owner had before or has now. */
  devices: Did[]
  facts: readonly RelationFact[]
  answer: boolean
  /** True when the outbox got a new entry. */
  hasNotice: boolean
  /** Set when the owner has another label now. */
  previousLabel: string | undefined
}

/** The audit entry of each fact. */
const AUDIT_ENTRIES: Readonly<Record<RelationFact, FriendAuditEntry>> = {
  'we-asked': { event: 'friend.request', direction: 'out' },
  'they-asked': { event: 'friend.request', direction: 'in' },
  'we-accepted': { event: 'friend.accept', direction: 'out', decision: 'allow' },
  'they-accepted': { event: 'friend.accept', direction: 'in', decision: 'allow' },
  'we-rejected': { event: 'friend.reject', direction: 'out', decision: 'deny' },
  'they-rejected': { event: 'friend.reject', direction: 'in', decision: 'deny' },
  'we-removed': { event: 'friend.remove', direction: 'out' },
  'they-removed': { event: 'friend.remove', direction: 'in' },
  'we-withdrew': { event: 'friend.remove', direction: 'out', why: 'request withdrawn' },
  'we-blocked': { event: 'friend.block', direction: 'out', decision: 'deny' },
  'we-unblocked': { event: 'friend.block', direction: 'out', decision: 'allow' }
}

/** Facts that widen what others may do: they wait while the audit log takes no entries. Ending a relation never waits. */
const WIDENING: ReadonlySet<RelationFact> = new Set(['we-asked', 'they-asked', 'we-accepted', 'they-accepted'])

/** Applies events to relations. */
export interface Ledger {
  /**
   * Makes one change durable, or throws and changes nothing.
   *
   * @throws CarrierError what the state table says, ERR_LIMIT, ERR_ALREADY_EXISTS (label), ERR_AUDIT
   */
  change: (owner: Did, event: RelationEvent, details?: ChangeDetails) => Change
}

/** Creates the ledger over the tables. */
export function createLedger (components: LedgerComponents): Ledger {
  const { database, store, directory, auditQueue, clock } = components

  function writeFriend (owner: Did, next: Relation & { kind: 'asked' | 'friend' }, details: ChangeDetails): void {
    const known = store.friend(owner)
    if (known === undefined && directory.size >= LIMITS.friendCount) {
      throw new CarrierError('ERR_LIMIT', `the friend list is full (${LIMITS.friendCount}); remove somebody with "carrier friend remove WHO" first`)
    }
    if (details.label !== undefined && store.isLabelTaken(details.label, owner)) throw labelTaken(details.label)
    store.putFriend({
      owner,
      devices: known?.devices ?? details.devices ?? [owner],
      label: details.label ?? known?.label ?? shortName(owner, (name) => store.isLabelTaken(name, owner)),
      state: next.kind === 'friend' ? 'friend' : 'requested',
      ids: [...next.ids],
      addedAt: known?.addedAt ?? clock.now(),
      lastSeenAt: known?.lastSeenAt
    })
    store.removeRequest(owner)
  }

  function writeRequest (owner: Did, next: Relation & { kind: 'asking' }, details: ChangeDetails): void {
    const known = store.request(owner)
    const nowMs = clock.now()
    const becameIgnored = next.isIgnored && known?.state !== 'ignored'
    store.putRequest({
      did: owner,
      id: next.id,
      hello: details.hello ?? known?.hello ?? '',
      state: next.isIgnored ? 'ignored' : 'pending',
      receivedAt: known?.receivedAt ?? nowMs,
      expiresAt: becameIgnored ? nowMs + LIMITS.ignoreTtlMs : known?.expiresAt ?? nowMs + LIMITS.requestTtlMs
    })
    for (const surplus of store.surplusRequests(next.isIgnored ? 'ignored' : 'pending')) store.removeRequest(surplus)
  }

  function writeRelation (owner: Did, next: Relation, details: ChangeDetails): void {
    switch (next.kind) {
      case 'asked':
      case 'friend':
        writeFriend(owner, next, details)
        return
      case 'asking':
        writeRequest(owner, next, details)
        return
      case 'blocked':
        if (!store.isBlocked(owner) && store.blocked().length >= LIMITS.blockedCount) throw new CarrierError('ERR_LIMIT', `the block list is full (${LIMITS.blockedCount}); unblock somebody first`)
        store.putBlocked(owner, clock.now())
        break
      case 'stranger':
      case 'removed':
        store.removeBlocked(owner)
        break
    }
    store.removeFriend(owner)
    store.removeRequest(owner)
  }

  function writeOutbox (owner: Did, outbox: 'keep' | 'clear' | Notice, devices: Did[], details: ChangeDetails): void {
    if (outbox === 'keep') return
    if (outbox === 'clear') {
      store.removeOutbox(owner)
      return
    }
    const isRequest = outbox.kind === 'request'
    store.putOutbox({
      owner,
      devices,
      notice: outbox,
      nospam: isRequest ? details.nospam : undefined,
      hello: isRequest ? details.hello : undefined
    }, clock.now())
    store.pruneNotices(clock.now())
  }

  function commit (owner: Did, event: RelationEvent, details: ChangeDetails): Change {
    const relation = store.relation(owner)
    const decision = decide(relation, event)
    if (!decision.isAllowed) throw new CarrierError(decision.code, `${nameOf(owner)} ${decision.why}${HINTS[decision.code] ?? ''}`)
    const devices = store.friend(owner)?.devices ?? store.outbox(owner)?.devices ?? details.devices ?? [owner]
    for (const fact of decision.facts) {
      if (WIDENING.has(fact)) auditQueue.assertRoom()
      auditQueue.add(owner, AUDIT_ENTRIES[fact])
    }
    if (decision.next !== relation) writeRelation(owner, decision.next, details)
    writeOutbox(owner, decision.outbox, devices, details)
    const previousLabel = directory.get(owner)?.label
    const label = store.friend(owner)?.label
    const isRenamed = previousLabel !== undefined && label !== undefined && label !== previousLabel
    return {
      owner,
      devices,
      facts: decision.facts,
      answer: decision.answer,
      hasNotice: typeof decision.outbox === 'object',
      previousLabel: isRenamed ? previousLabel : undefined
    }
  }

  function nameOf (owner: Did): string {
    const label = directory.get(owner)?.label
    return label === undefined ? owner : `${label} (${owner})`
  }

  return {
    change: (owner, event, details = {}) => {
      const change = database.transaction(() => commit(owner, event, details))
      directory.reload(owner)
      return change
    }
  }
}

/** What to do about a refused command. */
const HINTS: Readonly<Record<string, string>> = {
  ERR_UNKNOWN_REQUEST: '; see who asked with "carrier friend requests"',
  ERR_UNKNOWN_FRIEND: '; see the friends with "carrier friend list"'
}

/** The error for a label that names somebody else. */
export function labelTaken (label: string): CarrierError {
  return new CarrierError('ERR_ALREADY_EXISTS', `the label "${label}" names another friend; choose another one, or rename that friend with "carrier friend label ${label} NAME"`)
}
