/** The command line of two devices behind one relay, on real processes: friends, services, forwards, pipes, refusals. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import test from 'node:test'
import { createControlClient } from '../../src/control/client/index.ts'
import type { ControlEvent } from '../../src/control/client/index.ts'
import { createRelay } from '../support/bootstrap.ts'
import { CARRIER, createCli } from '../support/cli.ts'
import type { Cli } from '../support/cli.ts'
import { carrierFreeEnvironment } from '../support/daemon.ts'
import { runProgram, startProgram } from '../support/program.ts'
import { freePort } from '../support/target-server.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, waitFor, within } from '../support/wait.ts'

const HELLO = 'grüße vom laptop 👋'

/** A service that sends back what it gets, and ends when its client has ended. */
async function startEcho (): Promise<{ port: number, server: Server }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => { /* a revoked connection is reset */ })
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, server }
}

async function exchange (port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.end(text)
  return (await buffer(socket)).toString()
}

test('two devices, from the first request to the last revoke', { timeout: 600_000 }, async (t) => {
  const directory = makeTempDirectory('pair')
  const relay = await createRelay({ dataDirectory: join(directory, 'relay') })
  await relay.start()
  const [office, laptop] = ['office', 'laptop'].map((name) => createCli(join(directory, name), { CARRIER_RELAYS: relay.address() })) as [Cli, Cli]
  const echo = await startEcho()
  t.after(async () => {
    await Promise.all([office.run('down'), laptop.run('down')])
    await relay.stop()
    echo.server.close()
  })
  const [officeUp, laptopUp] = await Promise.all([office.json('up', 'up'), laptop.json('up', 'up')])
  const events: ControlEvent[] = []
  const stream = createControlClient({ dataDirectory: office.dataDirectory }).events()
  const listening = (async () => { for await (const event of stream) events.push(event) })()
  listening.catch(() => { /* it ends with the daemon */ })
  await stream.opened

  await t.test('a request is stored, delivered, shown, accepted and labelled', async () => {
    assert.equal(await laptop.fails(2, /257 bytes, at most 256/, 'friend', 'add', officeUp.address ?? '', '--hello', 'x'.repeat(257)), 'ERR_HELLO_TOO_LONG')
    assert.equal(await laptop.fails(2, /control characters/, 'friend', 'add', officeUp.address ?? '', '--hello', 'it is me \u202Egnp.exe'), 'ERR_INVALID_ARGUMENT')
    assert.deepEqual(await laptop.json('friend add', 'friend', 'add', officeUp.address ?? '', '--hello', HELLO, '--label', 'office'), { did: officeUp.did })
    assert.equal((await laptop.json('friend list', 'friend', 'list'))[0]?.presence, 'requested')
    const request = await waitFor('the request', async () => (await office.json('friend requests', 'friend', 'requests'))[0], { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    assert.deepEqual([request.did, request.hello, request.state], [laptopUp.did, HELLO, 'pending'])
    const text = await office.text('friend', 'requests')
    assert.ok(text.includes(HELLO), text)
    assert.match(await office.text('status'), /1 friend request waiting, see: carrier friend requests/)
    // by the name that the list shows
    assert.equal((await office.json('friend accept', 'friend', 'accept', request.name)).did, laptopUp.did)
    assert.deepEqual(await office.json('friend label', 'friend', 'label', request.name, 'laptop'), { did: laptopUp.did, label: 'laptop' })
    assert.equal(await office.fails(2, /./, 'friend', 'label', 'laptop', 'not a label'), 'ERR_INVALID_ARGUMENT')
    await waitFor('the friend to be online', async () => (await laptop.json('status', 'status')).friends[0]?.presence === 'online', { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    assert.match(await laptop.text('friend', 'list'), /office +online +(relayed|spliced)/)
  })

  await t.test('ping shows path and time', async () => {
    const ping = await laptop.json('ping', 'ping', 'office', '--count', '2')
    assert.deepEqual([ping.label, ping.relayPeerId, ping.rttsMs.length], ['office', relay.report().peerId, 2])
    // a session that is used moves from the circuit to a splice at the same relay; nobody promises before which ping
    await waitFor('the session to be spliced', async () => (await laptop.json('ping', 'ping', 'office', '--count', '1')).path === 'spliced', { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    assert.match(await laptop.text('ping', officeUp.did, '--count', '1'), /^office: [\d.]+ ms, spliced through 12D3KooW/)
  })

  await t.test('why and netcheck explain the way in plain words', async () => {
    const why = await laptop.json('why', 'why', 'office/echo')
    assert.deepEqual([why.presence, why.path, why.relayPeerId], ['online', 'spliced', relay.report().peerId])
    assert.deepEqual(why.reasons.map(({ way }) => way), ['dial', 'punch'])
    assert.deepEqual(why.service, { name: 'echo', isOffered: false })
    const text = await laptop.text('why', 'office')
    assert.match(text, /^office: spliced through 12D3KooW\w+, link: splice, [\d.]+ ms\n {2}to dial the other side: neither side has an address/)
    assert.match(text, /\nwhat would help:\n {2}let one side listen: /)
    assert.equal(await laptop.fails(1, /bob/, 'why', 'bob'), 'ERR_UNKNOWN_FRIEND')
    assert.equal(await laptop.fails(2, /no service behind the slash/, 'why', 'office/'), 'ERR_INVALID_ARGUMENT')
    const net = await laptop.json('netcheck', 'netcheck')
    assert.deepEqual([net.nat, net.listen, net.relays.length], ['unknown', [], 1])
    assert.match(await laptop.text('netcheck'), /^router: {2}unknown \(no relay .*\n[^]*what would help:\n {2}name a second relay/)
  })

  await t.test('I3: hidden, missing and not allowed are one answer, exit code 3', async () => {
    await office.text('serve', 'echo', String(echo.port))
    const said = await Promise.all(['echo', 'missing'].map(async (name) => (await laptop.run('nc', `office/${name}`)).stderr.replaceAll(name, 'X')))
    assert.equal(said[0], said[1])
    for (const name of ['echo', 'missing']) {
      assert.equal(await laptop.fails(3, /./, 'nc', `office/${name}`), 'ERR_NOT_AVAILABLE')
      assert.equal(await laptop.fails(3, /./, 'forward', '0', `office/${name}`), 'ERR_NOT_AVAILABLE')
    }
    assert.deepEqual(await laptop.json('forward list', 'forward', 'list'), [], 'nothing is kept')
    assert.deepEqual((await laptop.json('services WHO', 'services', 'office')).services, [])
  })

  const port = await freePort()
  await t.test('a granted service is forwarded, and the forward survives a restart', async () => {
    assert.deepEqual((await office.json('grant', 'grant', 'laptop', 'echo')).allow, [laptopUp.did])
    assert.deepEqual((await laptop.json('services WHO', 'services', 'office')).services, ['echo'])
    const forward = await laptop.json('forward', 'forward', String(port), 'office/echo')
    assert.deepEqual([forward.listen, forward.to, forward.state, forward.path], [`127.0.0.1:${port}`, 'office/echo', 'active', 'spliced'])
    assert.equal(await exchange(port, 'through'), 'through')
    const once = await laptop.json('forward', 'forward', '0', 'office/echo', '--once')
    assert.equal(await exchange(Number(once.listen.split(':')[1]), 'also'), 'also')
    const busy = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => { busy.once('listening', resolve) })
    const busyPort = String((busy.address() as AddressInfo).port)
    assert.equal(await laptop.fails(1, new RegExp(busyPort), 'forward', busyPort, 'office/echo'), 'ERR_PORT_IN_USE')
    busy.close()
    await laptop.text('down')
    await laptop.text('up')
    const kept = await waitFor('the forward to work again', async () => {
      const forwards = await laptop.json('forward list', 'forward', 'list')
      return forwards.every(({ state }) => state === 'active') && forwards
    }, { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    assert.deepEqual(kept.map(({ listen }) => listen), [`127.0.0.1:${port}`], 'what was for once is gone')
    assert.equal(await exchange(port, 'again'), 'again')
  })

  await t.test('I4: nc carries 8 MiB both ways, and its ends are ends', async () => {
    const sent = randomBytes(8 * 1024 * 1024)
    const nc = startProgram(process.execPath, [...CARRIER, 'nc', 'office/echo'], { env: { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: laptop.dataDirectory }, name: 'nc' })
    nc.stdin.end(sent)
    const exit = await within('the end of nc', 2 * PATIENCE_MS, nc.exited)
    assert.deepEqual([exit.code, nc.stderr()], [0, ''])
    const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
    assert.equal(digest(nc.output()), digest(sent))
  })

  await t.test('nc leaves the shell it runs in alone: what comes after it is still written', async () => {
    const script = 'echo hello | "$@" nc office/echo; echo "then $?"; exec < /dev/null; "$@" nc office/missing; echo "then $?"'
    const { exitCode, stdout } = await runProgram('bash', ['-c', script, 'bash', process.execPath, ...CARRIER], { env: { ...carrierFreeEnvironment(), CARRIER_DATA_DIR: laptop.dataDirectory } })
    assert.deepEqual([exitCode, stdout], [0, 'hello\nthen 0\nthen 3\n'])
  })

  await t.test('a revoke cuts live connections, and the service is gone for the friend', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => { /* the cut is a reset */ })
    const closed = new Promise((resolve) => { socket.once('close', resolve) })
    socket.write('hold')
    await once(socket, 'data')
    const startedAtMs = performance.now()
    assert.deepEqual(await office.json('revoke', 'revoke', 'laptop', 'echo'), { services: ['echo'], closedConnections: 1 })
    await within('the cut', PATIENCE_MS, closed)
    t.diagnostic(`cut after ${Math.round(performance.now() - startedAtMs)} ms with the command's own start-up`)
    assert.equal(await laptop.fails(3, /./, 'nc', 'office/echo'), 'ERR_NOT_AVAILABLE')
    assert.deepEqual((await laptop.json('forward close', 'forward', 'close', String(port))).listen, `127.0.0.1:${port}`)
  })

  await t.test('a service whose target is down is a failure and not a refusal', async () => {
    await office.text('serve', 'down', String(await freePort()), '--allow', 'laptop')
    assert.equal(await laptop.fails(1, /./, 'nc', 'office/down'), 'ERR_TARGET_UNREACHABLE')
    const { exitCode, stdout, stderr } = await laptop.run('forward', '0', 'office/down')
    assert.equal(exitCode, 1)
    assert.match(stdout, /target-down/)
    assert.match(stderr, /stays configured/)
  })

  await t.test('events tell the story, each in the form of the table', async () => {
    for (const name of ['friend:requested', 'friend:added', 'friend:labelled', 'friend:online', 'session:opened', 'service:changed', 'service:connection'] as const) {
      // events travel on a connection of their own: the answer to a command says nothing about them
      await waitFor(`${name} among the events`, () => events.some((event) => event.name === name), { deadlineMs: PATIENCE_MS })
    }
  })

  await t.test('towards a friend who is offline a forward stays configured, exit code 4; other commands say it', async () => {
    await office.text('down')
    await waitFor('the friend to be offline', async () => (await laptop.json('status', 'status')).friends[0]?.presence === 'offline', { deadlineMs: PATIENCE_MS, intervalMs: 200 })
    const forward = await laptop.run('forward', '0', 'office/echo', '--json')
    assert.equal(forward.exitCode, 4, forward.stderr)
    assert.equal((JSON.parse(forward.stdout) as { state: string }).state, 'offline')
    assert.match(forward.stderr, /office is offline.*stays configured/)
    assert.deepEqual((await laptop.json('forward list', 'forward', 'list')).map(({ to, state }) => `${to} ${state}`).sort(), ['office/down offline', 'office/echo offline'])
    assert.equal(await laptop.fails(4, /offline/, 'ping', 'office'), 'ERR_PEER_OFFLINE')
    const why = await laptop.json('why', 'why', 'office')
    assert.equal(why.presence, 'offline')
    assert.ok(why.advice.some((advice) => /ask office/.test(advice)), JSON.stringify(why))
  })

  await t.test('a friend that is removed or blocked is no friend any more', async () => {
    assert.deepEqual(await laptop.json('friend remove', 'friend', 'remove', 'office'), { did: officeUp.did })
    assert.deepEqual(await laptop.json('friend list', 'friend', 'list'), [])
    assert.deepEqual(await laptop.json('forward list', 'forward', 'list'), [])
    assert.deepEqual(await laptop.json('friend block', 'friend', 'block', officeUp.did), { did: officeUp.did })
    assert.deepEqual(await laptop.json('friend blocked', 'friend', 'blocked'), [officeUp.did])
    assert.deepEqual(await laptop.json('friend unblock', 'friend', 'unblock', officeUp.did), { did: officeUp.did })
  })
})
