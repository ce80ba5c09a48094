import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RelayStatus } from '../../../src/node/index.ts'
import { offlineAdvice } from '../../../src/explain/way-report.ts'

const relay = (state: RelayStatus['state']): RelayStatus => ({ peerId: 'p', address: '/a', state, rttMs: undefined, loadPermille: undefined, isChosen: true, reason: undefined })

test('what helps with a friend who cannot be reached depends on who is missing', () => {
  assert.match(offlineAdvice('office', 'ERR_NO_RELAY', []).join(), /carrier up --relay/)
  assert.match(offlineAdvice('office', 'ERR_PEER_OFFLINE', [relay('unreachable'), relay('refused')]).join(), /none of your relays answers/)
  assert.match(offlineAdvice('office', 'ERR_NOT_AVAILABLE', [relay('reserved')]).join(), /still friends/)
  assert.match(offlineAdvice('office', 'ERR_PEER_OFFLINE', [relay('unreachable'), relay('reserved')]).join(), /ask office whether Carrier runs there/)
})
