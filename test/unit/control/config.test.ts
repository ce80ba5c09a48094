import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { CONFIG_KEYS, parseConfig } from '../../../src/control/server/index.ts'

const RELAY = '/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi'

/** The complaints about a file, one per line. */
function complaints (text: string): string[] {
  try {
    parseConfig(text, '/etc/carrier.toml')
  } catch (err) {
    assert.equal((err as { code?: string }).code, 'ERR_CONFIG')
    return (err as Error).message.split('\n')
  }
  assert.fail('the file was accepted')
}

test('a whole file is read, and each item knows its line', () => {
  const config = parseConfig(`relays = ["${RELAY}"]
listen = "lan"
port = 4002
log_level = "warn"

[services.Postgres]
target = 5432
allow = ["laptop"]

[services.docker]
target = "unix:/var/run/docker.sock"

[forwards.books]
listen = 5433
to = "office/postgres"
`, '/etc/carrier.toml')
  const source = (line: number): object => ({ kind: 'config', file: '/etc/carrier.toml', line })
  assert.deepEqual(config, {
    relays: [RELAY],
    listen: 'lan',
    port: 4002,
    logLevel: 'warn',
    services: [
      { name: 'Postgres', target: '5432', allow: ['laptop'], source: source(6) },
      { name: 'docker', target: 'unix:/var/run/docker.sock', allow: [], source: source(10) }
    ],
    forwards: [{ name: 'books', listen: '5433', to: 'office/postgres', source: source(13) }]
  })
})

test('an empty file says nothing', () => {
  assert.deepEqual(parseConfig('', 'x.toml'), { services: [], forwards: [] })
})

test('an unknown key is named with its line, and the known keys of its table are listed', () => {
  assert.deepEqual(complaints('relays = []\nrealys = []\n'), [`/etc/carrier.toml:2: unknown key "realys", known keys are ${CONFIG_KEYS[''].join(', ')}`])
  assert.deepEqual(complaints('[services.db]\ntarget = 1\n\ntraget = 2\n'), ['/etc/carrier.toml:4: unknown key "traget" in [services.db], known keys are target, allow'])
  assert.deepEqual(complaints('[forwards.db]\nlisten = 1\nto = "a/b"\nonce = true\n'), ['/etc/carrier.toml:4: unknown key "once" in [forwards.db], known keys are listen, to'])
})

test('every wrong value is a complaint with file, line and what would be right', () => {
  const cases: Array<[string, RegExp]> = [
    ['listen = "wan"', /:1: "listen": must be one of none, lan, mapped, public$/],
    ['keepalive = "slow"', /:1: "keepalive": must be one of fast, normal, saver$/],
    ['log_level = 3', /:1: "log_level": must be one of debug, info, warn, error, silent$/],
    ['port = "80"', /:1: "port": must be a number from 0 to 65535$/],
    ['port = 65536', /:1: "port": must be a number from 0 to 65535$/],
    ['port = -1', /:1: "port": must be a number from 0 to 65535$/],
    ['port = 1.5', /:1: "port": must be a number from 0 to 65535$/],
    ['relays = "x"', /:1: "relays": .*expected array/],
    [`relays = [\n  "${RELAY}",\n  "/ip4/192.0.2.1/tcp/4001"\n]`, /:3: "relays\.1": the relay address .* append \/p2p\//],
    ['relays = ["hello"]', /:1: "relays\.0": the relay address "hello" is no multiaddr/],
    [`relays = [${Array.from({ length: LIMITS.relayCount + 1 }, () => `"${RELAY}"`).join(', ')}]`, /:1: "relays": at most \d+ relays$/],
    ['[services.db]\ntarget = 70000', /:2: "services\.db\.target": must be PORT, "HOST:PORT" or "unix:PATH"$/],
    ['[services.db]\nallow = []', /:1: "services\.db\.target" is missing$/],
    ['[services.db]\ntarget = 1\nallow = "alice"', /:3: "services\.db\.allow": .*expected array/],
    ['[services."a b"]\ntarget = 1', /:1: "services\.a b": a name has 1 to 63 of the characters a-z, 0-9 and -$/],
    ['[forwards.x]\nlisten = "high"\nto = "a/b"', /:2: "forwards\.x\.listen": must be PORT or "HOST:PORT"$/],
    ['[forwards.x]\nlisten = 1\nto = "office"', /:3: "forwards\.x\.to": must be "WHO\/SERVICE"$/],
    ['[forwards.x]\nlisten = 1', /:1: "forwards\.x\.to" is missing$/],
    ['services = 3', /:1: "services": .*expected record/]
  ]
  for (const [text, pattern] of cases) {
    const lines = complaints(text)
    assert.equal(lines.length, 1, text)
    assert.match(lines[0] ?? '', pattern, text)
    assert.ok(lines[0]?.startsWith('/etc/carrier.toml:'), text)
  }
})

test('several complaints come together, in one message', () => {
  assert.equal(complaints('port = "a"\nlisten = 1\nnothing = 2\n').length, 3)
})

test('syntax errors have a line too', () => {
  assert.match(complaints('port = 1\nport == 2\n')[0] ?? '', /^\/etc\/carrier\.toml:2: /)
})
