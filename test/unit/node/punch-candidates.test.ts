import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterfaceInfo } from 'node:os'
import { LIMITS } from '../../../src/base/index.ts'
import { natMapping, ownCandidates, usableCandidates } from '../../../src/node/punch-candidates.ts'

const LAN: NetworkInterfaceInfo = { address: '192.168.7.5', netmask: '255.255.255.0', family: 'IPv4', mac: '', internal: false, cidr: '192.168.7.5/24' }
const GLOBAL6: NetworkInterfaceInfo = { address: '2001:db8:1::5', netmask: '', family: 'IPv6', mac: '', internal: false, cidr: '2001:db8:1::5/64', scopeid: 0 }
const LINK6: NetworkInterfaceInfo = { address: 'fe80::5', netmask: '', family: 'IPv6', mac: '', internal: false, cidr: 'fe80::5/64', scopeid: 2 }
const LOOP: NetworkInterfaceInfo = { address: '127.0.0.1', netmask: '', family: 'IPv4', mac: '', internal: true, cidr: '127.0.0.1/8' }
const interfaces = { eth0: [LAN, GLOBAL6, LINK6], lo: [LOOP] }
const rules = { relayHosts: ['50.0.1.2', '2001:db8::99'], interfaces, mayUseLan: false, mayUseLoopback: false }
const at = (host: string, port = 40_000): { host: string, port: number } => ({ host, port })

test('I10: a friend cannot make us knock at loopback, link-local, multicast, private or reserved addresses, at relays, or at low ports', () => {
  const refused = ['127.0.0.1', '127.9.9.9', '0.0.0.0', '169.254.1.1', '224.0.0.1', '255.255.255.255', '10.0.0.1', '172.16.0.1', '192.168.1.1', '192.168.7.9', '100.64.0.1', '50.0.1.2',
    '::1', '::', 'fe80::1', 'ff02::1', 'fd00::1', '2001:db8::99', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:a00:1', '::7f00:1', '64:ff9b::a00:1',
    // this machine and its neighbours, also by global addresses; a private address in 6to4
    '2001:db8:1::5', '2001:db8:1::77', '2002:c0a8:101::1']
  for (const host of refused) assert.deepEqual(usableCandidates([at(host)], rules), [], host)
  assert.deepEqual(usableCandidates([at('50.2.0.2', 22), at('50.2.0.2', 0), at('50.2.0.2', 1023)], rules), [])
  assert.deepEqual(usableCandidates([at('50.2.0.2'), at('2001:db8:2::7')], rules), [at('50.2.0.2'), at('2001:db8:2::7')])
})

test('private addresses only of a network that we are in, and only when the local network may be used', () => {
  assert.deepEqual(usableCandidates([at('192.168.7.9'), at('192.168.8.9'), at('10.0.0.1')], { ...rules, mayUseLan: true }), [at('192.168.7.9')])
  assert.deepEqual(usableCandidates([at('2001:db8:1::77'), at('2001:db8:1::5'), at('192.168.7.5')], { ...rules, mayUseLan: true }), [at('2001:db8:1::77')], 'a neighbour, and never ourselves')
  assert.deepEqual(usableCandidates([at('127.0.0.1')], { ...rules, mayUseLoopback: true }), [at('127.0.0.1')])
})

test('I8: a thousand candidates are four', () => {
  const many = Array.from({ length: 1000 }, (_one, index) => at(`50.3.${index >> 8}.${index & 255}`))
  assert.deepEqual(usableCandidates(many, rules), many.slice(0, LIMITS.punchCandidateCount))
})

test('we name where relays see us, and addresses of our own only with a local listen mode', () => {
  assert.deepEqual(ownCandidates([at('50.1.0.2'), at('50.1.0.2')], 33_333, { interfaces, mayUseLan: false }), [at('50.1.0.2')])
  assert.deepEqual(ownCandidates([at('50.1.0.2')], 33_333, { interfaces, mayUseLan: true }), [at('50.1.0.2'), at('2001:db8:1::5', 33_333), at('192.168.7.5', 33_333)])
  assert.ok(ownCandidates([1, 2, 3, 4, 5, 6].map((number) => at(`50.1.0.${number}`)), 1, { interfaces, mayUseLan: true }).length <= LIMITS.punchCandidateCount)
})

test('the mapping of a router is told from what two relays see', () => {
  assert.equal(natMapping([at('50.1.0.2'), at('50.1.0.2')], 33_333), 'independent')
  assert.equal(natMapping([at('50.1.0.2'), at('50.1.0.2', 40_001)], 33_333), 'dependent')
  assert.equal(natMapping([at('50.1.0.2'), at('50.1.0.3')], 33_333), 'dependent')
  assert.equal(natMapping([at('50.1.0.2', 33_333)], 33_333), 'independent')
  assert.equal(natMapping([at('50.1.0.2')], 33_333), 'unknown')
  assert.equal(natMapping([], 33_333), 'unknown')
})
