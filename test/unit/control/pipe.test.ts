import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:http'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { CarrierError, LIMITS, silentLogger, systemClock } from '../../../src/base/index.ts'
import type { Clock } from '../../../src/base/index.ts'
import { createControlClient, readEndpoint } from '../../../src/control/client/index.ts'
import type { ControlClient } from '../../../src/control/client/index.ts'
import { createControlServer } from '../../../src/control/server/index.ts'
import type { ControlServer } from '../../../src/control/server/index.ts'
import { createFakeCarrier, echo, untilAborted } from '../../support/fake-carrier.ts'
import type { FakeCarrier } from '../../support/fake-carrier.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'
import { PATIENCE_MS, waitFor, within } from '../../support/wait.ts'

/** The far side of a pipe, as the engine's channel shows it. */
interface FarSide { channel: Duplex, received: Buffer[], hasEnded: () => boolean, error: () => Error | undefined }

function farSide (): FarSide {
  const received: Buffer[] = []
  let ended = false
  let error: Error | undefined
  const channel = new Duplex({
    allowHalfOpen: true,
    read: () => {},
    write: (chunk: Buffer, _encoding, done) => {
      received.push(chunk)
      done()
    },
    final: (done) => {
      ended = true
      done()
    }
  })
  channel.on('error', (err) => { error = err })
  return { channel, received, hasEnded: () => ended, error: () => error }
}

async function setUp (t: TestContext, clock: Clock = systemClock): Promise<{ fake: FakeCarrier, client: ControlClient, server: ControlServer, dataDirectory: string, far: FarSide }> {
  const fake = createFakeCarrier()
  const far = farSide()
  fake.remotes.set('office/echo', echo)
  fake.remotes.set('office/far', () => far.channel)
  const dataDirectory = makeTempDirectory('pipe')
  const server = createControlServer({ carrier: fake.carrier, log: silentLogger, clock }, {
    dataDirectory,
    fallbackDirectories: [],
    info: { pid: process.pid, version: '0.1.0', dataDirectory, startedAt: 1, relays: [], listen: 'none', port: 0 },
    requestStop: () => {}
  })
  await server.start()
  t.after(async () => { await server.stop() })
  return { fake, client: createControlClient({ dataDirectory }), server, dataDirectory, far }
}

/** With a deadline: a condition that never comes must fail its test, not spin for ever. */
async function until (what: () => boolean): Promise<void> {
  await waitFor(what.toString(), what, { deadlineMs: PATIENCE_MS, intervalMs: 1 })
}

/** Whatever a pipe gave before it failed, and the code of the failure. */
async function outcome (pipe: Duplex): Promise<{ text: string, code: string | undefined }> {
  const chunks: Buffer[] = []
  pipe.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  const code = await finished(pipe).then(() => undefined, (err: { code?: string }) => err.code)
  return { text: Buffer.concat(chunks).toString(), code }
}

test('I4: bytes pass both ways unchanged, 8 MiB of them, and both ends end', async (t) => {
  const { client } = await setUp(t)
  const sent = randomBytes(8 * 1024 * 1024)
  const pipe = await client.pipe('office/echo')
  const closed = once(pipe, 'close')
  pipe.end(sent)
  assert.ok(sent.equals(await buffer(pipe)))
  await closed
  assert.equal(pipe.errored, null)
})

test('our end is passed on while bytes still come in', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  pipe.end('question')
  await until(far.hasEnded)
  assert.equal(Buffer.concat(far.received).toString(), 'question')
  const result = outcome(pipe)
  far.channel.push('answer')
  far.channel.push(null)
  assert.deepEqual(await result, { text: 'answer', code: undefined })
})

test('their end is passed on while bytes still go out', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  far.channel.push('greeting')
  far.channel.push(null)
  const ended = once(pipe, 'end')
  const chunks: Buffer[] = []
  pipe.on('data', (chunk: Buffer) => { chunks.push(chunk) })
  await ended
  assert.equal(Buffer.concat(chunks).toString(), 'greeting')
  assert.ok(pipe.writable)
  pipe.write('later')
  await until(() => Buffer.concat(far.received).toString() === 'later')
  pipe.end()
  await once(pipe, 'close')
  assert.ok(far.hasEnded())
})

test('what is refused before the pipe stands has its code', async (t) => {
  const { client, fake } = await setUp(t)
  await assert.rejects(client.pipe('nobody/echo'), { code: 'ERR_UNKNOWN_FRIEND' })
  fake.offline.add('office')
  await assert.rejects(client.pipe('office/echo'), { code: 'ERR_PEER_OFFLINE' })
})

