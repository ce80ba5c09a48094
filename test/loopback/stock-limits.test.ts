/**
 * A stock circuit-relay-v2 relay with its own limits ends every circuit after 128 KiB or two minutes. What is longer goes on
 * over the next circuit, or over a better relay when there is one; nothing is ever truncated silently (I4).
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { printFigure } from '../support/statistics.ts'
import { openStockWorld, sha256, startMirror, trickle } from '../support/stock-limits.ts'
import type { StockWorld } from '../support/stock-limits.ts'
import { prepareBriefStockRelay, prepareLimitedStockRelay } from '../support/stock-relay.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { PATIENCE_MS, timed, waitFor, within } from '../support/wait.ts'

const TRANSFER_BYTES = 1024 * 1024
/** Eight circuits and more, each found by another dial; one alone may wait for two seconds. */
const TRANSFER_MS = 4 * PATIENCE_MS
const CIRCUIT_BYTES = 128 * 1024
/** So many circuits end below the slow transfer. */
const EXPIRY_COUNT = 3

async function transfer (t: TestContext, { office, laptop }: StockWorld): Promise<void> {
  const [up, down] = [randomBytes(TRANSFER_BYTES), randomBytes(TRANSFER_BYTES)]
  const mirror = await startMirror(t, () => down)
  office.forwarding.serve('mirror', String(mirror.port), { allow: ['laptop'] })
  const { listen } = await laptop.forwarding.openForward({ port: 0, to: 'office/mirror' })
  const socket = connect({ port: Number(listen.split(':')[1]), host: '127.0.0.1', allowHalfOpen: true })
  socket.end(up)
  const answer = await within('the whole answer', TRANSFER_MS, buffer(socket))
  assert.equal(await within('the end at the service', PATIENCE_MS, mirror.receivedSha256), sha256(up), 'I4: the service has other bytes than were sent')
  assert.equal(answer.length, down.length)
  assert.equal(sha256(answer), sha256(down), 'I4: the caller has other bytes than were sent')
}

test('I4 I5: over a stock relay that ends every circuit after 128 KiB: 1 MiB there and back goes over many circuits, and arrives whole', { timeout: 2 * TRANSFER_MS }, async (t) => {
  const relay = await prepareLimitedStockRelay('limited')
  await relay.start()
  t.after(async () => { await relay.kill() })
  const world = await openStockWorld(t, [relay.address])
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
  const world = await openStockWorld(t, [limited.address, ...relay.addresses()])
  const began = world.laptop.sessions.list()[0]?.relayPeerId === limited.peerId ? 'stock' : 'our'
  const { elapsedMs } = await timed(async () => { await transfer(t, world) })
  const linkOf = (): string | undefined => world.laptop.sessions.list()[0]?.link
  printFigure(`2 MiB with a relay of ours beside it, begun at the ${began} one (${world.resumeCount()} resumes, at last over ${String(linkOf())})`, elapsedMs, 'ms')
  await waitFor('the session to be at our relay, where nothing ends it', () => linkOf() === 'splice', { deadlineMs: PATIENCE_MS })
})

test('I4 I5: over a stock relay that ends every circuit after three seconds: a slow transfer outlives several of them, and arrives whole', { timeout: 4 * PATIENCE_MS }, async (t) => {
  const relay = await prepareBriefStockRelay('brief', 3_000)
  await relay.start()
  t.after(async () => { await relay.kill() })
  const world = await openStockWorld(t, [relay.address])
  const before = world.resumeCount()
  const { sent, received, answered, sentBytes } = await trickle(t, world, { pieceBytes: 4096, everyMs: 50, isEnough: () => world.resumeCount() - before >= EXPIRY_COUNT, deadlineMs: 2 * PATIENCE_MS })
  printFigure(`${sentBytes} bytes over circuits of 3 s`, world.resumeCount() - before, 'resumes')
  assert.deepEqual([received, answered], [sent, sent], 'I4: other bytes arrived than were sent')
})
