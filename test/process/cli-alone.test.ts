/** The command line of one machine, without friends: starting, stopping, settings, bad input. */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import test from 'node:test'
import { waitForProcessEnd } from '../../bin/process-end.ts'
import { CARRIER, createCli } from '../support/cli.ts'
import type { Cli } from '../support/cli.ts'
import { carrierFreeEnvironment } from '../support/daemon.ts'
import { runProgram, startProgram } from '../support/program.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'

const RELAY = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGbWQgMtFTrmB3LGZrnUEvTEbVNNwKSRzJYFJgnZTyuAi'
const OTHER_RELAY = RELAY.replace('/9/', '/10/')

/** A data directory that does not exist yet. */
function freshCli (environment: Record<string, string> = {}): Cli {
  return createCli(join(makeTempDirectory('cli'), 'data'), environment)
}

test('what needs no daemon works without one', async () => {
  const cli = freshCli()
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string }
  assert.equal(await cli.text('version'), `${version}\n`)
  assert.deepEqual(await cli.json('version', 'version'), { version })
  assert.match(await cli.text('help'), /^Usage: carrier /)
  assert.ok(!existsSync(cli.dataDirectory), 'looking leaves nothing behind')
})

test('without a daemon a command ends with 1 and says what to run', async () => {
  const cli = freshCli()
  for (const args of [['status'], ['id'], ['down'], ['friend', 'list'], ['nc', 'a/b']]) {
    assert.equal(await cli.fails(1, /no daemon runs on .*; run: carrier up$/, ...args), 'ERR_NOT_RUNNING')
  }
  assert.equal((await cli.run('status')).stderr, `carrier: no daemon runs on ${cli.dataDirectory}; run: carrier up\n`)
  const elsewhere = join(makeTempDirectory('cli'), 'with space')
  const { stderr } = await cli.run('status', '--data-dir', elsewhere)
  assert.match(stderr, new RegExp(`run: carrier up --data-dir '${elsewhere}'\n$`), 'can be pasted')
})

test('wrong values of options and arguments end with 2 and say what is right', async () => {
  const cli = freshCli()
  for (const [message, ...args] of [
    [/0 to 65535/, 'up', '--port', '70000'], [/none, lan, mapped, public/, 'up', '--listen', 'wan'], [/needs brackets: \[::1\]:80/, 'forward', '::1:80', 'a/b'],
    [/1 to 1000/, 'ping', 'a', '--count', '0'], [/it is empty/, 'status', '--data-dir', '']
  ] as Array<[RegExp, ...string[]]>) {
    const { exitCode, stdout, stderr } = await cli.run(...args)
    assert.deepEqual([exitCode, stdout], [2, ''], args.join(' '))
    assert.match(stderr, message)
  }
})

test('completion scripts are accepted by the shells that are here', async (t) => {
  const cli = freshCli()
  for (const [shell, check] of [['bash', '-n'], ['zsh', '-n'], ['fish', '--no-execute']] as const) {
    const script = await cli.text('completion', shell)
    assert.match(script, /forward/)
    if (shell === 'bash') assert.equal(`${(await cli.json('completion', 'completion', shell)).script.trimEnd()}\n`, script)
    const path = join(makeTempDirectory('completion'), shell)
    writeFileSync(path, script)
    try {
      const { exitCode, stderr } = await runProgram(shell, [check, path])
      assert.equal(exitCode, 0, stderr)
    } catch (err) {
      if (shell === 'bash' || !/could not be started/.test(String(err))) throw err
      t.diagnostic(`${shell} is not here`)
    }
  }
  const script = await cli.text('completion', 'bash')
  const complete = async (...words: string[]): Promise<string[]> => {
    const { stdout } = await runProgram('bash', ['-c', `${script}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _carrier; printf '%s\\n' "\${COMPREPLY[@]}"`])
    return stdout.trim().split('\n')
  }
  assert.deepEqual(await complete('carrier', 'unse'), ['unserve'])
  assert.deepEqual(await complete('carrier', 'friend', 'acc'), ['accept'])
  assert.deepEqual(await complete('carrier', '--data-dir', '/x', 'forward', 'cl'), ['close'])
  assert.deepEqual(await complete('carrier', 'up', '--fore'), ['--foreground'])
})

