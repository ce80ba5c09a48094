/**
 * The state table of one relation between us and another owner. Pure: no I/O, no clock, no randomness.
 *
 * Every request has an id of its own, and every later message names the ids that it is about. So a message that was
 * held up on a dying connection cannot act on a relation that was made anew in the meantime. PROTOCOL.md "Friends".
 */
import { LIMITS } from '../base/index.ts'
import type { ErrorCode } from '../base/index.ts'

/** Id of one request: 16 random bytes as hex. */
export type RequestId = string

/** What we are to another owner. */
export type Relation =
  /** Nothing is stored. */
  | { kind: 'stranger' }
  /** We asked. `ids`: our requests, newest last; `hasLeft`: the newest may have reached the other side. */
  | { kind: 'asked', ids: readonly RequestId[], hasLeft: boolean }
  /** They asked. */
  | { kind: 'asking', id: RequestId, isIgnored: boolean }
  /** Both agreed. `ids`: the requests that led here, newest last. */
  | { kind: 'friend', ids: readonly RequestId[] }
  /** Over for us, and the other side is still to be told. */
  | { kind: 'removed', ids: readonly RequestId[] }
  /** They cannot even connect. */
  | { kind: 'blocked' }

/** A message between two owners, without the address secret and the hello of a request. */
export type Notice =
  | { kind: 'request', id: RequestId }
  | { kind: 'accept', id: RequestId }
  | { kind: 'reject', id: RequestId }
  /** No ids: whatever relation there is. */
  | { kind: 'remove', ids: readonly RequestId[] }

/** What happens to a relation. */
export type RelationEvent =
  /** We ask; `freshId` was never used before. */
  | { from: 'us', kind: 'add', freshId: RequestId }
  | { from: 'us', kind: 'accept' | 'reject' | 'ignore' | 'remove' | 'block' | 'unblock' }
  /** They ask; `isAdmitted`: the nospam is right and no quota is used up. It counts only where they are strangers. */
  | { from: 'them', kind: 'request', id: RequestId, isAdmitted: boolean }
  | { from: 'them', kind: 'accept' | 'reject', id: RequestId }
  | { from: 'them', kind: 'remove', ids: readonly RequestId[] }
  /** The other side answered our notice; `isOk` is its answer. */
  | { from: 'outbox', kind: 'answered', notice: Notice, isOk: boolean }
  /** Their request waited too long. */
  | { from: 'clock', kind: 'expired' }

/** A fact for listeners and the audit log. */
export type RelationFact = 'we-asked' | 'they-asked' | 'we-accepted' | 'they-accepted' | 'we-rejected' | 'they-rejected' |
  'we-removed' | 'they-removed' | 'we-withdrew' | 'we-blocked' | 'we-unblocked'

/** What is to be done. */
export type Decision =
  | {
    isAllowed: true
    next: Relation
    /** What the outbox for this owner holds from now on. */
    outbox: 'keep' | 'clear' | Notice
    facts: readonly RelationFact[]
    /** For events from them: the answer on the wire. */
    answer: boolean
  }
  | { isAllowed: false, code: ErrorCode, why: string }

/** Stands for ids that only the other side knows. */
const UNKNOWN_ID: RequestId = '0'.repeat(32)

const STRANGER: Relation = { kind: 'stranger' }

/** The state table: what `event` makes of `relation`. */
export function decide (relation: Relation, event: RelationEvent): Decision {
  switch (event.from) {
    case 'us': return event.kind === 'add' ? decideAdd(relation, event.freshId) : decideCommand(relation, event.kind)
    case 'them': return decideMessage(relation, event)
    case 'outbox': return decideAnswer(relation, event.notice, event.isOk)
    case 'clock': return relation.kind === 'asking' ? become(STRANGER, 'keep') : stay(relation)
  }
}

