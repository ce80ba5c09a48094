import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CarrierError } from '../../../src/base/index.ts'
import { openFriendSession } from '../../../src/forwarding/friend-session.ts'
import type { Friend } from '../../../src/friends/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { Session } from '../../../src/session/index.ts'
import { randomDid } from '../../support/forwarding-pair.ts'

describe('the session with a friend', () => {
  const [first, second] = [randomDid(), randomDid()]
  const friend = (...devices: Did[]): Friend => ({ owner: first, devices, label: 'office', state: 'friend', addedAt: 0, lastSeenAt: undefined })
  const session = {} as Session
  const signal = new AbortController().signal

  it('is the live one of any device', async () => {
    const sessions = { get: (device: Did) => device === second ? session : undefined, open: async () => assert.fail('needless') }
    assert.equal(await openFriendSession(sessions, friend(first, second), signal), session)
  })

  it('is the first that answers, and the others are given up', async () => {
    let isGivenUp = false
    const sessions = {
      get: () => undefined,
      open: async (device: Did, options?: { signal?: AbortSignal }) => {
        if (device === second) return session
        return new Promise<Session>((_resolve, reject) => {
          options?.signal?.addEventListener('abort', () => {
            isGivenUp = true
            reject(new Error('given up'))
          })
        })
      }
    }
    assert.equal(await openFriendSession(sessions, friend(first, second), signal), session)
    assert.equal(isGivenUp, true)
  })

  it('fails with the reason of the first device when none answers', async () => {
    const sessions = {
      get: () => undefined,
      open: async (device: Did) => { throw new CarrierError(device === first ? 'ERR_PEER_OFFLINE' : 'ERR_TIMEOUT', 'no') }
    }
    await assert.rejects(openFriendSession(sessions, friend(first, second), signal), { code: 'ERR_PEER_OFFLINE' })
    await assert.rejects(openFriendSession(sessions, friend(), signal), { code: 'ERR_PEER_OFFLINE', message: /no device of office/ })
  })
})