test('the life of a detached daemon', async (t) => {
  const cli = freshCli()
  t.after(async () => { await cli.run('down') })
  const up = await cli.json('up', 'up', '--relay', RELAY)
  assert.equal(up.isAlreadyRunning, false)
  assert.match(up.did, /^did:key:z6Mk/)
  assert.match(up.address ?? '', /^cr1/)
  const again = await cli.json('up', 'up', '--relay', RELAY)
  assert.deepEqual([again.pid, again.isAlreadyRunning], [up.pid, true])
  assert.match(await cli.text('up'), /already up/)
  assert.equal(await cli.fails(1, /already up .*other settings.*carrier down/, 'up', '--relay', OTHER_RELAY), 'ERR_ALREADY_RUNNING')
  assert.equal(await cli.fails(1, /another process \(pid \d+\) uses the data directory/, 'up', '--foreground'), 'ERR_ALREADY_RUNNING')

  const status = await cli.json('status', 'status')
  assert.deepEqual([status.did, status.listen, status.friends], [up.did, [], []])
  assert.equal(status.relays[0]?.address, RELAY)
  assert.match(await cli.text('status'), /Relays[^]*Friends[^]*Services[^]*Forwards[^]*Problems/)

  // --data-dir before and after the command, and over the environment
  const stranger = createCli('/nowhere')
  for (const args of [['--data-dir', cli.dataDirectory, 'id'], ['id', '--data-dir', cli.dataDirectory], ['friend', 'list', '--data-dir', cli.dataDirectory], ['--data-dir', cli.dataDirectory, 'friend', 'list']]) await stranger.text(...args)
  const id = await cli.json('id', 'id')
  assert.deepEqual(id, { did: up.did, peerId: up.peerId, address: up.address })
  assert.match(await cli.text('id', '--qr'), /[█▀▄]/)

  // addresses
  const made = await cli.json('address new', 'address', 'new', 'work')
  assert.equal(made.label, 'work')
  assert.deepEqual((await cli.json('address list', 'address', 'list')).map(({ label, revokedAt }) => [label, revokedAt]), [['1', undefined], ['work', undefined]])
  assert.ok((await cli.json('address revoke', 'address', 'revoke', '1')).revokedAt !== undefined)
  assert.match(await cli.text('address', 'list'), /1 +revoked/)
  assert.equal((await cli.json('id', 'id')).address, made.address)
  await cli.fails(1, /none|no address/i, 'address', 'revoke', 'nothing')

  // bad input of people
  assert.equal(await cli.fails(2, /checksum/i, 'friend', 'add', `${made.address.slice(0, -1)}${made.address.endsWith('q') ? 'p' : 'q'}`), 'ERR_INVALID_ADDRESS')
  assert.equal(await cli.fails(2, /your own/i, 'friend', 'add', made.address), 'ERR_OWN_ADDRESS')
  assert.equal(await cli.fails(2, /did/i, 'friend', 'block', `${up.did.slice(0, -1)}0`), 'ERR_INVALID_DID')
  assert.equal(await cli.fails(1, /bob/, 'friend', 'remove', 'bob'), 'ERR_UNKNOWN_FRIEND')
  assert.equal(await cli.fails(1, /bob/, 'ping', 'bob'), 'ERR_UNKNOWN_FRIEND')
  assert.equal(await cli.fails(1, /bob/, 'nc', 'bob/x'), 'ERR_UNKNOWN_FRIEND')
  assert.equal(await cli.fails(1, /bob/, 'forward', '0', 'bob/x'), 'ERR_UNKNOWN_FRIEND')
  assert.equal(await cli.fails(2, /WHO\/SERVICE/, 'forward', '0', 'bobx'), 'ERR_INVALID_ARGUMENT')
  assert.equal(await cli.fails(1, /./, 'friend', 'accept', up.did), 'ERR_UNKNOWN_REQUEST')
  assert.equal(await cli.fails(2, /TARGET|PORT/i, 'serve', 'db', 'not a target'), 'ERR_INVALID_ARGUMENT')
  assert.equal(await cli.fails(2, /name|label/i, 'serve', 'data base', '5432'), 'ERR_INVALID_ARGUMENT')
  assert.equal(await cli.fails(1, /no service/i, 'unserve', 'nothing'), 'ERR_NOT_FOUND')
  assert.equal(await cli.fails(1, /no forward/i, 'forward', 'close', '5433'), 'ERR_NOT_FOUND')

  // own services
  assert.deepEqual(await cli.json('serve', 'serve', 'Web', '8080'), { name: 'web', target: '127.0.0.1:8080', allow: [], connections: 0, source: 'state' })
  assert.match(await cli.text('serve', 'docker', 'unix:docker.sock'), /dark: nobody may dial it yet/)
  assert.deepEqual((await cli.json('services', 'services')).map(({ name, target }) => [name, target]), [['docker', `unix:${join(process.cwd(), 'docker.sock')}`], ['web', '127.0.0.1:8080']])
  assert.match(await cli.text('services'), /NAME +TARGET +ALLOWED/)
  assert.deepEqual(await cli.json('unserve', 'unserve', 'web'), { name: 'web' })
  assert.deepEqual(await cli.json('forward list', 'forward', 'list'), [])
  assert.deepEqual(await cli.json('friend list', 'friend', 'list'), [])
  assert.deepEqual(await cli.json('friend requests', 'friend', 'requests'), [])

  // the log is for its owner only, and tells nobody's secrets
  const log = readFileSync(up.log ?? '', 'utf8')
  assert.equal(statSync(up.log ?? '').mode & 0o777, 0o600)
  assert.equal(statSync(cli.dataDirectory).mode & 0o777, 0o700)
  assert.match(log, /"msg":"carrier is up"/)
  for (const secret of [up.address, made.address, readFileSync(join(cli.dataDirectory, 'control.token'), 'utf8').trim()]) assert.ok(!log.includes(secret ?? 'cr1'))

  assert.deepEqual(await cli.json('down', 'down'), { pid: up.pid })
  assert.ok(await waitForProcessEnd(up.pid, 0), 'when the command is back the daemon is gone')
  assert.equal(await cli.fails(1, /run: carrier up/, 'down'), 'ERR_NOT_RUNNING')
  // the identity is there without a daemon
  assert.deepEqual(await cli.json('id', 'id'), { ...id, address: made.address })
})