test('what is refused afterwards has its code, whether we read, write or both', async (t) => {
  const { client } = await setUp(t)
  const reading = await client.pipe('office/hidden')
  assert.equal((await outcome(reading)).code, 'ERR_NOT_AVAILABLE')
  const writing = await client.pipe('office/hidden')
  const failed = once(writing, 'error') as Promise<[{ code?: string }]>
  // more than any buffer in between takes: the rest waits for the drain that never comes
  let left = 1024
  const pump = (): void => { while (left-- > 0 && !writing.destroyed && writing.write(Buffer.alloc(16_384))); }
  writing.on('drain', pump)
  pump()
  assert.equal((await failed)[0].code, 'ERR_NOT_AVAILABLE')
})

test('I4: a lost link is an error and never an end, and what came before it is delivered', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  const result = outcome(pipe)
  far.channel.push('half a sen')
  await once(pipe, 'data')
  far.channel.destroy(new CarrierError('ERR_LINK_LOST', 'the link is gone'))
  assert.deepEqual(await result, { text: 'half a sen', code: 'ERR_LINK_LOST' })
})

test('I4: a link that is lost after their end still fails the writer', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  far.channel.push(null)
  pipe.resume()
  await once(pipe, 'end')
  // before the loss: nobody promises that it shows at the next write only
  const failed = once(pipe, 'error') as Promise<[{ code?: string }]>
  far.channel.destroy(new CarrierError('ERR_LINK_LOST', 'the link is gone'))
  await until(() => far.channel.closed)
  pipe.end('what nobody gets')
  assert.equal((await failed)[0].code, 'ERR_LINK_LOST')
})

test('I4: a daemon that goes away is an error and never an end', async (t) => {
  const { client, server } = await setUp(t)
  const pipe = await client.pipe('office/far')
  const result = outcome(pipe)
  await server.stop()
  const { code } = await result
  assert.ok(code === 'ERR_CLOSED' || code === 'ERR_LINK_LOST', String(code))
})

test('I4: a pipe that is given up is a reset for the far side, never an end', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  pipe.write('half')
  await until(() => far.received.length > 0)
  pipe.destroy()
  await once(pipe, 'close')
  await until(() => far.error() !== undefined)
  assert.ok(!far.hasEnded())
  assert.equal((far.error() as { code?: string }).code, 'ERR_RESET')
})

test('I8: a reader who stops reading stops the far side, and loses nothing', async (t) => {
  const { client, far } = await setUp(t)
  const pipe = await client.pipe('office/far')
  let given = 0
  const give = (): void => {
    if (given >= 32 * 1024 * 1024) return
    given += 65_536
    far.channel.push(Buffer.alloc(65_536, given / 65_536 % 251))
  }
  far.channel._read = give
  give()
  let before = -1
  // still for two looks, 50 turns apart: the pipe is full
  while (before !== given) {
    before = given
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => { setImmediate(resolve) })
  }
  assert.ok(given < 8 * 1024 * 1024, `${given} bytes were taken without a reader`)
  let received = 0
  for await (const chunk of pipe as AsyncIterable<Buffer>) {
    for (const byte of chunk) {
      if (byte !== (Math.floor(received / 65_536) + 1) % 251) assert.fail(`wrong byte at ${received}`)
      received++
    }
    if (received === 32 * 1024 * 1024) break
  }
  assert.equal(received, given)
})

test('I8: there are only so many pipes; one that ends makes room', async (t) => {
  const { client } = await setUp(t)
  const pipes: Duplex[] = []
  for (let count = 0; count < LIMITS.controlPipeCount; count++) pipes.push(await client.pipe('office/echo'))
  await assert.rejects(client.pipe('office/echo'), { code: 'ERR_LIMIT' })
  const [first] = pipes
  assert.ok(first !== undefined)
  first.resume().end()
  await once(first, 'close')
  pipes.push(await client.pipe('office/echo'))
  for (const pipe of pipes) pipe.destroy()
  await Promise.all(pipes.filter((pipe) => !pipe.closed).map(async (pipe) => { await once(pipe, 'close') }))
})

