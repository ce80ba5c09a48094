import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { openDatabase } from '../../../src/base/index.ts'
import type { Database } from '../../../src/base/index.ts'
import { FORWARDING_MIGRATIONS } from '../../../src/forwarding/index.ts'
import { createForwardingStore } from '../../../src/forwarding/store.ts'
import { FRIENDS_MIGRATIONS } from '../../../src/friends/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { randomDid } from '../../support/forwarding-pair.ts'

describe('the store of forwarding', () => {
  function open (): Database {
    return openDatabase({ path: ':memory:', name: 'state', migrations: [[...FRIENDS_MIGRATIONS, ...FORWARDING_MIGRATIONS].join('\n')] })
  }
  function befriend (database: Database, did: Did): void {
    database.run("INSERT INTO friend (owner_did, label, state, request_ids, added_at) VALUES (?, ?, 'friend', ?, 0)", did, did.slice(-10), new Uint8Array(0))
  }

  it('a friend who is removed takes grants and forwards along in the same transaction', () => {
    const database = open()
    const store = createForwardingStore(database)
    const [anna, ben] = [randomDid(), randomDid()]
    befriend(database, anna)
    befriend(database, ben)
    store.putService({ name: 'db', target: '5432', allow: [anna, ben] }, 1)
    store.putForward({ host: '127.0.0.1', port: 1, owner: anna, service: 'x' }, 1)
    store.putForward({ host: '127.0.0.1', port: 2, owner: ben, service: 'x' }, 1)
    assert.throws(() => {
      database.transaction(() => {
        database.run('DELETE FROM friend WHERE owner_did = ?', anna)
        assert.deepEqual(store.services()[0]?.allow, [ben])
        throw new Error('power cut')
      })
    })
    assert.equal(store.services()[0]?.allow.length, 2, 'and keeps them when the transaction fails')
    database.run('DELETE FROM friend WHERE owner_did = ?', anna)
    assert.deepEqual(store.services()[0]?.allow, [ben])
    assert.deepEqual(store.forwards().map((forward) => forward.port), [2])
    database.close()
  })

  it('a friend who gets a new DID keeps them', () => {
    const database = open()
    const store = createForwardingStore(database)
    const [before, after] = [randomDid(), randomDid()]
    befriend(database, before)
    store.putService({ name: 'db', target: '5432', allow: [before] }, 1)
    store.putForward({ host: '127.0.0.1', port: 1, owner: before, service: 'x' }, 1)
    database.run('UPDATE friend SET owner_did = ? WHERE owner_did = ?', after, before)
    assert.deepEqual(store.services()[0]?.allow, [after])
    assert.deepEqual(store.forwards()[0]?.owner, after)
    database.close()
  })

  it('a grant to somebody who is no friend cannot be stored', () => {
    const database = open()
    const store = createForwardingStore(database)
    assert.throws(() => { store.putService({ name: 'db', target: '5432', allow: [randomDid()] }, 1) })
    assert.deepEqual(store.services(), [], 'and the service is not stored half-way')
    database.close()
  })

  it('a service that goes takes its grants along', () => {
    const database = open()
    const store = createForwardingStore(database)
    const anna = randomDid()
    befriend(database, anna)
    store.putService({ name: 'db', target: '5432', allow: [anna] }, 1)
    store.removeService('db')
    store.putService({ name: 'db', target: '5432', allow: [] }, 1)
    assert.deepEqual(store.services()[0]?.allow, [])
    database.close()
  })
})
