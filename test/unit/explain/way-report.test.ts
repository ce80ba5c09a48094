import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RelayStatus } from '../../../src/node/index.ts'
import { systemClock } from '../../../src/base/index.ts'
import { offlineAdvice, reportWay } from '../../../src/explain/way-report.ts'
import type { WayReportComponents } from '../../../src/explain/way-report.ts'

const relay = (state: RelayStatus['state']): RelayStatus => ({ peerId: 'p', address: '/a', state, rttMs: undefined, loadPermille: undefined, isChosen: true, reason: undefined })

test('what helps with a friend who cannot be reached depends on who is missing', () => {
  assert.match(offlineAdvice('office', 'ERR_NO_RELAY', []).join(), /carrier up --relay/)
  assert.match(offlineAdvice('office', 'ERR_PEER_OFFLINE', [relay('unreachable'), relay('refused')]).join(), /none of your relays answers/)
  assert.match(offlineAdvice('office', 'ERR_NOT_AVAILABLE', [relay('reserved')]).join(), /still friends/)
  assert.match(offlineAdvice('office', 'ERR_QUOTA', [relay('reserved')]).join(), /until the quota is free again, or name another relay/)
  assert.match(offlineAdvice('office', 'ERR_PEER_OFFLINE', [relay('unreachable'), relay('reserved')]).join(), /ask office whether Carrier runs there/)
})

test('the report says whether the relay in use is one of ours', async () => {
  const session = { peer: { device: 'did' }, link: 'splice', path: 'spliced', relayPeerId: 'p', rttMs: 1, ping: async () => ({ rttMs: 1 }) }
  const components = (relays: RelayStatus[], relayPeerId: string | undefined) => ({
    friends: { resolve: () => ({ owner: 'did', label: 'office', devices: ['did'] }) },
    sessions: { get: () => ({ ...session, relayPeerId }), open: async () => ({ ...session, relayPeerId }), explain: () => [] },
    forwarding: {},
    relays: () => relays,
    clock: systemClock
  }) as unknown as WayReportComponents
  assert.equal((await reportWay(components([relay('reserved')], 'p'), 'office')).isRelayListed, true)
  assert.equal((await reportWay(components([relay('reserved')], 'q'), 'office')).isRelayListed, false)
  assert.equal((await reportWay(components([relay('reserved')], undefined), 'office')).isRelayListed, undefined)
})
