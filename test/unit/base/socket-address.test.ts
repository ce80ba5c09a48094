import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ADDRESS_BYTES, decodeAddress, encodeAddress, isSameHost, plainHost, reachedHost } from '../../../src/base/index.ts'

test('addresses of both families come back as they were', () => {
  const cases: Array<[string, string]> = [['50.1.0.2', '50.1.0.2'], ['::ffff:50.1.0.2', '50.1.0.2'], ['2001:db8::1', '2001:db8::1'], ['::1', '::1'], ['fe80::1%eth0', 'fe80::1']]
  for (const [host, expected] of cases) {
    const bytes = encodeAddress({ host, port: 40_321 })
    assert.equal(bytes.length, ADDRESS_BYTES)
    assert.deepEqual(decodeAddress(bytes), { host: expected, port: 40_321 })
    assert.ok(isSameHost(host, expected))
  }
  assert.equal(Buffer.from(encodeAddress({ host: '50.1.0.2', port: 40_321 })).toString('hex'), '049d8132010002' + '00'.repeat(12))
  assert.equal(isSameHost('50.1.0.2', '50.1.0.3'), false)
  for (const host of ['::ffff:3201:2', '::FFFF:3201:2', '0:0:0:0:0:ffff:3201:0002', '0:0:0:0:0:ffff:50.1.0.2', '::ffff:50.1.0.2%eth0']) {
    assert.equal(plainHost(host), '50.1.0.2', host)
    assert.deepEqual(encodeAddress({ host, port: 1 }), encodeAddress({ host: '50.1.0.2', port: 1 }))
    assert.ok(isSameHost(host, '50.1.0.2'))
  }
  assert.equal(plainHost('2001:0DB8:0:0::1'), '2001:db8::1')
  for (const host of ['64:ff9b::3201:2', '64:ff9b::50.1.0.2', '::3201:2', '::50.1.0.2']) {
    assert.equal(reachedHost(host), '50.1.0.2', host)
    assert.equal(decodeAddress(encodeAddress({ host, port: 1 })).host, plainHost(host), 'it is dialled as it was named')
  }
  for (const host of ['::1', '::', '2001:db8::3201:2', 'relay.example']) assert.equal(reachedHost(host), host)
  assert.equal(isSameHost('no host', 'no host'), false)
})

test('what is no address is refused, whatever the bytes are', () => {
  assert.throws(() => encodeAddress({ host: 'relay.example', port: 1 }), { code: 'ERR_INVALID_ARGUMENT' })
  assert.throws(() => decodeAddress(new Uint8Array(ADDRESS_BYTES)), { code: 'ERR_PROTOCOL' })
  assert.throws(() => decodeAddress(Uint8Array.from([4, 0, 1, 1, 2, 3, 4, ...Array.from({ length: 11 }, () => 0), 9])), { code: 'ERR_PROTOCOL' })
  fc.assert(fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
    try {
      const { host, port } = decodeAddress(bytes)
      assert.deepEqual(encodeAddress({ host, port }), new Uint8Array(bytes))
    } catch (err) {
      assert.equal((err as { code: string }).code, 'ERR_PROTOCOL')
    }
  }))
})
