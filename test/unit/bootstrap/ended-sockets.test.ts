/** Sockets of peers that have ended and do not read what is left for them. */
import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { createEndedSockets } from '../../../src/bootstrap/ended-sockets.ts'
import type { EndedSockets } from '../../../src/bootstrap/ended-sockets.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { PATIENT, waitFor } from '../../support/wait.ts'

interface Ground { server: Server, clock: FakeClock, ended: EndedSockets, sockets: Socket[], end: () => void }

/** A server whose socket has more to say than the kernel takes, and a peer that does not read. */
async function start (t: TestContext): Promise<Ground> {
  const clock = createFakeClock()
  const ended = createEndedSockets(clock)
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.resume()
    socket.write(Buffer.alloc(32 << 20))
  })
  ended.watch(server)
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  const peer = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {}).pause()
  t.after(() => {
    peer.destroy()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  await waitFor('the socket', () => sockets.length === 1, PATIENT)
  return { server, clock, ended, sockets, end: () => { peer.end() } }
}

async function countOf (server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((err, count) => {
      if (err === null) resolve(count)
      else reject(err)
    })
  })
}

test('I8: a peer that ends without reading keeps its socket for a moment only', async (t) => {
  const { server, clock, end } = await start(t)
  end()
  await waitFor('the end to be seen', () => clock.pendingTimerCount() === 1, PATIENT)
  await clock.advance(LIMITS.relayEndedSocketMs - 1)
  assert.equal(await countOf(server), 1)
  await clock.advance(1)
  await waitFor('the socket to be closed', async () => await countOf(server) === 0, PATIENT)
  assert.equal(clock.pendingTimerCount(), 0)
})

test('one that reads the rest in time leaves no timer behind', async (t) => {
  const { server, clock, sockets, end } = await start(t)
  end()
  await waitFor('the end to be seen', () => clock.pendingTimerCount() === 1, PATIENT)
  sockets[0]?.destroy()
  await waitFor('the timer to be gone', () => clock.pendingTimerCount() === 0, PATIENT)
  assert.equal(await countOf(server), 0)
})

test('after the stop nothing is waited for, neither for those that have ended nor for those that end then', async (t) => {
  const [early, late] = [await start(t), await start(t)]
  early.end()
  await waitFor('the end to be seen', () => early.clock.pendingTimerCount() === 1, PATIENT)
  for (const { ended } of [early, late]) ended.stop()
  late.end()
  for (const { server } of [early, late]) await waitFor('the socket to be closed', async () => await countOf(server) === 0, PATIENT)
})
