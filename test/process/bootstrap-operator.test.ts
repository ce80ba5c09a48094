/** carrier-bootstrap's commands beside the relay itself, as an operator types them. */
import assert from 'node:assert/strict'
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { mustRun, runProgram, startProgram } from '../support/program.ts'
import type { Program, ProgramResult } from '../support/program.ts'
import { dialOverRelay, openStream, startStockPeer, stopStockPeers } from '../support/stock-peer.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../support/wait.ts'

const BIN = join(ROOT, 'bin', 'carrier-bootstrap.js')

async function run (...args: string[]): Promise<ProgramResult> {
  return runProgram(process.execPath, ['--conditions=carrier-source', BIN, ...args], { env: carrierFreeEnvironment(), deadlineMs: PATIENCE_MS })
}

const started: Program[] = []

/** A relay with a configuration file of this text. */
async function startRelay (text: string): Promise<{ program: Program, file: string, directory: string, report: { peerId: string, addresses: string[], health: string } }> {
  const directory = makeTempDirectory('relay')
  const file = join(directory, 'relay.toml')
  writeFileSync(file, `data_dir = "${directory}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nhealth = "127.0.0.1:0"\n${text}`)
  const program = startProgram(process.execPath, ['--conditions=carrier-source', BIN, '--config', file], { env: carrierFreeEnvironment(), name: 'carrier-bootstrap' })
  started.push(program)
  return { program, file, directory, report: JSON.parse(await program.line(0)) as { peerId: string, addresses: string[], health: string } }
}

/** Sums up a metric over its labels. */
async function metric (health: string, line: string): Promise<number> {
  const text = await (await fetch(`http://${health}/metrics`)).text()
  return Number(text.split('\n').find((candidate) => candidate.startsWith(`${line} `))?.split(' ').at(-1) ?? 0)
}

