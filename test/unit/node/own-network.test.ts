import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Interfaces } from '../../../src/node/listen-addresses.ts'
import { announcedMultiaddrs, listenHosts } from '../../../src/node/listen-addresses.ts'
import { dialableAddresses, isInOwnSubnet, ownHosts } from '../../../src/node/own-network.ts'

const interfaces = {
  lo: [{ address: '127.0.0.1', family: 'IPv4', internal: true, netmask: '255.0.0.0', mac: '', cidr: '127.0.0.1/8' }],
  eth0: [
    { address: '192.168.1.5', family: 'IPv4', internal: false, netmask: '255.255.255.0', mac: '', cidr: '192.168.1.5/24' },
    { address: 'fd00:1::5', family: 'IPv6', internal: false, netmask: 'ffff:ffff:ffff:ffff::', mac: '', cidr: 'fd00:1::5/64', scopeid: 0 },
    { address: '2001:db8::5', family: 'IPv6', internal: false, netmask: 'ffff:ffff:ffff:ffff::', mac: '', cidr: '2001:db8::5/64', scopeid: 0 },
    { address: 'fe80::5', family: 'IPv6', internal: false, netmask: 'ffff:ffff:ffff:ffff::', mac: '', cidr: 'fe80::5/64', scopeid: 2 }
  ]
} as Interfaces

/** The last two groups of an IPv6 address that ends with `ip`. */
function hexOf (ip: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = ip.split('.').map(Number)
  return `${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`
}

test('our own hosts and networks', () => {
  assert.deepEqual(ownHosts(interfaces), ['192.168.1.5', 'fd00:1::5', '2001:db8::5', 'fe80::5'])
  assert.equal(isInOwnSubnet('192.168.1.77', interfaces), true)
  assert.equal(isInOwnSubnet('192.168.2.77', interfaces), false)
  assert.equal(isInOwnSubnet('fd00:1::77', interfaces), true)
  assert.equal(isInOwnSubnet('fd00:2::77', interfaces), false)
  assert.equal(isInOwnSubnet('127.0.0.2', interfaces), false)
})

test('I10: of what a friend tells, private addresses count inside our own networks only, and never this machine or a relay', () => {
  const rules = { interfaces, relayHosts: ['203.0.113.1'], mayUseLoopback: false }
  const neighbour = '/ip4/192.168.1.77/tcp/4001'
  const global = '/ip4/198.51.100.7/tcp/4001'
  const allowed = [neighbour, global, '/ip6/fd00:1::77/tcp/4001', '/ip6/2001:db8:1::7/tcp/4001', '/ip4/198.51.100.7/tcp/443', '/ip6/::ffff:c0a8:14d/tcp/4001', '/ip6/64:ff9b::c633:6407/tcp/4001']
  const refused = [
    '/ip4/192.168.2.77/tcp/4001', '/ip4/10.0.0.7/tcp/1', '/ip6/fd00:2::77/tcp/4001', '/ip4/100.64.0.7/tcp/1',
    '/ip4/192.168.1.1/tcp/80', '/ip6/2001:db8::1/tcp/443', '/ip4/192.168.1.5/tcp/4001', '/ip6/2001:DB8::5/tcp/22', '/ip4/203.0.113.1/tcp/4001', '/ip4/127.0.0.1/tcp/22', '/ip6/::1/tcp/22', '/ip6/::ffff:192.168.1.5/tcp/22'
  ]
  const otherwise = ['127.0.0.1', '192.168.1.5', '203.0.113.1', '10.0.0.1', '169.254.1.1', '0.0.0.0', '224.0.0.1'].flatMap((ip) => [ip, hexOf(ip)].flatMap((tail) => [
    `::ffff:${tail}`, `0:0:0:0:0:ffff:${tail}`, `::${tail}`, `64:ff9b::${tail}`
  ])).map((host) => `/ip6/${host}/tcp/4001`)
  const wrapped = ['2002:c0a8:101::1', '2001:0:c0a8:101::1', 'fe80::1', 'ff02::1', '::', '64:ff9b:1::c0a8:101', '100::1'].map((host) => `/ip6/${host}/tcp/4001`)
  const services = ['/ip6/::ffff:c0a8:14d/tcp/80', '/ip4/192.168.1.77/tcp/443', '/ip4/198.51.100.7/tcp/22', '/ip4/198.51.100.7/tcp/1023', '/ip6/2001:db8:1::7/tcp/25']
  // what the library reads is judged, not the text
  const odd = ['//ip4/192.168.1.5/tcp/4001', '//ip4/192.168.1.77/tcp/22', '/dns4/internal/tcp/4001', '/ip4/198.51.100.7/udp/4001', 'nonsense', '']
  for (const text of [...otherwise, ...wrapped, ...services, ...odd]) assert.deepEqual(dialableAddresses([text], rules), [], text)
  assert.deepEqual(dialableAddresses([...refused, ...allowed], rules), allowed)
  assert.deepEqual(dialableAddresses([neighbour], { ...rules, interfaces: {} }), [], 'in another network it is a foreign private one')
  assert.deepEqual(dialableAddresses(['/ip4/127.0.0.1/tcp/22'], { ...rules, mayUseLoopback: true }), ['/ip4/127.0.0.1/tcp/22'])
})

test('IPv6: private addresses in lan, global ones in public, link-local ones never', () => {
  assert.deepEqual(listenHosts('lan', interfaces), ['192.168.1.5', 'fd00:1::5'])
  assert.deepEqual(listenHosts('public', interfaces), ['0.0.0.0', '::'])
  assert.deepEqual(announcedMultiaddrs(['/ip4/0.0.0.0/tcp/7', '/ip6/::/tcp/7'], interfaces), ['/ip4/192.168.1.5/tcp/7', '/ip6/fd00:1::5/tcp/7', '/ip6/2001:db8::5/tcp/7'])
})
