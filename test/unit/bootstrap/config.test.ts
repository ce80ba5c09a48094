import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { errorCode, errorMessage } from '../../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, composeConfig, parseBootstrapConfig, parseHealthAddress, parseListenAddress } from '../../../src/bootstrap/index.ts'

const EXAMPLE = new URL('../../../deploy/carrier-bootstrap.toml', import.meta.url)

function refusal (text: string): string {
  try {
    parseBootstrapConfig(text, 'relay.toml')
  } catch (err) {
    assert.equal(errorCode(err), 'ERR_CONFIG')
    return errorMessage(err)
  }
  return 'accepted'
}

describe('the configuration of carrier-bootstrap', () => {
  test('an empty file changes nothing', () => {
    const config = composeConfig('/data', [parseBootstrapConfig('', 'relay.toml')])
    assert.deepEqual(config, { ...BOOTSTRAP_DEFAULTS, dataDirectory: '/data' })
    assert.equal(config.circuitLimits, undefined)
  })

  test('every key arrives in its unit', () => {
    const settings = parseBootstrapConfig(`
data_dir = "/var/lib/x"
listen = ["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/2/ws"]
announce = ["/dns4/relay.example/tcp/443/wss"]
peers = ["/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"]
health = "[::1]:9180"
log_level = "warn"
max_connections = 10
drain_seconds = 3
[relay]
max_reservations = 1
reservation_ttl_seconds = 60
max_circuits = 2
max_circuits_per_caller = 3
max_circuits_per_called = 4
max_buffered_bytes = 2000000
circuit_duration_seconds = 120
circuit_data_bytes = 131072
`, 'relay.toml')
    assert.deepEqual(settings.health, { host: '::1', port: 9180 })
    assert.equal(settings.drainMs, 3000)
    assert.deepEqual(settings.circuitLimits, { durationSeconds: 120, dataBytes: 131_072n })
    assert.deepEqual(settings.relay, { maxReservations: 1, reservationTtlMs: 60_000, maxCircuits: 2, maxCircuitsPerCaller: 3, maxCircuitsPerCalled: 4, maxBufferedBytes: 2_000_000 })
    assert.equal(settings.listen?.length, 2)
  })

  test('unknown keys and wrong values are refused with file and line', () => {
    assert.match(refusal('listen = []\n'), /^relay\.toml:1: listen: /)
    assert.match(refusal('\n\nnonsense = 1\n'), /^relay\.toml:3: nonsense: unknown key$/)
    assert.match(refusal('[relay]\nmax_circuits = 1\nmax_circuit = 2\n'), /^relay\.toml:3: relay\.max_circuit: unknown key$/)
    assert.match(refusal('[relay]\nmax_circuits = 0\n'), /^relay\.toml:2: relay\.max_circuits: /)
    assert.match(refusal('health = "9180"\n'), /^relay\.toml:1: health: .*HOST:PORT/)
    assert.match(refusal('announce = ["relay.example"]\n'), /^relay\.toml:1: announce\.0: .*multiaddr/)
    assert.match(refusal('log_level = "loud"\n'), /^relay\.toml:1: log_level: /)
  })

  test('listen takes TCP and WebSocket on an IP address, nothing else', () => {
    for (const good of ['/ip4/0.0.0.0/tcp/4001', '/ip6/::/tcp/0', '/ip4/127.0.0.1/tcp/1/ws']) assert.equal(parseListenAddress(good), good)
    for (const bad of ['/dns4/x/tcp/1', '/ip4/0.0.0.0/udp/1/quic-v1', '/ip4/0.0.0.0/tcp/1/wss', '/p2p-circuit', 'x', '/ip4/0.0.0.0/tcp/1/ws/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5']) {
      assert.throws(() => parseListenAddress(bad), (err) => errorCode(err) === 'ERR_CONFIG', bad)
    }
    for (const bad of ['x', ':1', 'h:', 'h:70000', '::1:5', '']) assert.throws(() => parseHealthAddress(bad), (err) => errorCode(err) === 'ERR_CONFIG', bad)
  })

  test('the example in deploy/ is accepted, also with every commented setting switched on, and shows the defaults', () => {
    const text = readFileSync(EXAMPLE, 'utf8')
    parseBootstrapConfig(text, 'deploy/carrier-bootstrap.toml')
    const complete = parseBootstrapConfig(text.replace(/^# ?(?=[a-z_]+ = |\[)/gm, ''), 'deploy/carrier-bootstrap.toml')
    assert.deepEqual(complete.listen, BOOTSTRAP_DEFAULTS.listen)
    assert.equal(complete.maxConnections, BOOTSTRAP_DEFAULTS.maxConnections)
    assert.equal(complete.drainMs, BOOTSTRAP_DEFAULTS.drainMs)
  })
})
