import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, codeFromWire, ERRORS, errorCode, errorMessage, isErrorCode, toCarrierError, wireCode } from '../../../src/base/index.ts'
import type { ErrorCode, ErrorFacts } from '../../../src/base/index.ts'

const table = Object.entries(ERRORS) as Array<[ErrorCode, ErrorFacts]>

test('every code has an exit code, a status and a wire number that fit', () => {
  for (const [code, facts] of table) {
    assert.match(code, /^ERR_[A-Z_]+$/)
    assert.ok(facts.exit >= 1 && facts.exit <= 5, code)
    assert.ok(facts.http >= 400 && facts.http <= 599, code)
    assert.ok(Number.isInteger(facts.wire) && facts.wire >= 0 && facts.wire < 64, code)
  }
})

test('no two codes share a wire number, and each that is sent comes back as itself', () => {
  const sent = table.filter(([, facts]) => facts.wire !== 0)
  assert.equal(new Set(sent.map(([, facts]) => facts.wire)).size, sent.length)
  for (const [code] of sent) assert.equal(codeFromWire(wireCode(code)), code)
})

test('I3: a code that peers may not learn reaches them as an internal error', () => {
  for (const [code, facts] of table.filter(([, candidate]) => candidate.wire === 0)) {
    assert.equal(facts.wire, 0)
    assert.equal(wireCode(code), ERRORS.ERR_INTERNAL.wire, code)
  }
})

test('an unknown wire number is an internal error', () => {
  for (const wire of [0, 63, 64, 1e9, -1, 1.5]) assert.equal(codeFromWire(wire), 'ERR_INTERNAL')
})

test('the exit codes of the command line are those that scripts rely on', () => {
  assert.equal(ERRORS.ERR_NOT_AVAILABLE.exit, 3)
  assert.equal(ERRORS.ERR_PEER_OFFLINE.exit, 4)
  assert.equal(ERRORS.ERR_TIMEOUT.exit, 5)
  for (const code of ['ERR_INVALID_ARGUMENT', 'ERR_INVALID_ADDRESS', 'ERR_INVALID_DID', 'ERR_CONFIG', 'ERR_OWN_ADDRESS', 'ERR_HELLO_TOO_LONG'] as const) assert.equal(ERRORS[code].exit, 2, code)
})

test('the code of anything that was caught is ours or ERR_INTERNAL', () => {
  assert.equal(errorCode(new CarrierError('ERR_LIMIT', 'x')), 'ERR_LIMIT')
  assert.equal(errorCode({ code: 'ERR_LIMIT' }), 'ERR_LIMIT', 'also across copies of the package')
  for (const other of [new Error('x'), { code: 'ENOENT' }, { code: 'toString' }, { code: 7 }, 'ERR_LIMIT', undefined, null, 3]) assert.equal(errorCode(other), 'ERR_INTERNAL')
  assert.equal(isErrorCode('constructor'), false)
  assert.equal(isErrorCode('ERR_LIMIT'), true)
})

test('an error keeps its cause and its detail, and translating keeps ours as it is', () => {
  const cause = new Error('below')
  const ours = new CarrierError('ERR_LIMIT', 'above', { cause, detail: { limit: 3 } })
  assert.equal(ours.cause, cause)
  assert.deepEqual(ours.detail, { limit: 3 })
  assert.equal('cause' in new CarrierError('ERR_LIMIT', 'x'), false)
  assert.equal(toCarrierError(ours, 'ERR_TIMEOUT'), ours)
  const translated = toCarrierError(cause, 'ERR_TIMEOUT', 'said again')
  assert.deepEqual([translated.code, translated.message, translated.cause], ['ERR_TIMEOUT', 'said again', cause])
  assert.equal(toCarrierError('text').message, 'text')
  assert.equal(errorMessage(undefined), 'undefined')
})
