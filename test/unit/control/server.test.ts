import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { CarrierError, ERRORS, LIMITS, silentLogger, systemClock } from '../../../src/base/index.ts'
import type { Clock, ErrorCode } from '../../../src/base/index.ts'
import { METHODS, createControlClient } from '../../../src/control/client/index.ts'
import type { ControlClient } from '../../../src/control/client/index.ts'
import { createControlServer } from '../../../src/control/server/index.ts'
import type { ControlServer } from '../../../src/control/server/index.ts'
import { FAKE_DIDS, createFakeCarrier } from '../../support/fake-carrier.ts'
import type { FakeCarrier } from '../../support/fake-carrier.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'
import { PATIENCE_MS, waitFor } from '../../support/wait.ts'

interface Setup { fake: FakeCarrier, server: ControlServer, client: ControlClient, dataDirectory: string, stopRequests: string[], token: string, socketPath: string }

async function setUp (t: TestContext, dataDirectory = makeTempDirectory('control'), clock: Clock = systemClock): Promise<Setup> {
  const fake = createFakeCarrier()
  const stopRequests: string[] = []
  const server = createControlServer({ carrier: fake.carrier, log: silentLogger, clock }, {
    dataDirectory,
    fallbackDirectories: [makeTempDirectory('fallback')],
    info: { pid: process.pid, version: '0.1.0', dataDirectory, startedAt: 1, relays: [], listen: 'none', port: 0 },
    requestStop: () => { stopRequests.push('stop') }
  })
  await server.start()
  t.after(async () => { await server.stop() })
  const token = readFileSync(join(dataDirectory, 'control.token'), 'utf8').trim()
  return { fake, server, client: createControlClient({ dataDirectory }), dataDirectory, stopRequests, token, socketPath: server.socketPath() ?? '' }
}

/** A request as a foreign program sends it. */
async function raw (socketPath: string, path: string, headers: Record<string, string>, init: { method?: string, body?: string } = {}): Promise<{ status: number, headers: IncomingHttpHeaders, body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, method: init.method ?? 'GET', headers: { host: 'carrier', ...headers }, agent: false }, (answer) => {
      let body = ''
      answer.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => { resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body }) })
    })
    outgoing.on('error', reject)
    outgoing.end(init.body)
  })
}

function codeOf (body: string): string {
  return (JSON.parse(body) as { error: { code: string } }).error.code
}

test('the typed client gets what the engine knows', async (t) => {
  const { client } = await setUp(t)
  const status = await client.call('daemon.status', {})
  assert.equal(status.did, FAKE_DIDS.me)
  assert.equal(status.friends[0]?.label, 'office')
  assert.ok(!('reason' in (status.relays[0] ?? {})), 'absent members are left out')
  assert.deepEqual(await client.call('identity.show', {}), { did: FAKE_DIDS.me, peerId: '12D3KooWFake', address: 'cr1fake1' })
  const service = await client.call('service.serve', { name: 'postgres', target: '5432', allow: ['office'] })
  assert.deepEqual(service, { name: 'postgres', target: '127.0.0.1:5432', allow: [FAKE_DIDS.office], connections: 0, source: 'state' })
})

test('an error of the engine arrives with its code, message and detail', async (t) => {
  const { client, fake } = await setUp(t)
  await assert.rejects(client.call('friend.remove', { who: 'nobody' }), { code: 'ERR_UNKNOWN_FRIEND', message: /"nobody" is no friend of yours/ })
  fake.offline.add('office')
  await assert.rejects(client.call('friend.ping', { who: 'office' }), { code: 'ERR_PEER_OFFLINE' })
})

