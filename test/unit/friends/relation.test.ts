/** Every cell of the state table. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { LIMITS } from '../../../src/base/index.ts'
import { decide } from '../../../src/friends/relation.ts'
import type { Notice, Relation, RelationEvent } from '../../../src/friends/relation.ts'

const A = 'aa'
const B = 'bb'
const NEW = 'ff'

const STATES = {
  stranger: { kind: 'stranger' },
  askedUnsent: { kind: 'asked', ids: [A], hasLeft: false },
  asked: { kind: 'asked', ids: [A, B], hasLeft: true },
  asking: { kind: 'asking', id: A, isIgnored: false },
  ignored: { kind: 'asking', id: A, isIgnored: true },
  friend: { kind: 'friend', ids: [A] },
  removed: { kind: 'removed', ids: [A] },
  blocked: { kind: 'blocked' }
} as const satisfies Record<string, Relation>

type StateName = keyof typeof STATES

const us = (kind: 'accept' | 'reject' | 'ignore' | 'remove' | 'block' | 'unblock'): RelationEvent => ({ from: 'us', kind })
const EVENTS = {
  add: { from: 'us', kind: 'add', freshId: NEW },
  accept: us('accept'),
  reject: us('reject'),
  ignore: us('ignore'),
  remove: us('remove'),
  block: us('block'),
  unblock: us('unblock'),
  theirRequest: { from: 'them', kind: 'request', id: NEW, isAdmitted: true },
  theirRequestAgain: { from: 'them', kind: 'request', id: A, isAdmitted: true },
  theirBadRequest: { from: 'them', kind: 'request', id: NEW, isAdmitted: false },
  theirAccept: { from: 'them', kind: 'accept', id: A },
  theirStaleAccept: { from: 'them', kind: 'accept', id: NEW },
  theirReject: { from: 'them', kind: 'reject', id: B },
  theirRejectOfA: { from: 'them', kind: 'reject', id: A },
  theirRemove: { from: 'them', kind: 'remove', ids: [A] },
  theirStaleRemove: { from: 'them', kind: 'remove', ids: [NEW] },
  theirPlainRemove: { from: 'them', kind: 'remove', ids: [] },
  expired: { from: 'clock', kind: 'expired' },
  toldRequest: { from: 'outbox', kind: 'answered', notice: { kind: 'request', id: A }, isOk: true },
  toldAccept: { from: 'outbox', kind: 'answered', notice: { kind: 'accept', id: A }, isOk: true },
  toldRemove: { from: 'outbox', kind: 'answered', notice: { kind: 'remove', ids: [A] }, isOk: true },
  refusedAccept: { from: 'outbox', kind: 'answered', notice: { kind: 'accept', id: A }, isOk: false },
  refusedRemove: { from: 'outbox', kind: 'answered', notice: { kind: 'remove', ids: [A] }, isOk: false },
  refusedPlainRemove: { from: 'outbox', kind: 'answered', notice: { kind: 'remove', ids: [] }, isOk: false }
} as const satisfies Record<string, RelationEvent>

type EventName = keyof typeof EVENTS

/**
 * Cells that change something or refuse, as `next | outbox | facts | answer`; parts that are `=`, keep, none and true are left out.
 * Everything that is not listed leaves the state and the outbox as they are and answers true.
 */