test('settings: flags over environment over file; the daemon\'s own words when the file is wrong', async (t) => {
  const directory = makeTempDirectory('cli')
  const config = join(directory, 'carrier.toml')
  const cli = createCli(join(directory, 'data'), { CARRIER_CONFIG: config, CARRIER_RELAYS: OTHER_RELAY })
  t.after(async () => { await cli.run('down') })

  writeFileSync(config, `relays = ["${RELAY}"]\nrealys = []\n`)
  assert.equal(await cli.fails(2, new RegExp(`${config}:2: unknown key "realys", known keys are relays, `), 'up'), 'ERR_CONFIG')
  writeFileSync(config, 'relays = [\n')
  await cli.fails(2, new RegExp(`${config}:\\d: `), 'up')
  assert.ok(!existsSync(join(cli.dataDirectory, 'identity.key')), 'no identity is made before the settings are right')
  writeFileSync(config, '[services.db]\ntarget = "nonsense"\n')
  await cli.fails(2, new RegExp(`${config}:[12]: `), 'up')
  await cli.fails(2, /cannot read the configuration .*no such file/, 'up', '--config', join(directory, 'absent.toml'))
  assert.equal(await cli.fails(2, /^--relay: the relay address "nonsense" is no multiaddr/, 'up', '--relay', 'nonsense'), 'ERR_CONFIG')

  writeFileSync(config, `relays = ["${RELAY}"]
log_level = "debug"

[services.db]
target = 5432

[forwards.books]
listen = "127.0.0.1:0"
to = "office/postgres"
`)
  // environment over file
  assert.deepEqual((await cli.json('up', 'up')).relays.map(({ address }) => address), [OTHER_RELAY])
  // what the file declares is the file's
  const [service] = await cli.json('services', 'services')
  assert.deepEqual([service?.name, service?.source], ['db', 'config'])
  for (const args of [['unserve', 'db'], ['serve', 'db', '1']]) {
    assert.equal(await cli.fails(1, new RegExp(`${config}:4`), ...args), 'ERR_CONFIG_OWNED')
  }
  const [forward] = await cli.json('forward list', 'forward', 'list')
  assert.deepEqual([forward?.to, forward?.source], ['office/postgres', 'config'])
  assert.match(await cli.text('services'), /carrier\.toml/)
  await cli.text('down')
  // flags over environment
  assert.deepEqual((await cli.json('up', 'up', '--relay', RELAY)).relays.map(({ address }) => address), [RELAY])
})