test('every method of the table has a route that wants its own verb', async (t) => {
  const { socketPath, token } = await setUp(t)
  const paths = new Set(Object.values(METHODS).map(({ verb, path }) => `${verb} ${path}`))
  assert.equal(paths.size, Object.keys(METHODS).length, 'no two methods share a route')
  for (const [name, { verb, path }] of Object.entries(METHODS)) {
    if (name === 'daemon.stop') continue
    const answer = await raw(socketPath, `${path}?unknown-key=1`, { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, { method: verb, ...(verb === 'POST' ? { body: '{"unknown-key":1}' } : {}) })
    assert.equal(answer.status, 400, name)
    assert.equal(codeOf(answer.body), 'ERR_INVALID_ARGUMENT', name)
    const other = await raw(socketPath, path, { authorization: `Bearer ${token}` }, { method: verb === 'GET' ? 'POST' : 'GET' })
    assert.equal(other.status, 404, name)
  }
})

test('without the token, or with a wrong one, nothing is answered and nothing happens', async (t) => {
  const { socketPath, token, stopRequests } = await setUp(t)
  for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: token }, { authorization: `Bearer ${token}0` }, { authorization: `Bearer ${token.slice(0, -1)}` }] as Array<Record<string, string>>) {
    for (const [path, method] of [['/v1/status', 'GET'], ['/v1/daemon/stop', 'POST'], ['/v1/events', 'GET'], ['/nothing', 'GET']] as const) {
      const answer = await raw(socketPath, path, headers, { method })
      assert.equal(answer.status, 401)
      assert.equal(codeOf(answer.body), 'ERR_UNAUTHORIZED')
    }
  }
  assert.deepEqual(stopRequests, [])
})

test('what a browser sends is refused even with the token', async (t) => {
  const { socketPath, token } = await setUp(t)
  const authorization = `Bearer ${token}`
  for (const headers of [{ origin: 'http://localhost' }, { origin: 'null' }, { referer: 'http://localhost/' }, { 'sec-fetch-site': 'same-origin' }, { host: 'evil.example' }, { host: 'carrier.evil.example' }] as Array<Record<string, string>>) {
    const answer = await raw(socketPath, '/v1/status', { authorization, ...headers })
    assert.equal(answer.status, 401, JSON.stringify(headers))
  }
  assert.equal((await raw(socketPath, '/v1/status', { authorization, host: 'localhost' })).status, 200)
})

test('an upgrade is judged by the same rules', async (t) => {
  const { socketPath, token } = await setUp(t)
  const upgrade = { connection: 'Upgrade', upgrade: 'carrier-pipe' }
  const refused = async (headers: Record<string, string>, path = '/v1/pipe?to=office/echo'): Promise<number> => (await raw(socketPath, path, { ...upgrade, ...headers })).status
  assert.equal(await refused({}), 401)
  assert.equal(await refused({ authorization: `Bearer ${token}`, origin: 'http://x' }), 401)
  assert.equal(await refused({ authorization: `Bearer ${token}`, upgrade: 'websocket' }), 404)
  assert.equal(await refused({ authorization: `Bearer ${token}` }, '/v1/other'), 404)
  assert.equal(await refused({ authorization: `Bearer ${token}` }, '/v1/pipe'), 400)
  assert.equal(await refused({ authorization: `Bearer ${token}` }, '/v1/pipe?to=nobody/x'), 404)
})

test('I8: a body over the limit is refused, so are other content types and what is no JSON', async (t) => {
  const { socketPath, token } = await setUp(t)
  const post = async (body: string, type = 'application/json'): Promise<string> => {
    const answer = await raw(socketPath, '/v1/friend/add', { authorization: `Bearer ${token}`, 'content-type': type }, { method: 'POST', body })
    return `${answer.status} ${codeOf(answer.body)}`
  }
  assert.equal(await post(JSON.stringify({ address: 'x'.repeat(LIMITS.controlBodyBytes) })), '413 ERR_TOO_LARGE')
  assert.equal(await post('{"address":"cr1x"}', 'text/plain'), '400 ERR_INVALID_ARGUMENT')
  assert.equal(await post('{"address":'), '400 ERR_INVALID_ARGUMENT')
  assert.equal(await post('{"address":"cr1x","__proto__":{"a":1}}'), '400 ERR_INVALID_ARGUMENT')
  assert.equal(await post('[]'), '400 ERR_INVALID_ARGUMENT')
})

