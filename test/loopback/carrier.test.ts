/** The library as an application uses it: whole Carriers and a whole relay, in one process, on loopback. */
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { createCarrier, errorCode } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import { waitFor } from '../support/wait.ts'

const DEADLINE_MS = 60_000

interface World { relay: string, start: (name: string, from?: string) => Promise<Carrier> }

/** A relay that listens on `listen`, and Carriers that use it; all of it ends with the test. */
async function openWorld (t: TestContext, listen: string): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'carrier-library-'))
  const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: join(directory, 'relay'), listen: [listen], health: { host: '127.0.0.1', port: 0 } })
  await relay.start()
  const carriers: Carrier[] = []
  t.after(async () => {
    for (const carrier of carriers) await carrier.stop()
    await relay.stop()
    rmSync(directory, { recursive: true, force: true })
  })
  const address = relay.addresses()[0]
  assert.ok(address !== undefined)
  return {
    relay: address,
    start: async (name, keyOf) => {
      const dataDirectory = join(directory, name)
      if (keyOf !== undefined) {
        mkdirSync(dataDirectory, { mode: 0o700 })
        for (const file of ['identity.key', 'state.db', 'state.db-wal']) copyFileSync(join(directory, keyOf, file), join(dataDirectory, file))
      }
      const carrier = await createCarrier({ dataDirectory, relays: [address] })
      carriers.push(carrier)
      await carrier.start()
      return carrier
    }
  }
}

/** For messages: a Carrier that a failed test has stopped already has no status, and that must not hide the failure. */
function statusOf (carrier: Carrier): string {
  try {
    return JSON.stringify(carrier.status())
  } catch (err) {
    return String(err)
  }
}

/** Resolves with the payload of the first event of that name that satisfies `fits`. */
async function nextEvent (carrier: Carrier, name: string, fits: (payload: Record<string, unknown>) => boolean = () => true): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      remove()
      reject(new Error(`no ${name} within ${DEADLINE_MS} ms; status: ${statusOf(carrier)}`))
    }, DEADLINE_MS)
    const remove = carrier.onAnyEvent((found, payload) => {
      if (found !== name || !fits(payload as Record<string, unknown>)) return
      clearTimeout(timer)
      remove()
      resolve(payload as Record<string, unknown>)
    })
  })
}

async function befriend (asker: Carrier, asked: Carrier): Promise<void> {
  const requested = nextEvent(asked, 'friend:requested')
  const online = Promise.all([nextEvent(asker, 'friend:online'), nextEvent(asked, 'friend:online')])
  // awaited below; when something fails before, that is what the test shall say
  online.catch(() => {})
  const address = asked.addresses.current()?.address
  assert.ok(address !== undefined)
  assert.equal(asker.friends.add(address, { hello: 'hello' }), asked.identity.did)
  assert.deepEqual(await requested, { did: asker.identity.did, hello: 'hello' })
  asked.friends.accept(asker.identity.did, { label: 'asker' })
  await online
  asker.friends.label(asked.identity.did, 'asked')
}

for (const [name, listen, bestLink] of [['TCP', '/ip4/127.0.0.1/tcp/0', 'splice'], ['WebSockets', '/ip4/127.0.0.1/tcp/0/ws', 'stream']] as const) {
  test(`over a relay that is reached by ${name}: friends, a granted service, bytes through a forward`, { timeout: 180_000 }, async (t) => {
    const world = await openWorld(t, listen)
    const [office, laptop] = await Promise.all([world.start('office'), world.start('laptop')])
    await befriend(laptop, office)
    const echo = createServer((socket) => { socket.on('error', () => { /* the test ends connections hard */ }).pipe(socket) })
    await new Promise<void>((resolve) => { echo.listen(0, '127.0.0.1', resolve) })
    t.after(() => { echo.close() })
    office.forwarding.serve('echo', String((echo.address() as AddressInfo).port), { allow: ['asker'] })
    const forward = await laptop.forwarding.openForward({ port: 0, to: 'asked/echo' })
    assert.equal(forward.state, 'active')
    // a splice may carry the session already
    assert.match(forward.path ?? '', /^(relayed|spliced)$/)
    const channel = await laptop.forwarding.dial('asked/echo')
    const answered = new Promise<string>((resolve, reject) => {
      let text = ''
      channel.on('data', (chunk: Buffer) => { text += chunk.toString() })
      channel.on('end', () => { resolve(text) })
      channel.on('error', reject)
    })
    channel.end('ping and fin')
    assert.equal(await answered, 'ping and fin')
    const best = await waitFor(`a ${bestLink} link`, async () => {
      const now = await laptop.ping('asked')
      return now.link === bestLink && now
    }, { deadlineMs: 60_000 })
    assert.equal(best.path, bestLink === 'splice' ? 'spliced' : 'relayed')
    await assert.rejects(laptop.forwarding.openForward({ port: 0, to: 'asked/nothing' }), (err) => errorCode(err) === 'ERR_NOT_AVAILABLE')
    assert.deepEqual(laptop.status().problems, [])
  })
}

