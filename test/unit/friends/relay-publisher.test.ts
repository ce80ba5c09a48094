import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createRelayPublisher } from '../../../src/friends/relay-publisher.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

test('a publication that is given up puts no further copy: its next key may be that of an address that was revoked', async () => {
  const identity = await makeIdentity()
  const clock = createFakeClock()
  const turn = new AbortController()
  const puts: string[] = []
  const publisher = createRelayPublisher({
    identity,
    addresses: { list: () => [{ label: '1', number: 1, address: '', createdAt: 0, revokedAt: undefined }] },
    dht: {
      put: async (key) => {
        puts.push(Buffer.from(key).toString('hex'))
        // revoked while the first copy was on its way, which the servers took all the same
        turn.abort(new Error('begun anew'))
        return 1
      }
    },
    ownSecret: () => new Uint8Array(32),
    clock,
    random: () => 0.5,
    log: silentLogger,
    publications: createMetrics().counter('carrier_test_total', 'test', ['result'])
  })
  const record = { bytes: new Uint8Array(40), seq: 1, expiresAtMs: clock.now() + LIMITS.relayRecordTtlMs, relays: [] }
  await assert.rejects(publisher.publish(record, turn.signal), /begun anew/)
  assert.equal(puts.length, 1)
  assert.equal(clock.pendingTimerCount(), 0)
})