test('socket and token are for their owner only, and gone after the stop', async (t) => {
  const { server, dataDirectory } = await setUp(t)
  for (const name of ['control.sock', 'control.token']) assert.equal(statSync(join(dataDirectory, name)).mode & 0o777, 0o600, name)
  await server.stop()
  for (const name of ['control.sock', 'control.token']) assert.ok(!existsSync(join(dataDirectory, name)), name)
  await assert.rejects(createControlClient({ dataDirectory }).call('daemon.status', {}), { code: 'ERR_NOT_RUNNING', message: /carrier up/ })
})

test('the socket of a dead daemon is replaced, that of a live one is not', async (t) => {
  const dataDirectory = makeTempDirectory('control')
  writeFileSync(join(dataDirectory, 'control.sock'), '')
  writeFileSync(join(dataDirectory, 'control.token'), 'old')
  const { client } = await setUp(t, dataDirectory)
  assert.equal((await client.call('daemon.info', {})).pid, process.pid)
  await assert.rejects(setUp(t, dataDirectory), { code: 'ERR_ALREADY_RUNNING' })
  assert.equal((await client.call('daemon.info', {})).pid, process.pid)
})

test('a path that is too long for a socket moves to a private directory, and the client finds it', async (t) => {
  const dataDirectory = join(makeTempDirectory('control'), 'd'.repeat(LIMITS.controlSocketPathBytes))
  const { client, socketPath, server } = await setUp(t, dataDirectory)
  assert.ok(!socketPath.startsWith(dataDirectory))
  assert.equal(statSync(join(socketPath, '..')).mode & 0o777, 0o700)
  assert.equal((await client.call('daemon.status', {})).did, FAKE_DIDS.me)
  await server.stop()
  assert.ok(!existsSync(join(socketPath, '..')))
  assert.ok(!existsSync(join(dataDirectory, 'control.path')))
})

test('a call that its client gives up is cancelled in the engine', async (t) => {
  const { client, fake } = await setUp(t)
  const [friend] = fake.friends
  assert.ok(friend !== undefined)
  friend.label = 'slow'
  const controller = new AbortController()
  const call = client.call('service.remote', { who: 'slow' }, { signal: controller.signal })
  await waitFor('the call in the engine', () => fake.signals.length > 0, { deadlineMs: PATIENCE_MS, intervalMs: 1 })
  controller.abort()
  await assert.rejects(call, { code: 'ERR_CANCELLED' })
  const signal = fake.signals[0]
  if (signal?.aborted === false) await new Promise((resolve) => { signal.addEventListener('abort', resolve) })
  assert.equal((signal?.reason as { code?: string }).code, 'ERR_CANCELLED')
})

test('the stop is asked for after it was answered', async (t) => {
  const { client, stopRequests } = await setUp(t)
  assert.deepEqual(await client.call('daemon.stop', {}), { pid: process.pid })
  await waitFor('the request to stop', () => stopRequests.length > 0, { deadlineMs: PATIENCE_MS, intervalMs: 1 })
  assert.deepEqual(stopRequests, ['stop'])
})

test('events reach every subscriber in order', async (t) => {
  const { client, fake } = await setUp(t)
  const first = client.events()
  const second = client.events()
  await Promise.all([first.opened, second.opened])
  fake.emit('friend:added', { did: FAKE_DIDS.office, label: 'office\n\nevent: forged' })
  fake.emit('no:such-event', { secret: 1 })
  fake.emit('friend:offline', { did: FAKE_DIDS.office, internals: 1 })
  for (const stream of [first, second]) {
    const seen: unknown[] = []
    for await (const event of stream) {
      seen.push(event)
      if (seen.length === 2) break
    }
    assert.deepEqual(seen, [
      { name: 'friend:added', payload: { did: FAKE_DIDS.office, label: 'office\n\nevent: forged' } },
      { name: 'friend:offline', payload: { did: FAKE_DIDS.office } }
    ])
  }
})

test('I8: there are only so many event streams, and one that is left makes room', async (t) => {
  const { client } = await setUp(t)
  const controllers = Array.from({ length: LIMITS.controlEventClientCount }, () => new AbortController())
  for (const { signal } of controllers) await client.events({ signal }).opened
  await assert.rejects(client.events().opened, { code: 'ERR_LIMIT' })
  controllers[0]?.abort()
  const last = new AbortController()
  await waitFor('room for another stream', async () => client.events({ signal: last.signal }).opened.then(() => true), { deadlineMs: PATIENCE_MS, intervalMs: 1 })
})