function decideAdd (relation: Relation, freshId: RequestId): Decision {
  switch (relation.kind) {
    case 'stranger': return become({ kind: 'asked', ids: [freshId], hasLeft: false }, { kind: 'request', id: freshId }, 'we-asked')
    case 'removed':
      // the ids that nobody was told about stay: a second removal has to name them
      return become({ kind: 'asked', ids: withId(relation.ids.length > 0 ? relation.ids : [UNKNOWN_ID], freshId), hasLeft: false }, { kind: 'request', id: freshId }, 'we-asked')
    case 'asked': {
      // a request that never left is replaced under its id, so the list grows only with what the other side may hold
      const ids = relation.hasLeft ? withId(relation.ids, freshId) : relation.ids
      return become({ kind: 'asked', ids, hasLeft: false }, { kind: 'request', id: newest(ids) }, 'we-asked')
    }
    case 'asking':
      return become({ kind: 'friend', ids: [relation.id] }, { kind: 'accept', id: relation.id }, 'we-accepted')
    case 'friend': return refuse('ERR_ALREADY_EXISTS', 'is your friend already')
    case 'blocked': return refuse('ERR_ALREADY_EXISTS', 'is blocked; unblock it first, then add it')
  }
}

function decideCommand (relation: Relation, command: 'accept' | 'reject' | 'ignore' | 'remove' | 'block' | 'unblock'): Decision {
  switch (command) {
    case 'accept':
      if (relation.kind !== 'asking') return refuse('ERR_UNKNOWN_REQUEST', whyNoRequest(relation))
      return become({ kind: 'friend', ids: [relation.id] }, { kind: 'accept', id: relation.id }, 'we-accepted')
    case 'reject':
      if (relation.kind !== 'asking') return refuse('ERR_UNKNOWN_REQUEST', whyNoRequest(relation))
      return become({ kind: 'removed', ids: [relation.id] }, { kind: 'reject', id: relation.id }, 'we-rejected')
    case 'ignore':
      if (relation.kind !== 'asking') return refuse('ERR_UNKNOWN_REQUEST', whyNoRequest(relation))
      return become({ ...relation, isIgnored: true }, 'keep')
    case 'remove':
      if (relation.kind === 'friend') return become({ kind: 'removed', ids: relation.ids }, { kind: 'remove', ids: relation.ids }, 'we-removed')
      if (relation.kind !== 'asked') return refuse('ERR_UNKNOWN_FRIEND', 'is not in the friend list')
      // what never left needs no taking back
      if (!relation.hasLeft && relation.ids.length === 1) return become(STRANGER, 'clear', 'we-withdrew')
      return become({ kind: 'removed', ids: relation.ids }, { kind: 'remove', ids: relation.ids }, 'we-withdrew')
    case 'block':
      if (relation.kind === 'blocked') return stay(relation)
      if (relation.kind === 'friend') return become({ kind: 'blocked' }, 'clear', 'we-removed', 'we-blocked')
      if (relation.kind === 'asked') return become({ kind: 'blocked' }, 'clear', 'we-withdrew', 'we-blocked')
      return become({ kind: 'blocked' }, 'clear', 'we-blocked')
    case 'unblock':
      if (relation.kind !== 'blocked') return refuse('ERR_NOT_FOUND', 'is not blocked')
      return become(STRANGER, 'keep', 'we-unblocked')
  }
}

function decideMessage (relation: Relation, event: RelationEvent & { from: 'them' }): Decision {
  switch (event.kind) {
    case 'request': return decideRequest(relation, event.id, event.isAdmitted)
    case 'accept':
      if (relation.kind === 'asked' && relation.ids.includes(event.id)) return become({ kind: 'friend', ids: relation.ids }, 'clear', 'they-accepted')
      // false tells whoever accepted that there is nothing to accept any more; a friend's repetition is fine
      return stay(relation, relation.kind === 'friend')
    case 'reject':
      if (relation.kind === 'asked' && newest(relation.ids) === event.id) return become(STRANGER, 'clear', 'they-rejected')
      return stay(relation)
    case 'remove': return decideRemove(relation, event.ids)
  }
}

