/** carrier-bootstrap as an operator meets it: first line, signals, restart, health, configuration errors. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import type { Connection, Libp2p } from '@libp2p/interface'
import { createRelay } from '../support/bootstrap.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { runProgram, startProgram } from '../support/program.ts'
import type { Program, ProgramResult } from '../support/program.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor, within } from '../support/wait.ts'

const BIN = join(ROOT, 'bin', 'carrier-bootstrap.js')
const LOOPBACK = ['--listen', '/ip4/127.0.0.1/tcp/0', '--health', '127.0.0.1:0']

async function run (...args: string[]): Promise<ProgramResult> {
  return runProgram(process.execPath, ['--conditions=carrier-source', BIN, ...args], { env: carrierFreeEnvironment(), deadlineMs: PATIENCE_MS })
}

function start (args: readonly string[], env: Record<string, string> = {}): Program {
  const program = startProgram(process.execPath, ['--conditions=carrier-source', BIN, ...args], { env: { ...carrierFreeEnvironment(), ...env }, name: 'carrier-bootstrap' })
  started.push(program)
  return program
}

/** What a failed test leaves running would keep this file from ending. */
const started: Program[] = []
async function stopLeft (): Promise<void> {
  await Promise.all(started.map(async (program) => { await program.stop({ signal: 'SIGKILL' }) }))
}

/** Arguments for a drain that no deadline ends while a test lasts. */
function patientDrain (): string[] {
  const file = join(makeTempDirectory('relay'), 'relay.toml')
  writeFileSync(file, 'drain_seconds = 3600\n')
  return ['--config', file]
}

/** A circuit over the relay that moves bytes until `stop`: the relay ends one that falls quiet while it drains. */
async function openBusyCircuit (relay: string, caller: Libp2p, called: Libp2p): Promise<{ circuit: Connection, stop: () => void }> {
  await called.handle('/test/busy/1.0.0', (stream) => { stream.addEventListener('message', () => { /* taken */ }) }, { runOnLimitedConnection: true })
  const circuit = await dialOverRelay(caller, relay, called)
  const stream = await openStream(circuit, '/test/busy/1.0.0')
  const block = new Uint8Array(32 * 1024)
  const timer = setInterval(() => { if (stream.status === 'open') stream.send(block) }, 100).unref()
  return { circuit, stop: () => { clearInterval(timer) } }
}

