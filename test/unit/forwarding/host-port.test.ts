import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { formatHostPort } from '../../../src/base/index.ts'
import { formatTarget, parseListenAddress, parseTarget } from '../../../src/forwarding/index.ts'
import { checkListenAddress, isLoopback } from '../../../src/forwarding/host-port.ts'

describe('targets', () => {
  const good: Array<[string, ReturnType<typeof parseTarget>]> = [
    ['5432', { kind: 'tcp', host: '127.0.0.1', port: 5432 }],
    ['127.0.0.1:5432', { kind: 'tcp', host: '127.0.0.1', port: 5432 }],
    ['db.local:65535', { kind: 'tcp', host: 'db.local', port: 65_535 }],
    ['db_1:1', { kind: 'tcp', host: 'db_1', port: 1 }],
    ['http:80', { kind: 'tcp', host: 'http', port: 80 }],
    ['[::1]:5432', { kind: 'tcp', host: '::1', port: 5432 }],
    ['[fe80::1%eth0]:22', { kind: 'tcp', host: 'fe80::1%eth0', port: 22 }],
    ['unix:/run/app.sock', { kind: 'unix', path: '/run/app.sock' }],
    ['unix:/run/with:colon.sock', { kind: 'unix', path: '/run/with:colon.sock' }]
  ]
  for (const [text, target] of good) {
    it(`"${text}" is a target`, () => { assert.deepEqual(parseTarget(text), target) })
  }

  const bad: Array<[string, RegExp]> = [
    ['', /port must be 1 to 65535/],
    ['0', /port must be 1 to 65535/],
    ['65536', /port must be 1 to 65535/],
    ['postgres', /port must be 1 to 65535/],
    ['localhost:', /port must be/],
    [':5432', /host is missing/],
    ['::1:5432', /needs brackets/],
    ['[::1]', /./],
    ['[localhost]:1', /not an IPv6 address/],
    ['256.1.1.1:80', /neither an IP address nor a host name/],
    ['a b:80', /neither an IP address nor a host name/],
    ['-x:80', /neither an IP address nor a host name/],
    ['http://example.org', /without a scheme/],
    ['udp:dns:53', /without a scheme/],
    ['tcp://127.0.0.1:5432', /without a scheme/],
    ['unix:relative.sock', /must be absolute/],
    ['unix:', /must be absolute/],
    ['unix:/a\0b', /zero byte/],
    [`unix:/${'x'.repeat(103)}`, /longer than 103 bytes/],
    ['5432 ', /port must be/],
    ['+5432', /port must be/],
    ['0x50', /port must be/]
  ]
  for (const [text, message] of bad) {
    it(`${JSON.stringify(text.slice(0, 30))} is refused with its reason`, () => {
      assert.throws(() => parseTarget(text), { code: 'ERR_INVALID_ARGUMENT', message })
    })
  }

  it('the text of a target reads back as the same target', () => {
    const hosts = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain())
    fc.assert(fc.property(hosts, fc.integer({ min: 1, max: 65_535 }), (host, port) => {
      assert.deepEqual(parseTarget(formatHostPort({ host, port })), { kind: 'tcp', host, port })
    }))
    fc.assert(fc.property(fc.string({ maxLength: 60 }).filter((text) => !text.includes('\0')), (tail) => {
      const target = { kind: 'unix', path: `/${tail}` } as const
      if (Buffer.byteLength(target.path) > 103) return
      assert.deepEqual(parseTarget(formatTarget(target)), target)
    }))
  })

  it('any text is a target or a clear refusal', () => {
    fc.assert(fc.property(fc.string(), (text) => {
      try {
        assert.deepEqual(parseTarget(formatTarget(parseTarget(text))), parseTarget(text))
      } catch (err) {
        assert.equal((err as { code?: string }).code, 'ERR_INVALID_ARGUMENT')
      }
    }))
  })
})

describe('listen addresses', () => {
  it('a port alone listens on loopback, and 0 lets the system pick', () => {
    assert.deepEqual(parseListenAddress('5433'), { host: '127.0.0.1', port: 5433 })
    assert.deepEqual(parseListenAddress('0'), { host: '127.0.0.1', port: 0 })
    assert.deepEqual(parseListenAddress('localhost:1'), { host: '127.0.0.1', port: 1 })
    assert.deepEqual(parseListenAddress('[::]:1'), { host: '::', port: 1 })
    assert.deepEqual(checkListenAddress({ port: 7 }), { host: '127.0.0.1', port: 7 })
  })

  it('a host name is refused: it could mean another address tomorrow', () => {
    assert.throws(() => parseListenAddress('example.org:80'), { code: 'ERR_INVALID_ARGUMENT', message: /IP address of this machine/ })
    for (const port of [-1, 65_536, 1.5, Number.NaN]) assert.throws(() => checkListenAddress({ port }), { code: 'ERR_INVALID_ARGUMENT' })
  })

  it('only 127.0.0.0/8 and ::1 are loopback', () => {
    assert.deepEqual(['127.0.0.1', '127.9.9.9', '::1', '0.0.0.0', '::', '10.0.0.1', '::ffff:127.0.0.1'].map(isLoopback), [true, true, true, false, false, false, false])
  })
})