test('a removed friend is offline at once, on both sides, and a stranger from then on', { timeout: 180_000 }, async (t) => {
  const world = await openWorld(t, '/ip4/127.0.0.1/tcp/0')
  const [office, laptop] = await Promise.all([world.start('office'), world.start('laptop')])
  await befriend(laptop, office)
  const ended = Promise.all([nextEvent(laptop, 'friend:removed'), nextEvent(laptop, 'session:closed'), nextEvent(office, 'session:closed')])
  await office.friends.remove('asker')
  assert.deepEqual((await ended)[0], { did: office.identity.did, by: 'them' })
  assert.deepEqual([office.friends.list(), laptop.friends.list()], [[], []])
  assert.equal(office.sessions.list().length + laptop.sessions.list().length, 0)
})

test('I2: every link of a session is proven in it; a blocked friend loses the session and its channels at once', { timeout: 180_000 }, async (t) => {
  const world = await openWorld(t, '/ip4/127.0.0.1/tcp/0')
  const [office, laptop] = await Promise.all([world.start('office'), world.start('laptop')])
  await befriend(laptop, office)
  await waitFor('a splice', async () => (await laptop.ping('asked')).link === 'splice', { deadlineMs: DEADLINE_MS })
  for (const carrier of [office, laptop]) {
    await waitFor('the stream and the splice to be proven', async () => Number(/carrier_session_auth_total\{result="ok"\} (\d+)/.exec(await carrier.metrics.text())?.[1]) >= 2, { deadlineMs: DEADLINE_MS })
  }
  const [here, there] = [laptop.sessions.get(office.identity.did), office.sessions.get(laptop.identity.did)]
  assert.ok(here !== undefined && there !== undefined)
  there.onChannel('held', async (request) => { request.accept().on('error', () => { /* the end that blocks */ }) })
  const channel = here.openChannel('held', new Uint8Array(0))
  channel.write('held')
  await waitFor('the channel', () => there.channelCount === 1, { deadlineMs: DEADLINE_MS })
  const lost = new Promise<unknown>((resolve) => { channel.once('error', resolve) })
  const ended = Promise.all([nextEvent(laptop, 'session:closed'), nextEvent(office, 'session:closed')])
  ended.catch(() => { /* awaited below */ })
  await office.friends.block('asker')
  assert.equal(errorCode(await lost), 'ERR_CLOSED')
  assert.deepEqual((await ended).map(({ code }) => code), ['ERR_CLOSED', 'ERR_CLOSED'])
  assert.equal(office.sessions.list().length, 0)
})

test('two live processes with one key are noticed by their friend, and the older one says so', { timeout: 180_000 }, async (t) => {
  const world = await openWorld(t, '/ip4/127.0.0.1/tcp/0')
  const [office, laptop] = await Promise.all([world.start('office'), world.start('laptop')])
  await befriend(laptop, office)
  // listened for from before the cause on: which of the two hears of it first is nobody's promise
  const noticed = Promise.all([office, laptop].map(async (carrier) => nextEvent(carrier, 'node:duplicate-identity', ({ did }) => did === laptop.identity.did)))
  await Promise.all([noticed, world.start('clone', 'laptop')])
  assert.ok(laptop.status().problems.some((problem) => problem.includes('another live process uses this identity')))
})