test('a foreign client needs no library: raw bytes after 101, half-close, and the result by its id', async (t) => {
  const { dataDirectory, client } = await setUp(t)
  const { socketPath, token } = await readEndpoint(dataDirectory)
  const outgoing = request({ socketPath, path: '/v1/pipe?to=office/echo', headers: { host: 'localhost', authorization: `Bearer ${token}`, connection: 'upgrade', upgrade: 'Carrier-Pipe' }, agent: false })
  outgoing.end()
  const [answer, socket, head] = await once(outgoing, 'upgrade') as [{ statusCode: number, headers: Record<string, string> }, Socket, Buffer]
  assert.equal(answer.statusCode, 101)
  socket.end('hello')
  const rest = await buffer(socket)
  assert.equal(Buffer.concat([head, rest]).toString(), 'hello')
  const id = answer.headers['carrier-pipe-id'] ?? ''
  assert.deepEqual(await client.call('pipe.result', { id, until: 'close' }), { state: 'closed' })
  await assert.rejects(client.call('pipe.result', { id: 'unknown', until: 'end' }), { code: 'ERR_NOT_FOUND' })
})

test('bytes that a client sends with its upgrade request are not lost', async (t) => {
  const { dataDirectory } = await setUp(t)
  const { socketPath, token } = await readEndpoint(dataDirectory)
  const { connect } = await import('node:net')
  const socket = connect({ path: socketPath, allowHalfOpen: true })
  socket.end(`GET /v1/pipe?to=office/echo HTTP/1.1\r\nHost: carrier\r\nAuthorization: Bearer ${token}\r\nConnection: Upgrade\r\nUpgrade: carrier-pipe\r\n\r\nearly bytes`)
  const text = (await buffer(socket)).toString()
  assert.match(text, /^HTTP\/1\.1 101 [^]*\r\n\r\nearly bytes$/)
})

test('the signal cancels the opening, and does nothing to a pipe that stands', async (t) => {
  const { client, fake } = await setUp(t)
  const dialled = Promise.withResolvers<undefined>()
  fake.carrier.forwarding.dial = async (_to, options) => {
    dialled.resolve(undefined)
    return untilAborted(options?.signal)
  }
  // at once, before the request is even on its way
  const early = new AbortController()
  const earlyRefused = assert.rejects(client.pipe('office/echo', { signal: early.signal }), { code: 'ERR_CANCELLED' })
  early.abort()
  await earlyRefused
  // and while the daemon dials
  const opening = new AbortController()
  const refused = assert.rejects(client.pipe('office/echo', { signal: opening.signal }), { code: 'ERR_CANCELLED' })
  await within('the daemon to dial', PATIENCE_MS, dialled.promise)
  opening.abort()
  await refused
  await assert.rejects(client.pipe('office/echo', { signal: opening.signal }), { code: 'ERR_CANCELLED' })

  const other = await setUp(t)
  const controller = new AbortController()
  const pipe = await other.client.pipe('office/echo', { signal: controller.signal })
  controller.abort()
  pipe.end('still here')
  assert.equal((await buffer(pipe)).toString(), 'still here')
})

test('a client that does not read cannot hold a daemon that stops, nor can one that waits for its friend', async (t) => {
  const clock = createFakeClock()
  const { client, server, far, fake } = await setUp(t, clock)
  const pipe = await client.pipe('office/far')
  pipe.on('error', () => { /* the daemon stops: that is what the test does */ })
  for (let count = 0; count < 64; count++) far.channel.push(Buffer.alloc(65_536))
  const arrived = Promise.withResolvers<undefined>()
  fake.carrier.forwarding.dial = async (_to, options) => {
    arrived.resolve(undefined)
    return untilAborted(options?.signal)
  }
  const waiting = assert.rejects(client.pipe('office/echo'), { code: 'ERR_CLOSED' })
  // requests travel on connections of their own: another one's answer says nothing about this one
  await within('the arrival of the request', PATIENCE_MS, arrived.promise)
  const stopping = server.stop()
  await within('the refusal of the one that waits', PATIENCE_MS, waiting)
  // a second of the daemon's own time, however long this machine needs for it
  await clock.advance(1000)
  await within('the stop of the server', PATIENCE_MS, stopping)
})

test('I4: how a pipe ended can be asked long after, as a slow reader does', async (t) => {
  const { client, far, dataDirectory } = await setUp(t)
  const pipe = await client.pipe('office/far')
  pipe.end()
  far.channel.push('the last words')
  far.channel.push(null)
  await until(() => far.channel.closed)
  // others come and go meanwhile
  const other = createControlClient({ dataDirectory })
  for (let count = 0; count < 300; count++) {
    const passing = await other.pipe('office/echo')
    passing.resume().end()
    await once(passing, 'close')
  }
  assert.deepEqual(await outcome(pipe), { text: 'the last words', code: undefined })
})
