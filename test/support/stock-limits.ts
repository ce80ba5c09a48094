/** Two friends on relays that end circuits, and a slow transfer between them that goes on for as long as a test wants. */
import { createHash, randomBytes } from 'node:crypto'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { createCarrier } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, PATIENT, pause, waitFor, within } from './wait.ts'

/** Friends in a session; `resumeCount` counts the links that the laptop's session went on over after a loss. */
export interface StockWorld { office: Carrier, laptop: Carrier, resumeCount: () => number }

/** Starts both and makes them friends; they stop with the test. */
export async function openStockWorld (t: Pick<TestContext, 'after'>, relays: string[]): Promise<StockWorld> {
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
  await waitFor('the friend request', () => office.friends.requests().length > 0, PATIENT)
  office.friends.accept(laptop.identity.did, { label: 'laptop' })
  await waitFor('a session at both ends', () => office.sessions.list().length + laptop.sessions.list().length === 2, PATIENT)
  return { office, laptop, resumeCount: () => resumeCount }
}

/** A service that answers so many bytes as it was sent, after the end, with other bytes; the hash of what came is kept. */
export async function startMirror (t: Pick<TestContext, 'after'>, answer: (received: Buffer) => Buffer | string): Promise<{ port: number, receivedSha256: Promise<string> }> {
  const received = Promise.withResolvers<string>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const chunks: Buffer[] = []
    socket.on('error', received.reject)
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.on('end', () => {
      const bytes = Buffer.concat(chunks)
      // the probe of the forward says nothing
      if (bytes.length > 0) received.resolve(sha256(bytes))
      socket.end(bytes.length > 0 ? answer(bytes) : '')
    })
  })
  received.promise.catch(() => { /* whoever waits for it is told */ })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.after(() => { server.close() })
  return { port: (server.address() as AddressInfo).port, receivedSha256: received.promise }
}

/** How a slow transfer goes. `isEnough` is asked before each piece. */
export interface TrickleInit { pieceBytes: number, everyMs: number, isEnough: () => boolean, deadlineMs: number }

/**
 * Sends pieces over a forward until it is enough; the service answers the hash of what it got. Gives all hashes: equal ones mean
 * that nothing was lost in either direction. Fails when the connection breaks.
 */
export async function trickle (t: Pick<TestContext, 'after'>, { office, laptop }: StockWorld, init: TrickleInit): Promise<{ sent: string, received: string, answered: string, sentBytes: number }> {
  const mirror = await startMirror(t, sha256)
  office.forwarding.serve('mirror', String(mirror.port), { allow: ['laptop'] })
  const { listen } = await laptop.forwarding.openForward({ port: 0, to: 'office/mirror' })
  const socket = connect({ port: Number(listen.split(':')[1]), host: '127.0.0.1', allowHalfOpen: true })
  const answer = buffer(socket)
  answer.catch(() => { /* told below */ })
  const hash = createHash('sha256')
  const startedAtMs = performance.now()
  let sentBytes = 0
  do {
    if (performance.now() - startedAtMs > init.deadlineMs) throw new Error(`it was not enough after ${init.deadlineMs} ms`)
    const piece = randomBytes(init.pieceBytes)
    hash.update(piece)
    sentBytes += piece.length
    socket.write(piece)
    await pause(init.everyMs)
  } while (!init.isEnough() && !socket.destroyed)
  socket.end()
  const answered = (await within('the answer', PATIENCE_MS, answer)).toString()
  return { sent: hash.digest('hex'), received: await within('the end at the service', PATIENCE_MS, mirror.receivedSha256), answered, sentBytes }
}

/** In hexadecimal. */
export function sha256 (bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}
