import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { mergeSettings } from '../../../src/control/server/index.ts'
import type { CarrierConfig } from '../../../src/control/server/index.ts'

const relay = (port: number): string => `/ip4/192.0.2.1/tcp/${port}/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi`
const FILE: CarrierConfig = { relays: [relay(3)], listen: 'public', port: 3, logLevel: 'warn', services: [], forwards: [] }

test('without any source the node listens on nothing and knows no relay (I10)', () => {
  assert.deepEqual(mergeSettings({ relays: [] }, {}, undefined), { relays: [], listen: 'none', port: 0, logLevel: 'info', services: [], forwards: [] })
})

test('flags win over the environment, the environment over the file', () => {
  const flags = { relays: [relay(1)], listen: 'lan', port: 1 }
  const environment = { relays: `${relay(2)},${relay(4)} ${relay(2)}`, listen: 'mapped' }
  const pick = ({ relays, listen, port, logLevel }: ReturnType<typeof mergeSettings>): unknown => ({ relays, listen, port, logLevel })
  assert.deepEqual(pick(mergeSettings(flags, environment, FILE)), { relays: [relay(1)], listen: 'lan', port: 1, logLevel: 'warn' })
  assert.deepEqual(pick(mergeSettings({ relays: [] }, environment, FILE)), { relays: [relay(2), relay(4)], listen: 'mapped', port: 3, logLevel: 'warn' })
  assert.deepEqual(pick(mergeSettings({ relays: [] }, { relays: ' , ', listen: '' }, FILE)), { relays: [relay(3)], listen: 'public', port: 3, logLevel: 'warn' })
})

test('port 0 on the command line wins over the file', () => {
  assert.equal(mergeSettings({ relays: [], port: 0 }, {}, FILE).port, 0)
})

test('a wrong value names where it came from', () => {
  assert.throws(() => mergeSettings({ relays: ['x'] }, {}, undefined), { code: 'ERR_CONFIG', message: /^--relay: the relay address "x" is no multiaddr/ })
  assert.throws(() => mergeSettings({ relays: [] }, { relays: '/ip4/1.2.3.4/tcp/1' }, undefined), { code: 'ERR_CONFIG', message: /^CARRIER_RELAYS: .*does not say who the relay is/ })
  assert.throws(() => mergeSettings({ relays: [`${relay(1)}/p2p-circuit`] }, {}, undefined), { code: 'ERR_CONFIG', message: /without \/p2p-circuit/ })
  assert.throws(() => mergeSettings({ relays: ['/ip4/1.2.3.4/udp/1/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi'] }, {}, undefined), { code: 'ERR_CONFIG', message: /no \/tcp\/PORT part/ })
  assert.throws(() => mergeSettings({ relays: [], listen: 'x' }, {}, undefined), { code: 'ERR_CONFIG', message: /^--listen: "x" is not one of/ })
  assert.throws(() => mergeSettings({ relays: [] }, { listen: 'x' }, undefined), { code: 'ERR_CONFIG', message: /^CARRIER_LISTEN: "x"/ })
  assert.throws(() => mergeSettings({ relays: Array.from({ length: LIMITS.relayCount + 1 }, (_, index) => relay(index + 1)) }, {}, undefined), { code: 'ERR_CONFIG', message: /^--relay: at most/ })
})

test('punching is the file\'s to switch off; without a word the engine decides', () => {
  assert.equal('punch' in mergeSettings({ relays: [] }, {}, FILE), false)
  assert.equal(mergeSettings({ relays: [] }, {}, { ...FILE, punch: false }).punch, false)
})

test('the keepalive mode of the command line wins over that of the file; without any the engine decides', () => {
  assert.equal(mergeSettings({ relays: [] }, {}, FILE).keepalive, undefined)
  assert.equal(mergeSettings({ relays: [] }, {}, { ...FILE, keepalive: 'saver' }).keepalive, 'saver')
  assert.equal(mergeSettings({ relays: [], keepalive: 'fast' }, {}, { ...FILE, keepalive: 'saver' }).keepalive, 'fast')
  assert.throws(() => mergeSettings({ relays: [], keepalive: 'x' }, {}, undefined), { code: 'ERR_CONFIG', message: /^--keepalive: "x" is not one of fast, normal, saver/ })
})
