import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { errorCode, errorMessage, LIMITS } from '../../../src/base/index.ts'
import {
  BOOTSTRAP_DEFAULTS, composeConfig, parseAnnouncedPort, parseBootstrapConfig, parseHealthAddress, parseListenAddress, parseSpliceAddress, spliceAddresses
} from '../../../src/bootstrap/index.ts'
import { compareConfigs, compareFiles, mergeConfigs } from '../../../src/bootstrap/config-change.ts'
import type { FileContents } from '../../../src/bootstrap/config-change.ts'

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
splice = "[::]:4005"
announce_splice = 443
[relay]
max_reservations = 1
reservation_ttl_seconds = 60
max_circuits = 2
max_circuits_per_caller = 3
max_circuits_per_called = 4
max_buffered_bytes = 2000000
circuit_duration_seconds = 120
circuit_data_bytes = 131072
splice_bytes_per_second = 5000
splice_copy = "public"
`, 'relay.toml')
    assert.deepEqual([settings.splice, settings.announceSplice, settings.spliceBytesPerSecond, settings.spliceCopy], [{ host: '::', port: 4005 }, 443, 5000, 'public'])
    assert.deepEqual(settings.health, { host: '::1', port: 9180 })
    assert.equal(settings.drainMs, 3000)
    assert.deepEqual(settings.circuitLimits, { durationSeconds: 120, dataBytes: 131_072n })
    assert.deepEqual(settings.relay, { maxReservations: 1, reservationTtlMs: 60_000, maxCircuits: 2, maxCircuitsPerCaller: 3, maxCircuitsPerCalled: 4, maxBufferedBytes: 2_000_000 })
    assert.equal(settings.listen?.length, 2)
  })

  test('quotas and bounds of connections arrive in their unit; what is not named keeps its default', () => {
    const { quotas, connections } = parseBootstrapConfig('[quotas]\nbytes_per_second = 8000000\n[quotas.stranger]\ncircuits = 3\n[quotas.friend]\nbytes_per_day = 5000\n[connections]\nmax_pending = 7\n', 'relay.toml')
    assert.deepEqual(quotas, { bytesPerSecond: 8_000_000, stranger: { reservations: LIMITS.relayReservationsPerSourceCount, circuits: 3 }, strangers: {}, member: {}, friend: { bytesPerDay: 5000 } })
    assert.deepEqual(connections, { perSourcePerSecond: LIMITS.relayConnectionsPerSecondCount, maxPending: 7, handshakesPerSecond: LIMITS.relayHandshakesPerSecondCount })
  })

  test('no source gets all places, and where somebody is listed, all strangers together do not either', () => {
    const compose = (text: string): ReturnType<typeof composeConfig> => composeConfig('/data', [parseBootstrapConfig(text, 'relay.toml')])
    const { stranger, strangers } = compose('').quotas
    assert.ok((stranger.circuits ?? Infinity) <= LIMITS.relayCircuitCount / 8 && (stranger.reservations ?? Infinity) <= LIMITS.relayReservationCount / 8)
    assert.deepEqual(strangers, {}, 'nobody to leave them to')
    const friends = '[admission]\nfriends = ["12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"]\n'
    assert.deepEqual(compose(friends).quotas.strangers, { reservations: 3584, circuits: 7168 })
    assert.deepEqual(compose('[admission]\nmembers_file = "/members"\n[relay]\nmax_reservations = 80\nmax_circuits = 1\n').quotas.strangers, { reservations: 70, circuits: 1 })
    assert.deepEqual(compose(`${friends}[quotas.strangers]\ncircuits = 9000\nbytes_per_day = 5000\n`).quotas.strangers, { reservations: 3584, circuits: 9000, bytesPerDay: 5000 })
  })

  test('of a new configuration everything but bound sockets and places changes while a relay runs', () => {
    const old = composeConfig('/data', [])
    const next = composeConfig('/other', [parseBootstrapConfig('listen = ["/ip4/127.0.0.1/tcp/9"]\nsplice = "off"\ndrain_seconds = 1\nlog_level = "warn"\n[admission]\nallow = ["12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"]\n[relay]\ncircuit_data_bytes = 5\n', 'relay.toml')])
    assert.deepEqual(compareConfigs(old, next), { changed: ['log_level', 'admission', 'quotas', 'drain_seconds', 'relay.circuit_…'], needRestart: ['data_dir', 'listen', 'splice'] })
    assert.deepEqual(compareConfigs(old, old), { changed: [], needRestart: [] })
    // another line is no other setting
    const read = (text: string): ReturnType<typeof composeConfig> => composeConfig('data', [parseBootstrapConfig(text, 'relay.toml')])
    assert.deepEqual(compareConfigs(read('[admission]\nmode = "open"\n[tls]\ncert_file = "c"\nkey_file = "k"\n'), read('# more\n[tls]\ncert_file = "c"\nkey_file = "k"\n[admission]\nmode = "open"\n')), { changed: [], needRestart: [] })
    assert.deepEqual(compareConfigs(read('listen = ["/ip4/127.0.0.1/tcp/9"]\n'), read('# more\nlisten = ["/ip4/127.0.0.1/tcp/9"]\n[relay]\nmax_reservations = 100\n')), { changed: ['relay.max_…'], needRestart: [] })
    const merged = mergeConfigs(old, next)
    assert.deepEqual([merged.dataDirectory, merged.listen, merged.drainMs], ['/data', old.listen, 1000])
  })

  test('other lists or another certificate in files of the same name are told', () => {
    const contents = (allow: string[], cert: string | undefined): FileContents => ({
      admission: { mode: 'members', callers: 'anyone', lists: { allow: new Set(allow), members: new Set(), friends: new Set() } },
      tls: cert === undefined ? undefined : { cert, key: 'key' }
    })
    assert.deepEqual(compareFiles(contents(['a', 'b'], 'one'), contents(['b', 'a'], 'one')), [])
    assert.deepEqual(compareFiles(contents(['a'], 'one'), contents(['b'], 'one')), ['admission'])
    assert.deepEqual(compareFiles(contents(['a'], 'one'), contents(['a'], 'two')), ['tls'])
    assert.deepEqual(compareFiles(contents(['a'], undefined), contents([], 'two')), ['admission', 'tls'])
  })

  test('unknown keys and wrong values are refused with file and line', () => {
    assert.match(refusal('listen = []\n'), /^relay\.toml:1: listen: /)
    assert.match(refusal('\n\nnonsense = 1\n'), /^relay\.toml:3: nonsense: unknown key$/)
    assert.match(refusal('[relay]\nmax_circuits = 1\nmax_circuit = 2\n'), /^relay\.toml:3: relay\.max_circuit: unknown key$/)
    assert.match(refusal('[relay]\nmax_circuits = 0\n'), /^relay\.toml:2: relay\.max_circuits: /)
    assert.match(refusal('health = "9180"\n'), /^relay\.toml:1: health: .*HOST:PORT/)
    assert.match(refusal('announce = ["relay.example"]\n'), /^relay\.toml:1: announce\.0: .*multiaddr/)
    assert.match(refusal('log_level = "loud"\n'), /^relay\.toml:1: log_level: /)
    assert.match(refusal('splice = "4002"\n'), /^relay\.toml:1: splice: .*HOST:PORT/)
    assert.match(refusal('announce_splice = 0\n'), /^relay\.toml:1: announce_splice: /)
    assert.match(refusal('[quotas.members]\n'), /^relay\.toml:1: quotas\.members: unknown key$/)
    assert.match(refusal('[quotas.stranger]\n\nbytes_per_second = "many"\n'), /^relay\.toml:3: quotas\.stranger\.bytes_per_second: /)
    assert.match(refusal('[admission]\nmode = "closed"\n'), /^relay\.toml:2: admission\.mode: /)
    assert.match(refusal('[connections]\nmax_pending = 0\n'), /^relay\.toml:2: connections\.max_pending: /)
    assert.match(refusal('[relay]\nsplice_copy = "fast"\n'), /^relay\.toml:2: relay\.splice_copy: /)
  })

  test('splices are taken one port above plain TCP, on its hosts, unless it is said where', () => {
    const auto = (listen: string[]): unknown => spliceAddresses({ splice: 'auto', listen })
    assert.deepEqual(spliceAddresses(BOOTSTRAP_DEFAULTS), [{ host: '0.0.0.0', port: 4002 }, { host: '::', port: 4002 }])
    assert.deepEqual(auto(['/ip4/127.0.0.1/tcp/0']), [{ host: '127.0.0.1', port: 0 }])
    assert.deepEqual(auto(['/ip4/127.0.0.1/tcp/65535']), [{ host: '127.0.0.1', port: 0 }])
    assert.deepEqual(auto(['/ip4/0.0.0.0/tcp/4003/ws']), [], 'a relay behind WebSocket only has no splices')
    assert.deepEqual(spliceAddresses({ splice: 'off', listen: BOOTSTRAP_DEFAULTS.listen }), [])
    assert.deepEqual(spliceAddresses({ splice: { host: '192.0.2.1', port: 7 }, listen: [] }), [{ host: '192.0.2.1', port: 7 }])
    assert.equal(parseSpliceAddress('off'), 'off')
    assert.equal(parseAnnouncedPort('4002'), 4002)
    for (const bad of ['', '0', '65536', '4002x', '-1']) assert.throws(() => parseAnnouncedPort(bad), (err) => errorCode(err) === 'ERR_CONFIG', bad)
    for (const bad of ['on', '4002', 'h:99999']) assert.throws(() => parseSpliceAddress(bad), (err) => errorCode(err) === 'ERR_CONFIG', bad)
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
