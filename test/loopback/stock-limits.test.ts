/**
 * A stock circuit-relay-v2 relay with its own limits ends every circuit after 128 KiB or two minutes. What is longer goes on
 * over the next circuit, or over a better relay when there is one; nothing is ever truncated silently (I4).
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { createCarrier } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import { printFigure } from '../support/statistics.ts'
import { prepareLimitedStockRelay } from '../support/stock-relay.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, timed, waitFor, within } from '../support/wait.ts'

const TRANSFER_BYTES = 1024 * 1024
/** Eight circuits and more, each found by another dial; one alone may wait for two seconds. */
const TRANSFER_MS = 4 * PATIENCE_MS
const CIRCUIT_BYTES = 128 * 1024

interface World { office: Carrier, laptop: Carrier, resumeCount: () => number }

async function openWorld (t: TestContext, relays: string[]): Promise<World> {
  const directory = makeTempDirectory('limits')
  const stopped: Carrier[] = []
  t.after(async () => { for (const carrier of stopped) await carrier.stop() })
  const start = async (name: string): Promise<Carrier> => {
    const carrier = await createCarrier({ dataDirectory: join(directory, name), relays })
    stopped.push(carrier)
    await carrier.start()
    return carrier
  }
  const [office, laptop] = [await start('office'), await start('laptop')]
  let resumeCount = 0
  laptop.onAnyEvent((name) => { if (name === 'session:resumed') resumeCount++ })
  laptop.friends.add(office.addresses.current()?.address ?? '', { label: 'office' })
  await waitFor('the friend request', () => office.friends.requests().length > 0, { deadlineMs: PATIENCE_MS })
  office.friends.accept(laptop.identity.did, { label: 'laptop' })
  await waitFor('a session at both ends', () => office.sessions.list().length + laptop.sessions.list().length === 2, { deadlineMs: PATIENCE_MS })
  return { office, laptop, resumeCount: () => resumeCount }
}

/** Answers so many bytes as it was sent, after the end, with other bytes; both hashes are kept. */
async function startMirror (t: TestContext, answer: Buffer): Promise<{ port: number, receivedSha256: Promise<string> }> {
  const received = Promise.withResolvers<string>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('error', received.reject)
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.on('end', () => {
      // the probe of the forward says nothing
      if (chunks.length > 0) received.resolve(sha256(Buffer.concat(chunks)))
      socket.end(chunks.length > 0 ? answer : '')
    })
  })
  received.promise.catch(() => { /* whoever waits for it is told */ })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.after(() => { server.close() })
  return { port: (server.address() as AddressInfo).port, receivedSha256: received.promise }
}

async function transfer (t: TestContext, { office, laptop }: World): Promise<void> {
  const [up, down] = [randomBytes(TRANSFER_BYTES), randomBytes(TRANSFER_BYTES)]
  const mirror = await startMirror(t, down)
  office.forwarding.serve('mirror', String(mirror.port), { allow: ['laptop'] })
  const { listen } = await laptop.forwarding.openForward({ port: 0, to: 'office/mirror' })
  const socket = connect({ port: Number(listen.split(':')[1]), host: '127.0.0.1', allowHalfOpen: true })
  socket.end(up)
  const answer = await within('the whole answer', TRANSFER_MS, buffer(socket))
  assert.equal(await within('the end at the service', PATIENCE_MS, mirror.receivedSha256), sha256(up), 'I4: the service has other bytes than were sent')
  assert.equal(answer.length, down.length)
  assert.equal(sha256(answer), sha256(down), 'I4: the caller has other bytes than were sent')
}

function sha256 (bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

test('I4 I5: over a stock relay that ends every circuit after 128 KiB: 1 MiB there and back goes over many circuits, and arrives whole', { timeout: 2 * TRANSFER_MS }, async (t) => {
  const relay = await prepareLimitedStockRelay('limited')
  await relay.start()
  t.after(async () => { await relay.kill() })
  const world = await openWorld(t, [relay.address])
  const { elapsedMs } = await timed(async () => { await transfer(t, world) })
  printFigure(`2 MiB over circuits of 128 KiB (${world.resumeCount()} resumes)`, elapsedMs, 'ms')
  assert.ok(world.resumeCount() >= 2 * TRANSFER_BYTES / CIRCUIT_BYTES - 1, `${world.resumeCount()} resumes: the relay did not limit anything`)
})

test('I4 I5: with a relay of ours beside the stock one: 1 MiB there and back arrives whole, whichever of them the session began at', { timeout: 2 * TRANSFER_MS }, async (t) => {
  const limited = await prepareLimitedStockRelay('limited beside')
  await limited.start()
  t.after(async () => { await limited.kill() })
  const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: join(makeTempDirectory('limits-relay'), 'relay'), listen: ['/ip4/127.0.0.1/tcp/0'], health: { host: '127.0.0.1', port: 0 } })
  await relay.start()
  t.after(async () => { await relay.stop() })
  const world = await openWorld(t, [limited.address, ...relay.addresses()])
  const began = world.laptop.sessions.list()[0]?.relayPeerId === limited.peerId ? 'stock' : 'our'
  const { elapsedMs } = await timed(async () => { await transfer(t, world) })
  const linkOf = (): string | undefined => world.laptop.sessions.list()[0]?.link
  printFigure(`2 MiB with a relay of ours beside it, begun at the ${began} one (${world.resumeCount()} resumes, at last over ${String(linkOf())})`, elapsedMs, 'ms')
  await waitFor('the session to be at our relay, where nothing ends it', () => linkOf() === 'splice', { deadlineMs: PATIENCE_MS })
})