test('I8: a subscriber that does not read is let go and told so', async (t) => {
  // the clock stands still: however long the test takes, nobody is cut before it has read what it was told
  const { client, fake } = await setUp(t, makeTempDirectory('control'), createFakeClock())
  const stream = client.events()
  await stream.opened
  for (let count = 0; count < 400; count++) {
    fake.emit('service:changed', { name: 'x'.repeat(64 * 1024) })
    await new Promise((resolve) => { setImmediate(resolve) })
  }
  const names = new Set<string>()
  await assert.rejects(async () => { for await (const { name } of stream) names.add(name) }, { code: 'ERR_LINK_LOST' })
  assert.deepEqual([...names], ['service:changed', 'control:lagged'])
})

test('the end of the daemon is an error for those who listen to events', async (t) => {
  const { client, server } = await setUp(t)
  const stream = client.events()
  await stream.opened
  const failure = assert.rejects(async () => { for await (const event of stream) assert.fail(event.name) }, { code: 'ERR_LINK_LOST' })
  await server.stop()
  await failure
})

test('every code of the engine arrives as itself, with its HTTP status', async (t) => {
  const { client, fake, socketPath, token } = await setUp(t)
  for (const [code, { http }] of Object.entries(ERRORS) as Array<[ErrorCode, { http: number }]>) {
    fake.carrier.friends.reject = () => { throw new CarrierError(code, `because of ${code}`, { detail: { limit: 3 } }) }
    await assert.rejects(client.call('friend.reject', { who: 'x' }), { code, message: `because of ${code}`, detail: { limit: 3 } })
    const answer = await raw(socketPath, '/v1/friend/reject', { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, { method: 'POST', body: '{"who":"x"}' })
    assert.equal(answer.status, http, code)
  }
})

test('a fault of ours is an internal error and not the end of the server', async (t) => {
  const { client, fake } = await setUp(t)
  fake.carrier.friends.reject = () => { throw new TypeError('undefined is not a function') }
  await assert.rejects(client.call('friend.reject', { who: 'x' }), { code: 'ERR_INTERNAL' })
  assert.equal((await client.call('daemon.status', {})).did, FAKE_DIDS.me)
})

test('a client that asks for the stop and leaves is obeyed', async (t) => {
  const { socketPath, token, stopRequests } = await setUp(t)
  const outgoing = request({ socketPath, path: '/v1/daemon/stop', method: 'POST', headers: { host: 'carrier', authorization: `Bearer ${token}`, 'content-length': 0 }, agent: false })
  outgoing.on('error', () => { /* we are the ones who leave */ })
  outgoing.end(() => { setImmediate(() => { outgoing.destroy() }) })
  await waitFor('the request to stop', () => stopRequests.length > 0, { deadlineMs: PATIENCE_MS, intervalMs: 1 })
})

test('input that is wrong is refused by the client already, with the name of the method', async (t) => {
  const { client } = await setUp(t)
  await assert.rejects(client.call('forward.close', { port: 0 }), { code: 'ERR_INVALID_ARGUMENT', message: /^forward\.close: port: / })
  await assert.rejects(client.call('friend.label', { who: '', label: 'x' }), { code: 'ERR_INVALID_ARGUMENT' })
})

test('a daemon that is gone without a trace, and one that left its files, are both "not running"', async () => {
  const dataDirectory = makeTempDirectory('control')
  const client = createControlClient({ dataDirectory })
  await assert.rejects(client.call('daemon.status', {}), { code: 'ERR_NOT_RUNNING' })
  writeFileSync(join(dataDirectory, 'control.token'), 'old')
  await assert.rejects(client.call('daemon.status', {}), { code: 'ERR_NOT_RUNNING' })
  writeFileSync(join(dataDirectory, 'control.sock'), '')
  await assert.rejects(client.call('daemon.status', {}), { code: 'ERR_NOT_RUNNING' })
  await assert.rejects(client.pipe('office/echo'), { code: 'ERR_NOT_RUNNING' })
  await assert.rejects(client.events().opened, { code: 'ERR_NOT_RUNNING' })
})
