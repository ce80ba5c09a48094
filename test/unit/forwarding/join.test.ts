import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { systemClock } from '../../../src/base/index.ts'
import { join, resetSocket } from '../../../src/forwarding/join.ts'
import { createRealSessionPair } from '../../support/real-sessions.ts'
import { connectTo, endOf, readAll, startEcho, startTarget } from '../../support/target-server.ts'
import type { TargetServer } from '../../support/target-server.ts'
import { waitFor, within } from '../../support/wait.ts'

describe('resetting a socket', () => {
  async function connected (): Promise<{ client: Socket, server: Socket, target: TargetServer }> {
    const arrived = Promise.withResolvers<Socket>()
    const target = await startTarget(arrived.resolve)
    const client = await connectTo(target.port)
    return { client, server: await arrived.promise, target }
  }

  it('I4: the other end sees a reset, never an end', async () => {
    const { client, server, target } = await connected()
    const ending = endOf(client)
    resetSocket(server)
    resetSocket(server)
    assert.equal(await ending, 'ECONNRESET')
    await target.close()
  })

  it('I4: also when bytes and an end are still on their way to it', async () => {
    const { client, server, target } = await connected()
    client.pause()
    server.write(Buffer.alloc(16 * 1024 * 1024))
    server.end()
    resetSocket(server)
    assert.equal(await endOf(client), 'ECONNRESET')
    await target.close()
  })

  it('a socket that is just being shut down is freed too', async () => {
    const { client, server, target } = await connected()
    server.end()
    const closed = once(server, 'close')
    resetSocket(server)
    await closed
    assert.equal(target.sockets.size, 0)
    client.destroy()
    await target.close()
  })
})

for (const way of ['memory that is used again', 'the public API'] as const) {
  it(`I4: a joined socket passes 24 MiB in both directions, with pauses, and both ends: ${way}`, async () => {
    const echo = await startEcho()
    const sessions = createRealSessionPair(systemClock)
    sessions.bob.onChannel('echo', async (request) => {
      void join(prepared(await connectTo(echo.port), way), request.accept())
    })
    await sessions.start()
    const session = await sessions.alice.open(sessions.bobDid)
    const channel = session.openChannel('echo', new Uint8Array(0))
    const joined = Promise.withResolvers<Awaited<ReturnType<typeof join>>>()
    const target = await startTarget((socket) => {
      join(prepared(socket, way), channel).then(joined.resolve, joined.reject)
    })
    const client = await connectTo(target.port)
    const [sent, received] = [createHash('sha256'), createHash('sha256')]
    let receivedBytes = 0
    client.on('data', (chunk: Buffer) => {
      received.update(chunk)
      receivedBytes += chunk.length
      // a reader that stops now and then: what waits meanwhile must not be written over
      if (receivedBytes % 7 === 0) {
        client.pause()
        setImmediate(() => { client.resume() })
      }
    })
    const ended = once(client, 'end')
    for (let left = 24 * 1024 * 1024; left > 0;) {
      const chunk = randomBytes(Math.min(left, 1 + Math.floor(Math.random() * 200_000)))
      left -= chunk.length
      sent.update(chunk)
      if (!client.write(chunk)) await once(client, 'drain')
    }
    client.end()
    await within('the end', 60_000, ended)
    assert.equal(received.digest('hex'), sent.digest('hex'))
    assert.deepEqual(await within('both closed', 60_000, joined.promise), { error: undefined, origin: undefined })
    await Promise.all([target.close(), echo.close(), sessions.alice.stop(), sessions.bob.stop()])
  })
}

it('I4: a program that said its end before there was anything to join is heard', async () => {
  const sessions = createRealSessionPair(systemClock)
  const received = Promise.withResolvers<Buffer>()
  sessions.bob.onChannel('sink', async (request) => {
    const channel = request.accept()
    readAll(channel as unknown as Socket).then(received.resolve, received.reject)
    channel.end()
  })
  await sessions.start()
  const session = await sessions.alice.open(sessions.bobDid)
  const arrived = Promise.withResolvers<Socket>()
  const target = await startTarget(arrived.resolve)
  const client = await connectTo(target.port)
  client.resume()
  client.end()
  const socket = await arrived.promise
  await waitFor('the end to be seen', () => socket.readableEnded, { deadlineMs: 30_000, intervalMs: 2 })
  const joined = join(socket, session.openChannel('sink', new Uint8Array(0)))
  assert.equal((await within('the end at the other side', 30_000, received.promise)).length, 0)
  assert.deepEqual(await within('both closed', 30_000, joined), { error: undefined, origin: undefined })
  await Promise.all([target.close(), sessions.alice.stop(), sessions.bob.stop()])
})

/** For the public API, the shape of the handle that is looked for is gone. */
function prepared (socket: Socket, way: string): Socket {
  if (way === 'the public API') Object.defineProperty((socket as unknown as { _handle: object })._handle, 'useUserBuffer', { value: undefined })
  return socket
}
