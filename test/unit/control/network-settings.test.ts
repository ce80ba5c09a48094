/** [network] of carrier.toml and the environment: which proxy, which certificates, and who wins. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readEnvironment } from '../../../bin/context.ts'
import { CONFIG_KEYS, mergeSettings, parseConfig } from '../../../src/control/server/index.ts'
import type { NetworkEnvironment, NetworkSettings } from '../../../src/control/server/index.ts'
import { describeProxy } from '../../../src/node/index.ts'

const FILE = '/etc/carrier/carrier.toml'

function merged (environment: NetworkEnvironment, toml = ''): NetworkSettings | undefined {
  return mergeSettings({ relays: [] }, { network: environment }, parseConfig(toml, FILE)).network
}

function proxyOf (environment: NetworkEnvironment, toml = ''): string | undefined {
  const proxy = merged(environment, toml)?.proxy
  return proxy === undefined ? undefined : describeProxy(proxy)
}

function complaint (toml: string): string {
  try {
    parseConfig(toml, FILE)
  } catch (err) {
    return err instanceof Error ? err.message : String(err)
  }
  return 'nothing'
}

test('the table is read; its paths are relative to the file', () => {
  const network = merged({}, '[network]\nproxy = "http://user:pw@proxy:3128"\nproxy_credentials_file = "proxy.secret"\nno_proxy = [".corp", "10.0.0.0/8"]\nca_file = "/ca.pem"\n')
  assert.deepEqual(network, {
    proxy: { kind: 'http', host: 'proxy', port: 3128, exceptions: ['.corp', '10.0.0.0/8'], skipsLoopback: false, credentials: { user: 'user', password: 'pw' } },
    proxyCredentialsFile: '/etc/carrier/proxy.secret',
    caFile: '/ca.pem'
  })
  assert.equal(merged({}, '[network]\n'), undefined)
})

test('CARRIER_PROXY wins over the file, the file over the proxy of all programs; "off" means none', () => {
  const file = '[network]\nproxy = "http://file"\n'
  assert.equal(proxyOf({ proxy: 'socks5://ours', systemProxy: 'http://system' }, file), 'socks5://ours:1080')
  assert.equal(proxyOf({ systemProxy: 'http://system' }, file), 'http://file:80')
  assert.equal(proxyOf({ systemProxy: 'system:3128' }), 'http://system:3128')
  assert.equal(proxyOf({ proxy: 'off', systemProxy: 'http://system' }, file), undefined)
  assert.equal(proxyOf({ systemProxy: 'http://system' }, '[network]\nproxy = "off"\n'), undefined)
  assert.equal(proxyOf({}), undefined)
  assert.equal(merged({ caFile: '/from/environment.pem' }, '[network]\nca_file = "file.pem"\n')?.caFile, '/from/environment.pem')
})

test('the proxy of all programs leaves this machine alone and does not get the credentials of another', () => {
  const system = merged({ systemProxy: 'http://system', noProxy: 'a.example, b.example' }, '[network]\nproxy_credentials_file = "secret"\n')
  assert.equal(system?.proxy?.skipsLoopback, true)
  assert.deepEqual(system?.proxy?.exceptions, ['a.example', 'b.example'])
  assert.equal(system?.proxyCredentialsFile, undefined)
  assert.deepEqual(merged({ proxy: 'http://ours', noProxy: 'a.example' }, '[network]\nno_proxy = ["b.example"]\n')?.proxy?.exceptions, ['b.example'])
})

test('what is wrong is said with its place, and without passwords', () => {
  assert.equal(complaint('\n[network]\nproxi = 1\n'), `${FILE}:3: unknown key "proxi" in [network], known keys are ${CONFIG_KEYS.network.join(', ')}`)
  assert.match(complaint('[network]\nproxy = "ftp://user:hunter2@x"\n'), new RegExp(`^${FILE}:2: "network\\.proxy": the proxy has the scheme "ftp:"`))
  assert.doesNotMatch(complaint('[network]\nproxy = "ftp://user:hunter2@x"\n'), /hunter2/)
  assert.throws(() => merged({ proxy: 'socks4://u:hunter2@x' }), (err: Error) => err.message.startsWith('CARRIER_PROXY: the proxy has the scheme "socks4:"') && !err.message.includes('hunter2'))
  assert.throws(() => merged({ systemProxy: 'socks4://x' }), { code: 'ERR_CONFIG', message: /^HTTPS_PROXY or ALL_PROXY \(CARRIER_PROXY=off does without\): / })
})

test('of the environment nothing but the named variables is read', () => {
  assert.deepEqual(readEnvironment({ CARRIER_PROXY: 'a', https_proxy: 'b', HTTPS_PROXY: 'c', NO_PROXY: 'd', ALL_PROXY: '', HTTP_PROXY: 'e', CARRIER_OTHER: 'f' }), { CARRIER_PROXY: 'a', https_proxy: 'b', HTTPS_PROXY: 'c', NO_PROXY: 'd' })
})