const CELLS: { readonly [State in StateName]: { readonly [Event in EventName]?: string } } = {
  stranger: {
    add: 'asked ff unsent | request ff | we-asked',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    remove: 'ERR_UNKNOWN_FRIEND',
    unblock: 'ERR_NOT_FOUND',
    block: 'blocked | clear | we-blocked',
    theirRequest: 'asking ff | keep | they-asked',
    theirRequestAgain: 'asking aa | keep | they-asked',
    theirAccept: '= | keep | | false',
    theirStaleAccept: '= | keep | | false',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  },
  askedUnsent: {
    add: 'asked aa unsent | request aa | we-asked',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    unblock: 'ERR_NOT_FOUND',
    remove: 'stranger | clear | we-withdrew',
    block: 'blocked | clear | we-withdrew we-blocked',
    theirRequest: 'friend aa,ff | accept ff | they-accepted',
    theirRequestAgain: 'friend aa | accept aa | they-accepted',
    theirBadRequest: 'friend aa,ff | accept ff | they-accepted',
    theirAccept: 'friend aa | clear | they-accepted',
    theirStaleAccept: '= | keep | | false',
    theirRejectOfA: 'stranger | clear | they-rejected',
    theirRemove: 'stranger | clear | they-rejected',
    theirPlainRemove: 'stranger | clear | they-rejected',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  },
  asked: {
    add: 'asked aa,bb,ff unsent | request ff | we-asked',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    unblock: 'ERR_NOT_FOUND',
    remove: 'removed aa,bb | remove aa,bb | we-withdrew',
    block: 'blocked | clear | we-withdrew we-blocked',
    theirRequest: 'friend aa,bb,ff | accept ff | they-accepted',
    theirRequestAgain: 'friend bb,aa | accept aa | they-accepted',
    theirBadRequest: 'friend aa,bb,ff | accept ff | they-accepted',
    theirAccept: 'friend aa,bb | clear | they-accepted',
    theirStaleAccept: '= | keep | | false',
    // a rejection of an older request does not end a newer one
    theirReject: 'stranger | clear | they-rejected',
    // the request that they do not name is taken back
    theirRemove: 'removed bb | remove bb | they-rejected',
    theirPlainRemove: 'stranger | clear | they-rejected',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  },
  asking: {
    add: 'friend aa | accept aa | we-accepted',
    accept: 'friend aa | accept aa | we-accepted',
    reject: 'removed aa | reject aa | we-rejected',
    ignore: 'ignored aa',
    remove: 'ERR_UNKNOWN_FRIEND',
    unblock: 'ERR_NOT_FOUND',
    block: 'blocked | clear | we-blocked',
    theirRequest: 'asking ff',
    theirAccept: '= | keep | | false',
    theirStaleAccept: '= | keep | | false',
    theirRemove: 'stranger | clear',
    theirPlainRemove: 'stranger | clear',
    expired: 'stranger',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  },
  ignored: {
    add: 'friend aa | accept aa | we-accepted',
    accept: 'friend aa | accept aa | we-accepted',
    reject: 'removed aa | reject aa | we-rejected',
    ignore: 'ignored aa',
    remove: 'ERR_UNKNOWN_FRIEND',
    unblock: 'ERR_NOT_FOUND',
    block: 'blocked | clear | we-blocked',
    theirAccept: '= | keep | | false',
    theirStaleAccept: '= | keep | | false',
    theirRemove: 'stranger | clear',
    theirPlainRemove: 'stranger | clear',
    expired: 'stranger',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  },
  friend: {
    add: 'ERR_ALREADY_EXISTS',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    unblock: 'ERR_NOT_FOUND',
    remove: 'removed aa | remove aa | we-removed',
    block: 'blocked | clear | we-removed we-blocked',
    theirRequest: 'friend aa,ff | accept ff',
    theirRequestAgain: 'friend aa | accept aa',
    theirBadRequest: 'friend aa,ff | accept ff',
    theirRemove: 'stranger | clear | they-removed',
    theirPlainRemove: 'stranger | clear | they-removed',
    theirStaleRemove: '= | keep | | false',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear',
    refusedAccept: 'stranger | clear | they-removed'
  },
  removed: {
    // the removal is not told any more, but a second one has to name both
    add: 'asked aa,ff unsent | request ff | we-asked',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    remove: 'ERR_UNKNOWN_FRIEND',
    unblock: 'ERR_NOT_FOUND',
    block: 'blocked | clear | we-blocked',
    theirRequest: 'asking ff | keep | they-asked',
    theirAccept: '= | keep | | false',
    theirStaleAccept: '= | keep | | false',
    theirRemove: 'stranger | clear',
    theirPlainRemove: 'stranger | clear',
    toldRequest: 'stranger | clear',
    toldAccept: 'stranger | clear',
    toldRemove: 'stranger | clear',
    refusedAccept: 'stranger | clear',
    refusedPlainRemove: 'stranger | clear',
    // the other side holds a friendship with ids that we do not know: say it without ids
    refusedRemove: 'removed  | remove '
  },
  blocked: {
    add: 'ERR_ALREADY_EXISTS',
    accept: 'ERR_UNKNOWN_REQUEST',
    reject: 'ERR_UNKNOWN_REQUEST',
    ignore: 'ERR_UNKNOWN_REQUEST',
    remove: 'ERR_UNKNOWN_FRIEND',
    unblock: 'stranger | keep | we-unblocked',
    theirAccept: '= | keep | | false',
    theirStaleAccept: '= | keep | | false',
    toldRequest: '= | clear',
    toldAccept: '= | clear',
    toldRemove: '= | clear',
    refusedAccept: '= | clear',
    refusedRemove: '= | clear',
    refusedPlainRemove: '= | clear'
  }
}

for (const state of Object.keys(STATES) as StateName[]) {
  test(`state table: ${state}`, () => {
    for (const event of Object.keys(EVENTS) as EventName[]) {
      assert.equal(describe(STATES[state], decide(STATES[state], EVENTS[event])), normalise(CELLS[state][event] ?? '='), `${state} × ${event}`)
    }
  })
}

