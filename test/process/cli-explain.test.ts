/** `carrier doctor` and `carrier trace` as a person runs them: without a daemon, with one, and with what can be wrong. */
import assert from 'node:assert/strict'
import { chmodSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import test from 'node:test'
import type { z } from 'zod'
import type { JSON_SHAPES } from '../../bin/json-shapes.ts'
import { acquireStateLock, silentLogger, systemClock } from '../../src/base/index.ts'
import { createControlServer } from '../../src/control/server/index.ts'
import { createRelay } from '../support/bootstrap.ts'
import { createCli } from '../support/cli.ts'
import type { Cli } from '../support/cli.ts'
import { createDaemon } from '../support/daemon.ts'
import { createFakeCarrier } from '../support/fake-carrier.ts'
import { freePort, startEcho } from '../support/target-server.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'

type Report = z.output<typeof JSON_SHAPES.doctor>
type Trace = z.output<typeof JSON_SHAPES.trace>

const DEAD_RELAY = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi'

/** A data directory that does not exist yet. */
function freshCli (environment: Record<string, string> = {}): Cli {
  return createCli(join(makeTempDirectory('explain'), 'data'), environment)
}

/** Runs doctor, whatever its exit code; that must be 1 exactly when something failed. */
async function doctor (cli: Cli): Promise<Report> {
  const { exitCode, stdout, stderr } = await cli.run('doctor', '--json')
  assert.equal(stderr, '')
  const report = JSON.parse(stdout) as Report
  assert.equal(report.result, (['fail', 'warn'] as const).find((result) => report.checks.some((check) => check.result === result)) ?? 'ok')
  assert.equal(exitCode, report.result === 'fail' ? 1 : 0, stdout)
  for (const { result, text, advice } of report.checks) if (result === 'fail') assert.ok(advice !== undefined, `${text}: and now?`)
  return report
}

/** What is not well but for what the machine of the test has or lacks. */
function worrying ({ checks }: Report): Report['checks'] {
  return checks.filter(({ name, result }) => result !== 'ok' && !['memory', 'disk', 'routes', 'open files', 'runtime', 'router'].includes(name))
}

/** Result and text of the first check of a name. */
function seen ({ checks }: Report, name: string): string {
  const check = checks.find((item) => item.name === name)
  return `${check?.result ?? 'absent'}: ${check?.text ?? ''} ${check?.advice ?? ''}`
}

test('doctor without a daemon', async (t) => {
  await t.test('before the first start only warns, says what to run, and makes nothing', async () => {
    const cli = freshCli()
    const report = await doctor(cli)
    assert.notEqual(report.result, 'fail', JSON.stringify(report))
    assert.match(seen(report, 'daemon'), /^warn: none runs here .*carrier up$/)
    assert.match(seen(report, 'data directory'), /^warn: .* does not exist yet/)
    assert.match(seen(report, 'relay'), /^warn: none in carrier\.toml or CARRIER_RELAYS/)
    assert.equal(statSync(cli.dataDirectory, { throwIfNoEntry: false }), undefined)
    const text = await cli.text('doctor')
    assert.match(text, /^RESULT {2}CHECK +WHAT\nwarn +daemon +none runs here\n +→ start it: carrier up\n/)
    assert.match(text, /\n\d+ checks: 0 failures, \d+ warnings\n$/)
  })

  await t.test('finds wrong settings with FILE:LINE, and relays that are not there', async () => {
    const directory = makeTempDirectory('explain')
    const config = join(directory, 'carrier.toml')
    writeFileSync(config, `relays = ["${DEAD_RELAY}"]\n`)
    const cli = createCli(join(directory, 'data'), { CARRIER_CONFIG: config })
    const dead = await doctor(cli)
    assert.match(seen(dead, 'config'), /^ok: .*carrier\.toml is right/)
    assert.match(seen(dead, 'relay'), /^fail: nothing listens at its address/)
    writeFileSync(config, 'relays = []\nrealys = []\n')
    assert.match(seen(await doctor(cli), 'config'), /^fail: .*carrier\.toml:2: unknown key "realys"/)
    assert.match(seen(await doctor(freshCli({ CARRIER_RELAYS: 'nonsense' })), 'settings'), /^fail: CARRIER_RELAYS: /)
    assert.match(seen(await doctor(freshCli({ CARRIER_PASSPHRASE_FILE: join(directory, 'absent') })), 'passphrase'), /^fail: /)
  })

  await t.test('finds an open directory, a clock that was set back, and a damaged database', async () => {
    const cli = freshCli()
    await cli.text('up')
    await cli.text('down')
    const sound = await doctor(cli)
    assert.notEqual(sound.result, 'fail', JSON.stringify(sound))
    for (const name of ['data directory', 'identity', 'state', 'audit', 'clock']) assert.match(seen(sound, name), /^ok: /, name)
    chmodSync(cli.dataDirectory, 0o755)
    assert.match(seen(await doctor(cli), 'data directory'), /^warn: other accounts may enter/)
    chmodSync(cli.dataDirectory, 0o700)
    const database = new DatabaseSync(join(cli.dataDirectory, 'state.db'))
    database.exec(`UPDATE clock_state SET last_seen_at = ${Date.now() + 86_400_000}`)
    database.close()
    assert.match(seen(await doctor(cli), 'clock'), /^fail: the clock of this machine .* is earlier than when Carrier last ran/)
    for (const name of ['state.db', 'state.db-wal', 'state.db-shm']) rmSync(join(cli.dataDirectory, name), { force: true })
    writeFileSync(join(cli.dataDirectory, 'state.db'), Buffer.alloc(8192, 'not a database'))
    assert.match(seen(await doctor(cli), 'state'), /^fail: .*state\.db cannot be used/)
  })

  await t.test('tells a daemon that is gone from one that hangs', async () => {
    const cli = freshCli()
    const daemon = createDaemon({ name: 'lost', dataDirectory: cli.dataDirectory, relays: [] })
    await daemon.start()
    // it takes calls and never answers
    const { pid } = daemon.program()
    process.kill(pid, 'SIGSTOP')
    try {
      assert.match(seen(await doctor(cli), 'daemon'), new RegExp(`^fail: process ${pid} holds the data directory and does not answer`))
    } finally {
      process.kill(pid, 'SIGCONT')
      await daemon.kill()
    }
    assert.match(seen(await doctor(cli), 'daemon'), /^warn: none runs here; one that was killed left its socket/)
    // something holds the lock and takes no calls
    const lock = acquireStateLock(cli.dataDirectory)
    try {
      assert.match(seen(await doctor(cli), 'daemon'), new RegExp(`^fail: process ${process.pid} holds the data directory`))
    } finally {
      lock.release()
    }
  })
})

test('doctor says when the daemon has another version', async () => {
  const cli = freshCli()
  const fake = createFakeCarrier()
  Object.assign(fake.carrier, { doctor: async () => ({ checks: [] }) })
  const server = createControlServer({ carrier: fake.carrier, log: silentLogger, clock: systemClock }, {
    dataDirectory: cli.dataDirectory, fallbackDirectories: [], info: { pid: process.pid, version: '9.9.9', dataDirectory: cli.dataDirectory, startedAt: 1, relays: [], listen: 'none', port: 0 }, requestStop: () => {}
  })
  await server.start()
  const report = await doctor(cli)
  await server.stop()
  assert.match(seen(report, 'daemon'), /^warn: process \d+ answers, version 9\.9\.9; this command has version .*carrier down, then carrier up/)
})

test('doctor and trace with two daemons and a relay', { timeout: 600_000 }, async (t) => {
  const directory = makeTempDirectory('explain')
  const relay = await createRelay({ dataDirectory: join(directory, 'relay') })
  await relay.start()
  const config = join(directory, 'carrier.toml')
  writeFileSync(config, 'log_level = "info"\n')
  const office = createCli(join(directory, 'office'), { CARRIER_RELAYS: relay.address(), CARRIER_CONFIG: config })
  const laptop = createCli(join(directory, 'laptop'), { CARRIER_RELAYS: relay.address() })
  const echo = await startEcho()
  t.after(async () => {
    await Promise.all([office.run('down'), laptop.run('down')])
    await relay.stop()
    await echo.close()
  })
  // the file is older than the daemon on any clock
  utimesSync(config, 1, 1)
  const [officeUp] = await Promise.all([office.json('up', 'up'), laptop.json('up', 'up')])
  await laptop.text('friend', 'add', officeUp.address ?? '', '--label', 'office')
  const request = await waitFor('the request', async () => (await office.json('friend requests', 'friend', 'requests'))[0], { deadlineMs: PATIENCE_MS, intervalMs: 200 })

  await t.test('trace says that nobody has accepted yet', async () => {
    const { exitCode, stdout } = await laptop.run('trace', 'office/echo')
    assert.equal(exitCode, 4)
    assert.match(stdout, /office has not accepted your request yet/)
  })

  await office.text('friend', 'accept', request.name, '--label', 'laptop')
  await office.text('serve', 'echo', echo.target, '--allow', 'laptop')
  await office.text('serve', 'down', String(await freePort()), '--allow', 'laptop')
  await office.text('serve', 'hidden', echo.target)
  await waitFor('the friend to be online', async () => (await laptop.json('status', 'status')).friends[0]?.presence === 'online', { deadlineMs: PATIENCE_MS, intervalMs: 200 })

  await t.test('trace takes every step to a service that answers', async () => {
    const report = await laptop.json('trace', 'trace', 'office/echo')
    assert.deepEqual([report.did, report.label, report.service, report.code], [officeUp.did, 'office', 'echo', undefined])
    assert.deepEqual(report.steps.map(({ step, result }) => `${step} ${result}`), ['friend ok', 'session ok', 'way ok', 'relay ok', 'offer ok', 'open ok', 'answer ok'])
    const text = await laptop.text('trace', 'office/echo')
    assert.match(text, /^STEP +RESULT +TIME\nfriend +ok +- +office is did:key:[^]*\nanswer +ok +[\d.]+ ms +a connection[^]*\na connection to office\/echo takes [\d.]+ ms: /)
  })

  await t.test('I3: trace ends as a connection would, and hidden is missing', async () => {
    const ends: Array<[number | null, string]> = []
    for (const name of ['hidden', 'missing']) {
      const { exitCode, stdout } = await laptop.run('trace', `office/${name}`, '--json')
      const { steps, summary } = JSON.parse(stdout) as Trace
      // session and link may have changed between the two, and the words about the relay depend on the round trip measured
      const isOfTheWay = (step: string): boolean => step === 'session' || step === 'way' || step === 'relay'
      ends.push([exitCode, JSON.stringify([steps.map(({ step, result, text }) => [step, result, isOfTheWay(step) ? '' : text]), summary]).replaceAll(name, 'X')])
    }
    assert.deepEqual(ends[0], ends[1])
    assert.equal(ends[0]?.[0], 3)
    const down = await laptop.run('trace', 'office/down')
    assert.equal(down.exitCode, 1)
    assert.match(down.stdout, /open +failed[^]*the program behind "down" did not/)
    assert.equal(await laptop.fails(1, /bob/, 'trace', 'bob/echo'), 'ERR_UNKNOWN_FRIEND')
    assert.equal(await laptop.fails(2, /WHO\/SERVICE/, 'trace', 'office'), 'ERR_INVALID_ARGUMENT')
  })

  await t.test('doctor finds the target that is down and the forward to it, and all else well', async () => {
    await laptop.run('forward', '0', 'office/down')
    const there = await doctor(office)
    assert.deepEqual(worrying(there).map(({ name, subject, result }) => [name, subject, result]), [['service', 'down', 'fail']], JSON.stringify(there.checks))
    assert.match(seen(there, 'relay'), /^ok: reserved, .*; data port \d+ answered in/)
    assert.match(seen(there, 'friends'), /^ok: 1 of 1 online/)
    assert.match(seen(there, 'config'), /^ok: .*carrier\.toml is right/)
    assert.match(seen(there, 'audit log'), /^ok: /)
    const here = await doctor(laptop)
    assert.deepEqual(worrying(here).map(({ name, result }) => [name, result]), [['forward', 'fail']], JSON.stringify(here.checks))
    assert.match(seen(here, 'forward'), /carrier trace office\/down/)
  })

  await t.test('doctor sees what was changed under a running daemon', async () => {
    utimesSync(config, Date.now() / 1000 + 60, Date.now() / 1000 + 60)
    assert.match(seen(await doctor(office), 'config'), /^warn: .* was changed after the daemon had read it/)
    writeFileSync(config, 'nonsense\n')
    assert.match(seen(await doctor(office), 'config'), /^fail: .*carrier\.toml:1/)
    chmodSync(office.dataDirectory, 0o755)
    assert.match(seen(await doctor(office), 'data directory'), /^warn: other accounts/)
    chmodSync(office.dataDirectory, 0o700)
    writeFileSync(config, 'log_level = "info"\n')
  })

  await t.test('a dead relay: doctor fails, and trace says what to look at', async () => {
    await relay.kill()
    const report = await waitFor('the loss to be seen', async () => {
      const now = await doctor(laptop)
      return now.checks.some(({ name, result }) => name === 'relay' && result === 'fail') && now
    }, { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    assert.match(seen(report, 'relay'), /^fail: (unreachable|refused): /)
    assert.match(seen(report, 'reachable'), /^fail: nobody can reach this node/)
    const { exitCode, stdout } = await laptop.run('trace', 'office/echo', '--json')
    const { steps, advice } = JSON.parse(stdout) as Trace
    assert.ok(exitCode === 4 || exitCode === 5, String(exitCode))
    assert.deepEqual(steps.map(({ step, result }) => `${step} ${result}`), ['friend ok', 'session failed'])
    assert.match(advice.join(), /relay/)
  })
})
