/** The command line as a process, against a control server whose engine is a fake: exit codes, stdout and stderr. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { after, before, test } from 'node:test'
import { CarrierError, silentLogger, systemClock } from '../../src/base/index.ts'
import { createControlServer } from '../../src/control/server/index.ts'
import type { ControlServer } from '../../src/control/server/index.ts'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { FAKE_DIDS, createFakeCarrier, echo } from '../support/fake-carrier.ts'
import { runProgram, startProgram } from '../support/program.ts'
import type { Program, ProgramResult } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'

const dataDirectory = makeTempDirectory('cli')
const fake = createFakeCarrier()
const launcher = ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier.js')]
const env = { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: dataDirectory }
let server: ControlServer

before(async () => {
  server = createControlServer({ carrier: fake.carrier, log: silentLogger, clock: systemClock }, {
    dataDirectory,
    fallbackDirectories: [],
    info: { pid: process.pid, version: '0.1.0', dataDirectory, startedAt: 1, relays: [], listen: 'none', port: 0 },
    requestStop: () => {}
  })
  await server.start()
  fake.remotes.set('office/echo', echo)
})
after(async () => { await server.stop() })

async function carrier (args: string[], input = ''): Promise<ProgramResult> {
  return runProgram(process.execPath, [...launcher, ...args], { env, input, name: `carrier ${args[0] ?? ''}` })
}

function start (...args: string[]): Program {
  return startProgram(process.execPath, [...launcher, ...args], { env, name: `carrier ${args[0] ?? ''}` })
}

test('exit codes: 0 ok, 1 failed, 2 usage, 3 no such service, 4 offline', async () => {
  fake.friends.push({ owner: FAKE_DIDS.stranger, devices: [], label: 'away', state: 'friend', addedAt: 1, lastSeenAt: undefined })
  fake.offline.add('away')
  for (const [args, exitCode] of [
    [['status'], 0], [['help'], 0], [['friend', 'add', '--help'], 0], [['version'], 0],
    [['friend', 'remove', 'nobody'], 1], [['unserve', 'nothing'], 1], [['down', '--data-dir', makeTempDirectory('none')], 1],
    [[], 2], [['bogus'], 2], [['friend'], 2], [['friend', 'add'], 2], [['status', 'extra'], 2], [['status', '--bogus'], 2], [['forward', '99999', 'office/echo'], 2], [['completion', 'csh'], 2], [['friend', 'add', 'nonsense'], 2],
    [['forward', '0', 'office/hidden'], 3], [['nc', 'office/hidden'], 3],
    [['ping', 'away'], 4], [['nc', 'away/echo'], 4], [['services', 'away'], 4], [['forward', '0', 'away/echo'], 4]
  ] as Array<[string[], number]>) {
    const result = await carrier(args)
    assert.equal(result.exitCode, exitCode, `carrier ${args.join(' ')}: ${result.stderr}${result.stdout}`)
    if (exitCode !== 0) assert.notEqual(result.stderr, '', args.join(' '))
    assert.doesNotMatch(result.stderr, /\n\s+at /, 'no stack traces for people')
  }
})

test('--json and --data-dir stand before or after the command; results on stdout, errors as JSON on stderr', async () => {
  for (const args of [['status', '--json'], ['--json', 'status'], ['--data-dir', dataDirectory, 'status', '--json'], ['status', '--json', '--data-dir', dataDirectory]]) {
    const { stdout, stderr } = await carrier(args)
    assert.equal((JSON.parse(stdout) as { did: string }).did, FAKE_DIDS.me)
    assert.equal(stderr, '')
  }
  const failed = await carrier(['friend', 'remove', 'nobody', '--json'])
  assert.equal(failed.stdout, '')
  assert.equal((JSON.parse(failed.stderr) as { error: { code: string } }).error.code, 'ERR_UNKNOWN_FRIEND')
})

test('a forward to an offline friend says that it stays, and still gives its JSON', async () => {
  const { exitCode, stdout, stderr } = await carrier(['forward', '127.0.0.1:0', 'away/echo', '--json'])
  assert.equal(exitCode, 4)
  assert.equal((JSON.parse(stdout) as { state: string }).state, 'offline')
  assert.match(stderr, /away is offline.*stays configured/)
})

test('what strangers write cannot steer the terminal, in text and in JSON', async () => {
  const hello = 'hi\u001b[2J\u0007\u009b31m\u202Egnp.exe\nDID  accepted'
  fake.requests.push({ did: FAKE_DIDS.stranger, name: 'friend-p5rdjv', hello, receivedAt: 1, expiresAt: 2, state: 'pending' })
  const text = await carrier(['friend', 'requests'])
  const json = await carrier(['friend', 'requests', '--json'])
  fake.requests.length = 0
  for (const { stdout } of [text, json]) assert.doesNotMatch(stdout.replaceAll('\n', ''), /[\p{Cc}\p{Cf}]/u)
  assert.ok(!text.stdout.split('\n').some((row) => row.trim().startsWith('DID  accepted')), 'a line break in a hello makes no row')
  assert.ok(text.stdout.includes('\\nDID  accepted'), 'it is shown as an escape')
  assert.equal((JSON.parse(json.stdout) as Array<{ hello: string }>)[0]?.hello, hello, 'JSON keeps the value')
})

test('I4: nc passes bytes both ways unchanged and half-closes', async () => {
  const sent = randomBytes(3 * 1024 * 1024)
  const nc = start('nc', 'office/echo')
  nc.stdin.end(sent)
  const { code } = await nc.exited
  assert.equal(code, 0, nc.stderr())
  assert.ok(nc.output().equals(sent))
})

test('nc tells its reader that the far side has ended while stdin is still open', async () => {
  const received: Buffer[] = []
  const far = new Duplex({ allowHalfOpen: true, read: () => {}, write: (chunk: Buffer, _encoding, done) => { received.push(chunk); done() } })
  fake.remotes.set('office/talker', () => far)
  const nc = start('nc', 'office/talker')
  const ended = once(nc.stdoutStream, 'end')
  far.push('greeting')
  far.push(null)
  await ended
  assert.equal(nc.stdout(), 'greeting')
  assert.ok(!nc.hasExited())
  nc.stdin.end('later')
  assert.equal((await nc.exited).code, 0, nc.stderr())
  assert.equal(Buffer.concat(received).toString(), 'later')
})

test('I4: nc on a lost link fails, writes what arrived before, and says why', async () => {
  const far = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => { done() } })
  fake.remotes.set('office/lost', () => far)
  const nc = start('nc', 'office/lost')
  far.push('half a sen')
  await waitFor('the first bytes', () => nc.stdout() === 'half a sen', { deadlineMs: PATIENCE_MS })
  far.destroy(new CarrierError('ERR_LINK_LOST', 'the link is gone'))
  assert.equal((await nc.exited).code, 1)
  assert.equal(nc.stderr(), 'carrier: the link is gone\n')
  assert.equal(nc.stdout(), 'half a sen')
})

test('I4: an interrupted nc is a reset for the far side, never an end', async () => {
  let hasEnded = false
  let bytes = 0
  let error: Error | undefined
  const far = new Duplex({
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => { bytes += chunk.length; done() },
    final: (done) => { hasEnded = true; done() }
  })
  far.on('error', (err) => { error = err })
  fake.remotes.set('office/sink', () => far)
  const nc = start('nc', 'office/sink')
  nc.stdin.write('half a dump')
  await waitFor('the first bytes', () => bytes > 0, { deadlineMs: PATIENCE_MS })
  await nc.stop()
  await waitFor('the reset', () => error !== undefined, { deadlineMs: PATIENCE_MS })
  assert.ok(!hasEnded)
  assert.equal((error as { code?: string } | undefined)?.code, 'ERR_RESET')
})
