import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { judgeAccess, notAvailable } from '../../../src/forwarding/policy.ts'
import { randomDid } from '../../support/forwarding-pair.ts'

describe('policy', () => {
  const owner = randomDid()

  it('only who is in the allow-list may dial', () => {
    assert.deepEqual(judgeAccess({ owner, allow: new Set([owner]) }), { allow: true })
    assert.deepEqual(judgeAccess({ owner, allow: new Set([randomDid()]) }), { allow: false, code: 'ERR_NOT_AVAILABLE', why: 'not-granted' })
    assert.deepEqual(judgeAccess({ owner, allow: new Set() }), { allow: false, code: 'ERR_NOT_AVAILABLE', why: 'not-granted' })
    assert.deepEqual(judgeAccess({ owner, allow: undefined }), { allow: false, code: 'ERR_NOT_AVAILABLE', why: 'no-such-service' })
  })

  it('I3: the answer is one and the same', () => {
    assert.equal(notAvailable().message, notAvailable().message)
    assert.equal(notAvailable().code, 'ERR_NOT_AVAILABLE')
    assert.equal(notAvailable().detail, undefined)
  })
})
