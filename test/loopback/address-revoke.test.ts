/** What becomes of the copies of our relay record when an address is revoked. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { createCarrier } from '../../src/carrier.ts'
import { metricOf, startRecordRelay } from '../support/relay-record-devices.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'

const KEPT = 'carrier_friends_relay_publications_total{result="kept"}'

/** For what a busy machine may not manage in the time that a server gets, and then does at the next try. */
const SLOWLY = { deadlineMs: PATIENCE_MS, intervalMs: 200 }

test('when an address is revoked, a publication under way ends and what is left is put at once', async (t) => {
  const relay = await startRecordRelay()
  t.after(async () => { await relay.stop() })
  const carrier = await createCarrier({ dataDirectory: makeTempDirectory('revoke'), relays: [relay.address] })
  t.after(async () => { await carrier.stop() })
  await carrier.start()
  const kept = async (): Promise<number> => metricOf(carrier.metrics, KEPT)
  await waitFor('a copy for friends and one for the address', async () => await kept() >= 2, SLOWLY)
  const before = await kept()
  assert.notEqual(carrier.addresses.revoke('1').revokedAt, undefined)
  await waitFor('the copy for friends', async () => await kept() > before, SLOWLY)
})