test('a data directory that cannot be used is refused, and nothing in it is changed', async (t) => {
  await t.test('it holds somebody else\'s files', async () => {
    const directory = makeTempDirectory('cli')
    writeFileSync(join(directory, 'thesis.txt'), 'mine')
    chmodSync(directory, 0o755)
    const cli = createCli(directory)
    assert.equal(await cli.fails(2, /holds other files and no Carrier data/, 'up'), 'ERR_INVALID_ARGUMENT')
    await cli.fails(2, /holds other files/, 'up', '--foreground')
    assert.equal(statSync(directory).mode & 0o777, 0o755)
  })

  await t.test('it is a file', async () => {
    const path = join(makeTempDirectory('cli'), 'file')
    writeFileSync(path, '')
    await createCli(path).fails(2, /cannot use the data directory/, 'up')
  })

  await t.test('its database is damaged, or newer than this program', async () => {
    const cli = freshCli()
    await cli.text('up')
    await cli.text('down')
    const path = join(cli.dataDirectory, 'state.db')
    const database = new DatabaseSync(path)
    const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number }
    database.exec(`PRAGMA user_version = ${version + 1}`)
    database.close()
    assert.equal(await cli.fails(1, /newer/, 'up'), 'ERR_DATABASE_NEWER')

    const damaged = Buffer.alloc(8192, 'not a database')
    writeFileSync(path, damaged)
    assert.equal(await cli.fails(1, /state\.db/, 'up'), 'ERR_DATABASE_CORRUPT')
    assert.ok(readFileSync(path).equals(damaged), 'it is not overwritten')

    writeFileSync(join(cli.dataDirectory, 'identity.key'), '{"half')
    assert.equal(await cli.fails(1, /identity\.key/, 'up'), 'ERR_KEYSTORE')
    assert.equal(readFileSync(join(cli.dataDirectory, 'identity.key'), 'utf8'), '{"half')
  })
})

test('a keystore is sealed with the passphrase of a file, and opens with no other', async (t) => {
  const directory = makeTempDirectory('cli')
  mkdirSync(directory, { recursive: true })
  const passphrase = join(directory, 'passphrase')
  writeFileSync(passphrase, 'correct horse\n', { mode: 0o600 })
  const cli = createCli(join(directory, 'data'), { CARRIER_PASSPHRASE_FILE: passphrase })
  t.after(async () => { await cli.run('down') })
  const { did, log } = await cli.json('up', 'up')
  await cli.text('down')
  assert.match(readFileSync(join(cli.dataDirectory, 'identity.key'), 'utf8'), /argon2id/)
  assert.ok(!readFileSync(log ?? '', 'utf8').includes('correct horse'))
  // who it is can be seen, its address is sealed
  assert.deepEqual(await cli.json('id', 'id').then(({ did: shown, address }) => [shown, address]), [did, undefined])
  assert.equal(await createCli(cli.dataDirectory).fails(1, /CARRIER_PASSPHRASE_FILE/, 'up'), 'ERR_PASSPHRASE')
  writeFileSync(passphrase, 'wrong')
  assert.equal(await cli.fails(1, /passphrase/i, 'up'), 'ERR_PASSPHRASE')
  assert.equal(await createCli(cli.dataDirectory, { CARRIER_PASSPHRASE_FILE: join(directory, 'absent') }).fails(1, /cannot read CARRIER_PASSPHRASE_FILE/, 'up'), 'ERR_PASSPHRASE')
  writeFileSync(passphrase, 'correct horse')
  assert.equal((await cli.json('up', 'up')).did, did)
})

test('in the foreground the daemon says who it is, ends on SIGTERM with 0, and leaves no socket', async () => {
  const cli = freshCli()
  const daemon = startProgram(process.execPath, [...CARRIER, 'up', '--foreground', '--json'], { env: { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: cli.dataDirectory }, name: 'daemon' })
  const up = JSON.parse(await daemon.line(0)) as { did: string, pid: number }
  assert.deepEqual(await cli.json('id', 'id').then(({ did }) => did), up.did)
  assert.equal(up.pid, daemon.pid)
  assert.deepEqual(await daemon.stop(), { code: 0, signal: null })
  assert.ok(!existsSync(join(cli.dataDirectory, 'control.sock')))
  assert.match(daemon.stderr(), /carrier stopped/)
})

test('a port that is in use is named', async () => {
  const server = createServer()
  await new Promise<void>((resolve) => { server.listen(0, '0.0.0.0', resolve) })
  const { port } = server.address() as AddressInfo
  const cli = freshCli()
  try {
    assert.equal(await cli.fails(1, new RegExp(String(port)), 'up', '--listen', 'public', '--port', String(port)), 'ERR_PORT_IN_USE')
  } finally {
    server.close()
  }
})