test('the reasons of refusals say what the other is to us', () => {
  const why = (relation: Relation, event: RelationEvent): string => {
    const decision = decide(relation, event)
    return decision.isAllowed ? '' : decision.why
  }
  assert.match(why(STATES.friend, EVENTS.accept), /your friend already/)
  assert.match(why(STATES.asked, EVENTS.accept), /you asked/)
  assert.match(why(STATES.stranger, EVENTS.accept), /no open request/)
})

test('a request that crossed the end of a relation is taken back, so that it does not wait for an answer without effect', () => {
  const friend: Relation = { kind: 'friend', ids: [A, B] }
  assert.equal(describe(friend, decide(friend, { from: 'them', kind: 'remove', ids: [B] })), 'removed aa | remove aa | they-removed | true')
  assert.equal(describe(friend, decide(friend, { from: 'outbox', kind: 'answered', notice: { kind: 'accept', id: B }, isOk: false })), 'removed aa | remove aa | they-removed | true')
  assert.equal(describe(friend, decide(friend, { from: 'them', kind: 'remove', ids: [] })), 'stranger | clear | they-removed | true')
})

test('what was removed without ids and asked again is not withdrawn in silence', () => {
  const asked = decide({ kind: 'removed', ids: [] }, EVENTS.add)
  assert.ok(asked.isAllowed)
  const withdrawn = decide(asked.next, EVENTS.remove)
  assert.ok(withdrawn.isAllowed && withdrawn.next.kind === 'removed' && withdrawn.next.ids.includes(NEW))
})

test('I8: the ids of a relation stay bounded, the newest are kept', () => {
  let relation: Relation = { kind: 'friend', ids: [A] }
  for (let count = 0; count < 3 * LIMITS.requestIdCount; count++) {
    const decision = decide(relation, { from: 'them', kind: 'request', id: `id${count}`, isAdmitted: false })
    assert.ok(decision.isAllowed)
    relation = decision.next
  }
  assert.ok(relation.kind === 'friend')
  assert.equal(relation.ids.length, LIMITS.requestIdCount)
  assert.equal(relation.ids.at(-1), `id${3 * LIMITS.requestIdCount - 1}`)
})

test('no message of theirs makes a friend of somebody whom we neither asked nor accepted', () => {
  const id = fc.constantFrom(A, B, NEW)
  const message: fc.Arbitrary<RelationEvent> = fc.oneof(
    fc.record({ from: fc.constant('them' as const), kind: fc.constant('request' as const), id, isAdmitted: fc.boolean() }),
    fc.record({ from: fc.constant('them' as const), kind: fc.constantFrom('accept' as const, 'reject' as const), id }),
    fc.record({ from: fc.constant('them' as const), kind: fc.constant('remove' as const), ids: fc.array(id) }))
  fc.assert(fc.property(fc.constantFrom(STATES.stranger, STATES.asking, STATES.ignored, STATES.removed, STATES.blocked), fc.array(message), (start, messages) => {
    let relation: Relation = start
    for (const event of messages) {
      const decision = decide(relation, event)
      assert.ok(decision.isAllowed)
      relation = decision.next
      assert.ok(relation.kind !== 'friend' && relation.kind !== 'asked')
      if (start.kind === 'blocked') assert.equal(relation.kind, 'blocked')
    }
  }))
})

function describe (before: Relation, decision: ReturnType<typeof decide>): string {
  if (!decision.isAllowed) return decision.code
  const next = decision.next === before ? '=' : describeRelation(decision.next)
  const outbox = typeof decision.outbox === 'string' ? decision.outbox : describeNotice(decision.outbox)
  return normalise(`${next} | ${outbox} | ${decision.facts.join(' ')} | ${decision.answer}`)
}

function describeRelation (relation: Relation): string {
  switch (relation.kind) {
    case 'asked': return `asked ${relation.ids.join(',')}${relation.hasLeft ? '' : ' unsent'}`
    case 'asking': return `${relation.isIgnored ? 'ignored' : 'asking'} ${relation.id}`
    case 'friend':
    case 'removed':
      return `${relation.kind} ${relation.ids.join(',')}`
    default: return relation.kind
  }
}

function describeNotice (notice: Notice): string {
  return `${notice.kind} ${notice.kind === 'remove' ? notice.ids.join(',') : notice.id}`
}

function normalise (cell: string): string {
  if (cell.startsWith('ERR_')) return cell
  const [next = '', outbox = '', facts = '', answer = ''] = cell.split('|').map((part) => part.trim())
  return `${next} | ${outbox === '' ? 'keep' : outbox} | ${facts} | ${answer === '' ? 'true' : answer}`
}
