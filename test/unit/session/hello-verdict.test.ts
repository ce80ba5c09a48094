import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { createInstanceHistory, judgeHello } from '../../../src/session/hello-verdict.ts'
import { OWN_LIMITS } from '../../../src/session/hello.ts'
import type { Hello } from '../../../src/session/hello.ts'
import type { LinkKind } from '../../../src/session/types.ts'
import type { Did } from '../../../src/identity/index.ts'
import { pattern } from './support.ts'

describe('verdicts about hellos', () => {
  const instanceId = pattern(16)
  const sessionId = pattern(16, 5)
  const hello = { major: 1, features: [], limits: OWN_LIMITS, instanceId, sequence: 5 }
  const live = { sessionId, instanceId, sequence: 5, isLost: false, epoch: 3, canResume: true, kinds: new Set<LinkKind>(['stream']) }
  const known = { ...hello, sequence: 6, sessionId, epoch: 3 }
  const judge = (view: Partial<typeof live> | undefined, of: Hello, kind: LinkKind = 'stream'): string =>
    judgeHello({ isBusy: false, live: view === undefined ? undefined : { ...live, ...view } }, of, kind)

  it('one thing at a time; old hellos are redundant; a lost or restarted end gets a new session', () => {
    assert.equal(judgeHello({ isBusy: true, live: undefined }, hello, 'stream'), 'wait')
    assert.equal(judgeHello({ isBusy: true, live }, known, 'stream'), 'wait')
    assert.equal(judge(undefined, hello), 'create')
    assert.equal(judge({}, hello), 'redundant')
    assert.equal(judge({}, { ...hello, sequence: 6 }), 'create')
    assert.equal(judge({}, { ...hello, sequence: 6, sessionId: pattern(16, 6) }), 'create')
    assert.equal(judge({}, { ...hello, sequence: 1, instanceId: pattern(16, 7) }), 'create')
  })

  it('who knows the session gets one more link of another kind, or a resume when it is lost at either end', () => {
    assert.equal(judge({}, known), 'redundant')
    assert.equal(judge({}, known, 'splice'), 'attach')
    assert.equal(judge({ kinds: new Set<LinkKind>() }, known), 'attach')
    assert.equal(judge({ isLost: true }, known), 'resume')
    assert.equal(judge({}, { ...known, isLost: true }), 'resume')
    assert.equal(judge({}, { ...known, isLost: true, epoch: 2 }), 'redundant', 'what it lost was resumed since')
    assert.equal(judge({ canResume: false }, known, 'splice'), 'redundant')
    assert.equal(judge({ canResume: false }, { ...known, isLost: true }), 'redundant')
  })

  it('a process that was replaced and comes back is the older one; the memory is bounded', () => {
    const history = createInstanceHistory()
    const did = 'did:key:z6MkA' as Did
    assert.equal(history.note(did, pattern(16, 1)), 'newest')
    assert.equal(history.note(did, pattern(16, 1)), 'newest')
    assert.equal(history.note(did, pattern(16, 2)), 'newest')
    assert.equal(history.note(did, pattern(16, 1)), 'older')
    assert.equal(history.note(did, pattern(16, 2)), 'newest')
    for (let index = 3; index < 10; index++) history.note(did, pattern(16, index))
    assert.equal(history.note(did, pattern(16, 1)), 'newest', 'forgotten after several more')
  })
})
