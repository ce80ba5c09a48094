import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pathReasons } from '../../../src/session/path-report.ts'
import type { PathFacts } from '../../../src/session/path-report.ts'

const FACTS: PathFacts = {
  link: 'splice',
  isController: true,
  isInUse: true,
  hasFeature: () => true,
  canDial: false,
  canPunch: true,
  canSplice: true,
  isOpening: () => false,
  lastFailure: {},
  nextTryMs: () => -5
}
const of = (change: Partial<PathFacts>): Record<string, string> => Object.fromEntries(pathReasons({ ...FACTS, ...change }).map(({ way, text, nextTryMs }) => [way, `${text}|${nextTryMs ?? ''}`]))

test('there is nothing to explain on a direct link, and a splice is no reason on a splice', () => {
  assert.deepEqual(of({ link: 'direct' }), {})
  assert.deepEqual(Object.keys(of({})), ['dial', 'punch'])
  assert.deepEqual(Object.keys(of({ link: 'stream' })), ['dial', 'punch', 'splice'])
})

test('each obstacle is named, the first that stands in the way', () => {
  assert.match(String(of({})['dial']), /neither side has an address/)
  assert.match(String(of({ hasFeature: () => false })['dial']), /release/)
  assert.match(String(of({ hasFeature: () => false })['punch']), /release/)
  assert.match(String(of({ canPunch: false })['punch']), /not from here/)
  assert.match(String(of({ isController: false })['punch']), /other side makes/)
  assert.match(String(of({ link: 'stream', canSplice: undefined })['splice']), /no relay carries/)
  assert.match(String(of({ link: 'stream', canSplice: false })['splice']), /offers no splices/)
})

test('what was tried says how it ended and when it is tried again', () => {
  const failed = { lastFailure: { punch: 'the router of this side gives every destination another port', splice: 'full' }, nextTryMs: (way: string) => way === 'punch' ? 31_000 : 4_000 }
  assert.equal(of(failed)['punch'], 'the router of this side gives every destination another port|31000')
  assert.equal(of({ ...failed, link: 'stream' })['splice'], 'full|4000')
  assert.equal(of({ ...failed, isInUse: false })['punch'], 'the router of this side gives every destination another port|')
  assert.equal(of({ isOpening: (way) => way === 'punch' })['punch'], 'it is being tried now|')
  assert.match(String(of({})['punch']), /not been tried yet/)
  assert.match(String(of({ isInUse: false })['punch']), /nobody uses/)
  assert.match(String(of({ canDial: true, lastFailure: { dial: 'refused' } })['dial']), /^refused\|0$/)
})