function decideRequest (relation: Relation, id: RequestId, isAdmitted: boolean): Decision {
  switch (relation.kind) {
    case 'stranger': return isAdmitted ? become({ kind: 'asking', id, isIgnored: false }, 'keep', 'they-asked') : stay(relation)
    case 'removed':
      // a repetition of what we just ended is no new request
      return isAdmitted && !relation.ids.includes(id) ? become({ kind: 'asking', id, isIgnored: false }, 'keep', 'they-asked') : stay(relation)
    case 'asking':
      return isAdmitted && !relation.isIgnored && relation.id !== id ? become({ ...relation, id }, 'keep') : stay(relation)
    // both asked: that is an agreement, and no secret needs to be shown to somebody who was asked
    case 'asked': return become({ kind: 'friend', ids: withId(relation.ids, id) }, { kind: 'accept', id }, 'they-accepted')
    // they lost our acceptance, or their state: say it again
    case 'friend': return become({ kind: 'friend', ids: withId(relation.ids, id) }, { kind: 'accept', id })
    case 'blocked': return stay(relation)
  }
}

function decideRemove (relation: Relation, ids: readonly RequestId[]): Decision {
  switch (relation.kind) {
    case 'friend':
      // false: "I hold another friendship with you"; a sender that means it repeats without ids
      return concerns(ids, relation.ids) ? end(relation.ids, ids, 'they-removed') : stay(relation, false)
    case 'asked': return concerns(ids, relation.ids) ? end(relation.ids, ids, 'they-rejected') : stay(relation)
    // they took their request back; an undelivered removal of an older friendship has lost its object too
    case 'asking': return concerns(ids, [relation.id]) ? become(STRANGER, 'clear') : stay(relation)
    case 'removed': return concerns(ids, relation.ids) ? become(STRANGER, 'clear') : stay(relation)
    case 'stranger':
    case 'blocked':
      return stay(relation)
  }
}

function decideAnswer (relation: Relation, notice: Notice, isOk: boolean): Decision {
  const next = relation.kind === 'removed' ? STRANGER : relation
  if (isOk) return become(next, 'clear')
  if (notice.kind === 'accept' && relation.kind === 'friend') return end(relation.ids, [notice.id], 'they-removed')
  if (notice.kind === 'remove' && notice.ids.length > 0 && relation.kind === 'removed') return become({ kind: 'removed', ids: [] }, { kind: 'remove', ids: [] })
  return become(next, 'clear')
}

/**
 * They ended it, naming some of our ids. A request of ours that crossed their message is not among them and may wait
 * at their side for an answer that can have no effect: it is taken back.
 */
function end (held: readonly RequestId[], named: readonly RequestId[], fact: RelationFact): Decision {
  const others = named.length === 0 ? [] : held.filter((id) => !named.includes(id))
  if (others.length === 0) return become(STRANGER, 'clear', fact)
  return become({ kind: 'removed', ids: others }, { kind: 'remove', ids: others }, fact)
}

function become (next: Relation, outbox: 'keep' | 'clear' | Notice, ...facts: RelationFact[]): Decision {
  return { isAllowed: true, next, outbox, facts, answer: true }
}

function stay (relation: Relation, answer = true): Decision {
  return { isAllowed: true, next: relation, outbox: 'keep', facts: [], answer }
}

function refuse (code: ErrorCode, why: string): Decision {
  return { isAllowed: false, code, why }
}

function concerns (named: readonly RequestId[], held: readonly RequestId[]): boolean {
  return named.length === 0 || named.some((id) => held.includes(id))
}

function withId (ids: readonly RequestId[], id: RequestId): readonly RequestId[] {
  return [...ids.filter((other) => other !== id), id].slice(-LIMITS.requestIdCount)
}

function newest (ids: readonly RequestId[]): RequestId {
  return ids.at(-1) ?? ''
}

function whyNoRequest (relation: Relation): string {
  switch (relation.kind) {
    case 'friend': return 'is your friend already'
    case 'asked': return 'did not ask; you asked, and the answer is still to come'
    default: return 'has no open request'
  }
}