describe('carrier-bootstrap for operators', () => {
  after(stopStockPeers)
  after(async () => { await Promise.all(started.map(async (program) => { await program.stop({ signal: 'SIGKILL' }) })) })

  test('check names file, line and reason of what is wrong, also in the files that a configuration names, and starts nothing', async () => {
    const directory = makeTempDirectory('check')
    const file = join(directory, 'relay.toml')
    const list = join(directory, 'members.txt')
    const data = join(directory, 'data')
    const cases: Array<[string, number, RegExp]> = [
      [`data_dir = "${data}"\n`, 0, /^.*relay\.toml: ok; it serves everybody, listens on /],
      ['[quotas.stranger]\n\nbytes_per_second = "many"\n', 2, /relay\.toml:3: quotas\.stranger\.bytes_per_second: /],
      [`[admission]\nmembers_file = "${list}"\n`, 2, /members\.txt:2: "nobody" is neither a DID/],
      ['[tls]\ncert_file = "/nowhere/cert.pem"\nkey_file = "/nowhere/key.pem"\n', 2, /relay\.toml:2: the TLS file \/nowhere\/cert\.pem cannot be read/],
      ['[admission]\nfriends_file = "/nowhere/friends.txt"\n', 2, /relay\.toml:2: the admission list \/nowhere\/friends\.txt cannot be read/],
      ['[admission]\n\nmode = "members"\n', 2, /relay\.toml:3: admission\.mode is "members", but nobody is on its list/]
    ]
    writeFileSync(list, '# people\nnobody\n')
    for (const [text, exitCode, expected] of cases) {
      writeFileSync(file, text)
      const result = await run('check', file)
      assert.equal(result.exitCode, exitCode, `${text}${result.stderr}`)
      assert.match(exitCode === 0 ? result.stdout : result.stderr, expected)
    }
    assert.ok(!existsSync(data))
    assert.equal((await run('check')).exitCode, 2)
    assert.equal((await run('check', file, 'more')).exitCode, 2)
    assert.match((await run('paint')).stderr, /there is no command "paint"/)
  })

  test('status, peers and reload speak to the running relay; SIGHUP reads the file again and a wrong one stays out', async () => {
    const { program, file, directory, report } = await startRelay('log_level = "info"\n')
    await startStockPeer({ relays: report.addresses })
    const status = JSON.parse((await run('status', '--config', file, '--json')).stdout) as Record<string, unknown>
    assert.deepEqual([status['peerId'], status['reservations'], status['isReady'], status['pid']], [report.peerId, 1, true, program.pid])
    assert.match((await run('status', '--data-dir', directory)).stdout, /^ready, up [^]*serves {8}everybody\n$/)
    const peers = await run('peers', '--data-dir', directory, '--json')
    assert.deepEqual(JSON.parse(peers.stdout), [{ who: '127.0.…', class: 'stranger', reservations: 1, circuits: 0, sentTodayBytes: 0, limits: { reservations: 512, circuits: 1024 } }])
    assert.match((await run('peers', '--data-dir', directory, '--full')).stdout, /127\.0\.0\.1 +stranger +1 of 512 +0 of 1024 +0 +any/)

    const base = `data_dir = "${directory}"\nlisten = ["/ip4/127.0.0.1/tcp/0"]\nhealth = "127.0.0.1:0"\n`
    writeFileSync(file, `${base}log_level = "debug"\ndrain_seconds = 7\n`)
    assert.equal((await run('reload', '--data-dir', directory)).stdout, 'changed: log_level, drain_seconds\n')
    writeFileSync(file, `${base}drain_seconds = "x"\n`)
    process.kill(program.pid, 'SIGHUP')
    await waitFor('the refusal', async () => await metric(report.health, 'carrier_relay_config_reloads_total{result="refused"}') === 1, { deadlineMs: PATIENCE_MS })
    await waitFor('the reason in the log', () => /relay\.toml:4: drain_seconds: /.test(program.stderr()), PATIENT)
    writeFileSync(file, `${base}listen = []\n`)
    const refused = await run('reload', '--data-dir', directory)
    assert.equal(refused.exitCode, 2)
    assert.match(refused.stderr, /relay\.toml:4: .*the old one stays/s)
    assert.equal(await metric(report.health, 'carrier_relay_reservations_count'), 1)
    assert.ok(await metric(report.health, 'carrier_relay_config_last_success_seconds') > 1_700_000_000)
    for (const line of program.stderr().trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line) as unknown, line)
  })

  test('SIGHUP while it starts does not end it, and is obeyed when it is up', async () => {
    const directory = makeTempDirectory('relay')
    const passphrase = join(directory, 'passphrase')
    await mustRun('mkfifo', [passphrase])
    const program = startProgram(process.execPath, ['--conditions=carrier-source', BIN, '--data-dir', join(directory, 'data'), '--listen', '/ip4/127.0.0.1/tcp/0', '--health', '127.0.0.1:0'], { env: { ...carrierFreeEnvironment(), CARRIER_PASSPHRASE_FILE: passphrase }, name: 'carrier-bootstrap' })
    started.push(program)
    // it stands where it reads its passphrase, before anything is open; without a reader this fails with ENXIO
    const pipe = await waitFor('it to read its passphrase', () => openSync(passphrase, constants.O_WRONLY | constants.O_NONBLOCK), { deadlineMs: PATIENCE_MS, intervalMs: 10 })
    process.kill(program.pid, 'SIGHUP')
    writeSync(pipe, 'a long enough passphrase\n')
    closeSync(pipe)
    const report = JSON.parse(await program.line(0)) as { health: string }
    await waitFor('the reload', async () => await metric(report.health, 'carrier_relay_config_reloads_total{result="ok"}') === 1, { deadlineMs: PATIENCE_MS })
    // what an alert on the first refusal compares with
    assert.match(await (await fetch(`http://${report.health}/metrics`)).text(), /^carrier_relay_config_reloads_total\{result="refused"\} 0$/m)
    assert.deepEqual(await program.stop({ deadlineMs: PATIENCE_MS }), { code: 0, signal: null })
  })

  test('drain tells the relay to end, waits for it and gives 0; without a relay the commands say so', async () => {
    const { program, directory } = await startRelay('')
    const result = await run('drain', '--data-dir', directory)
    assert.equal(result.exitCode, 0, result.stderr)
    assert.equal(result.stdout, 'drained and stopped\n')
    assert.deepEqual(await within('the end', PATIENCE_MS, program.exited), { code: 0, signal: null })
    const none = await run('status', '--data-dir', directory)
    assert.equal(none.exitCode, 1)
    assert.match(none.stderr, /no relay answers at .*control\.sock/)
  })

  test('SIGTERM without another relay: what does not end by itself is ended when the drain time is over, which is said, and the exit is 0', async () => {
    const { program, report } = await startRelay('drain_seconds = 2\n')
    const [office, laptop] = [await startStockPeer({ relays: report.addresses }), await startStockPeer()]
    await office.handle('/test/busy/1.0.0', (stream) => { stream.addEventListener('message', () => { /* taken */ }) }, { runOnLimitedConnection: true })
    const stream = await openStream(await dialOverRelay(laptop, report.addresses[0] ?? '', office), '/test/busy/1.0.0')
    const timer = setInterval(() => { if (stream.status === 'open') stream.send(new Uint8Array(1000)) }, 50).unref()
    assert.deepEqual(await program.stop({ deadlineMs: PATIENCE_MS }), { code: 0, signal: null })
    clearInterval(timer)
    assert.match(program.stderr(), /the drain time is over: what still runs is ended/)
    assert.match(program.stderr(), /"circuits":1/)
  })

  test('what it stores and says is what the guide lists: no peer, no address of a peer, in files, logs and metrics', async () => {
    const { program, directory, report } = await startRelay('[quotas.stranger]\nbytes_per_day = 1000000000\n')
    const [office, laptop] = [await startStockPeer({ relays: report.addresses }), await startStockPeer()]
    await office.handle('/test/sink/1.0.0', (stream) => { stream.addEventListener('message', () => { /* taken */ }) }, { runOnLimitedConnection: true })
    const circuit = await dialOverRelay(laptop, report.addresses[0] ?? '', office)
    const stream = await openStream(circuit, '/test/sink/1.0.0')
    stream.send(new Uint8Array(200_000))
    await waitFor('the bytes to pass', async () => await metric(report.health, 'carrier_relay_forwarded_bytes_total') > 200_000, { deadlineMs: PATIENCE_MS })
    const metricsText = await (await fetch(`http://${report.health}/metrics`)).text()
    const running = new Set(readdirSync(directory))
    await circuit.close()
    assert.deepEqual(await program.stop({ deadlineMs: PATIENCE_MS }), { code: 0, signal: null })
    assert.deepEqual([...running].filter((name) => !/\.db-(wal|shm|journal)$/.test(name)).toSorted(), ['control.sock', 'identity.key', 'lock.db', 'lock.pid', 'relay.toml', 'usage.db'])
    const left = readdirSync(directory)
    assert.ok(!left.includes('control.sock'))
    const files = left.filter((name) => name !== 'relay.toml').map((name) => readFileSync(join(directory, name)))
    const said = [...files, Buffer.from(metricsText), Buffer.from(program.stderr())]
    for (const peer of [office, laptop]) {
      const { bytes } = peer.peerId.toMultihash()
      const names = [Buffer.from(peer.peerId.toString()), Buffer.from(Buffer.from(bytes).toString('hex')), Buffer.from(bytes)]
      for (const name of names) assert.ok(said.every((content) => !content.includes(name)), name.toString('hex'))
    }
    assert.ok(!files.some((content) => content.includes('127.0.0.1')), 'source addresses are not stored')
    assert.ok(!metricsText.includes('127.0.0.1'))
    assert.ok(readFileSync(join(directory, 'usage.db')).includes('CREATE TABLE usage'))
  })
})