describe('carrier-bootstrap', () => {
  after(stopStockPeers)
  after(stopLeft)

  test('its first line is JSON with peerId, addresses that end in it, the health address and the splice port', async () => {
    const program = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK, '--listen', '/ip4/127.0.0.1/tcp/0/ws'])
    const report = JSON.parse(await program.line(0)) as { peerId: string, addresses: string[], health: string, splice: number }
    assert.deepEqual(Object.keys(report), ['peerId', 'addresses', 'health', 'splice'])
    assert.ok(Number.isInteger(report.splice) && report.splice > 0, String(report.splice))
    assert.equal(report.addresses.length, 2)
    for (const address of report.addresses) assert.ok(address.endsWith(`/p2p/${report.peerId}`), address)
    assert.match(report.health, /^127\.0\.0\.1:\d+$/)
    assert.deepEqual(await program.stop(), { code: 0, signal: null })
    for (const line of program.stderr().trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line) as unknown, line)
  })

  test('what is announced is what --announce says', async () => {
    const program = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK, '--announce', '/dns4/relay.example/tcp/443/wss'])
    const report = JSON.parse(await program.line(0)) as { peerId: string, addresses: string[] }
    assert.deepEqual(report.addresses, [`/dns4/relay.example/tcp/443/wss/p2p/${report.peerId}`])
    await program.stop()
  })

  test('I7: after kill -9 it starts again with the same PeerId', async () => {
    const relay = await createRelay({ dataDirectory: makeTempDirectory('relay') })
    const first = await relay.start()
    await relay.kill()
    const second = await relay.start()
    assert.equal(second.peerId, first.peerId)
    await relay.stop()
  })

  test('a second process on the same data directory is refused with a clear message', async () => {
    const dataDirectory = makeTempDirectory('relay')
    const first = start(['--data-dir', dataDirectory, ...LOOPBACK])
    await first.line(0)
    const second = await run('--data-dir', dataDirectory, ...LOOPBACK)
    assert.equal(second.exitCode, 1)
    assert.match(second.stderr, new RegExp(`another process \\(pid ${first.pid}\\) uses the data directory`))
    assert.equal(second.stdout, '')
    await first.stop()
  })

  test('a port in use is named', async () => {
    const relay = await createRelay({ dataDirectory: makeTempDirectory('relay') })
    await relay.start()
    const second = await run('--data-dir', makeTempDirectory('relay'), '--listen', `/ip4/127.0.0.1/tcp/${relay.port}`)
    assert.equal(second.exitCode, 1)
    assert.match(second.stderr, new RegExp(`cannot listen: .*${relay.port}`, 's'))
    await relay.stop()
  })

  test('I1: health answers, and neither metrics nor logs nor health name a peer or an address of a peer', async () => {
    const program = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK])
    const { peerId, addresses, health } = JSON.parse(await program.line(0)) as { peerId: string, addresses: string[], health: string }
    const get = async (path: string, method = 'GET'): Promise<Response> => fetch(`http://${health}${path}`, { method })
    const office = await startStockPeer({ relays: addresses })
    const laptop = await startStockPeer()
    await office.handle('/test/hold/1.0.0', () => { /* held */ }, { runOnLimitedConnection: true })
    await openStream(await dialOverRelay(laptop, addresses[0] ?? '', office), '/test/hold/1.0.0')

    assert.equal((await get('/healthz')).status, 200)
    assert.equal((await get('/readyz')).status, 200)
    assert.equal((await get('/nothing')).status, 404)
    assert.equal((await get('/metrics', 'POST')).status, 405)
    const body = await (await get('/metrics')).text()
    assert.match(body, /^carrier_relay_reservations_count 1$/m)
    assert.match(body, /^carrier_relay_circuits_count 1$/m)
    const said = `${body}${program.stderr()}`
    for (const name of [office, laptop].map((peer) => peer.peerId.toString())) assert.ok(!said.includes(name), `${name} is named`)
    assert.ok(!body.includes(peerId) && !/ip4|127\.0\.0\.1|did:/.test(body))
    await program.stop({ deadlineMs: 40_000, signal: 'SIGKILL' })
  })

  test('SIGTERM drains: not ready, running circuits may finish, then exit 0; a second signal ends at once', async () => {
    const program = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK, ...patientDrain()])
    const { addresses, health } = JSON.parse(await program.line(0)) as { addresses: string[], health: string }
    const office = await startStockPeer({ relays: addresses })
    const laptop = await startStockPeer()
    const { circuit, stop } = await openBusyCircuit(addresses[0] ?? '', laptop, office)
    process.kill(program.pid, 'SIGTERM')
    await waitFor('readyz to say no', async () => (await fetch(`http://${health}/readyz`)).status === 503, { deadlineMs: PATIENCE_MS })
    assert.equal(program.hasExited(), false)
    stop()
    await circuit.close()
    assert.deepEqual(await within('the end', PATIENCE_MS, program.exited), { code: 0, signal: null })

    const stubborn = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK, ...patientDrain()])
    const report = JSON.parse(await stubborn.line(0)) as { addresses: string[], health: string }
    const guest = await startStockPeer({ relays: report.addresses })
    const busy = await openBusyCircuit(report.addresses[0] ?? '', laptop, guest)
    process.kill(stubborn.pid, 'SIGTERM')
    await waitFor('the drain', async () => (await fetch(`http://${report.health}/readyz`)).status === 503, { deadlineMs: PATIENCE_MS })
    process.kill(stubborn.pid, 'SIGTERM')
    // code 1 is the second signal's alone: a drain that ends by itself gives 0
    assert.deepEqual(await within('the end', PATIENCE_MS, stubborn.exited), { code: 1, signal: null })
    busy.stop()
  })

  test('idle circuits do not hold up the end: SIGTERM with one of them is over within the quiet time', async () => {
    // it has an hour for circuits that move: whatever ends sooner has fallen quiet
    const program = start(['--data-dir', makeTempDirectory('relay'), ...LOOPBACK, ...patientDrain()])
    const { addresses } = JSON.parse(await program.line(0)) as { addresses: string[] }
    const office = await startStockPeer({ relays: addresses })
    await dialOverRelay(await startStockPeer(), addresses[0] ?? '', office)
    assert.deepEqual(await program.stop({ deadlineMs: PATIENCE_MS }), { code: 0, signal: null })
  })

  test('flags win over the environment, the environment over the file', async () => {
    const directory = makeTempDirectory('relay')
    const file = join(directory, 'relay.toml')
    writeFileSync(file, `data_dir = "${join(directory, 'file')}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nannounce = ["/ip4/192.0.2.1/tcp/1"]\n`)
    const program = start(['--config', file, '--announce', '/ip4/192.0.2.3/tcp/3'], { CARRIER_BOOTSTRAP_DATA_DIR: join(directory, 'environment'), CARRIER_BOOTSTRAP_ANNOUNCE: '/ip4/192.0.2.2/tcp/2' })
    const { addresses } = JSON.parse(await program.line(0)) as { addresses: string[] }
    assert.match(addresses[0] ?? '', /192\.0\.2\.3/)
    assert.ok(readFileSync(join(directory, 'environment', 'identity.key')).length > 0)
    await program.stop()
  })

  test('wrong usage and wrong configuration end with code 2, the place and the reason', async () => {
    const directory = makeTempDirectory('relay')
    const file = join(directory, 'relay.toml')
    const cases: Array<[string, RegExp]> = [
      ['# fine\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nbandwith = 3\n', /relay\.toml:3: bandwith: unknown key/],
      ['[relay]\n\nmax_circuits = "many"\n', /relay\.toml:3: relay\.max_circuits: /],
      ['listen = [\n  "/ip4/127.0.0.1/tcp/1",\n  "/ip4/127.0.0.1/udp/1/quic-v1"\n]\n', /relay\.toml:3: listen\.1: .*cannot be listened on/],
      ['peers = ["/ip4/192.0.2.1/tcp/4001"]\n', /relay\.toml:1: peers\.0: .*PEERID/],
      ['listen = [\n', /relay\.toml:\d+: /]
    ]
    for (const [text, expected] of cases) {
      writeFileSync(file, text)
      const result = await run('--config', file, '--data-dir', directory)
      assert.equal(result.exitCode, 2, result.stderr)
      assert.match(result.stderr, expected)
    }
    for (const args of [['--listne', 'x'], ['extra'], ['--listen', 'nonsense'], ['--health', 'nowhere'], ['--config', join(directory, 'absent.toml')]]) {
      const result = await run('--data-dir', directory, ...args)
      assert.equal(result.exitCode, 2, `${args.join(' ')}: ${result.stderr}`)
      assert.equal(result.stdout, '')
    }
    assert.match((await run('--help')).stdout, /usage: carrier-bootstrap/)
    assert.match((await run('--version')).stdout, /^\d+\.\d+\.\d+\n$/)
  })
})
