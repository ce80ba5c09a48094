/** The load of soak and nemesis, examined without Carrier: over what tells the truth it is whole, and every lie is seen. */
import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { test } from 'node:test'
import { HOST } from '../support/program.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'
import { historyNow, startLoad, startLoadPeer } from './load.ts'
import type { Verdict } from './history.ts'

/** What stands between a caller and its service: each may do something to the bytes that come back, once `atBytes` of them have passed. */
type Middle = 'honest' | 'ends early' | 'resets' | 'changes a byte'

const AT_BYTES = 5_000
const LEAST_CHANNELS = 20

test('over an honest middle every channel is whole', async () => {
  const { verdict, kinds } = await runThrough('honest')
  assert.deepEqual(verdict.violations, [])
  assert.equal(verdict.failedCount, 0)
  assert.deepEqual([...kinds].sort(), ['idle', 'long', 'psql', 'river', 'short'])
})

test('a connection that is reset is a failure, and no lie', async () => {
  const { verdict } = await runThrough('resets')
  assert.deepEqual(verdict.violations, [])
  assert.ok(verdict.failedCount > 0)
  assert.ok(verdict.failures.has('ECONNRESET'), [...verdict.failures.keys()].join())
})

test('I4: a clean end after a part of the bytes is seen', async () => {
  const { verdict } = await runThrough('ends early')
  assert.ok(verdict.violations.some(({ what }) => /a false end|an end after \d+ of/.test(what)), JSON.stringify(verdict.violations.slice(0, 5)))
})

test('I1: one changed byte is seen', async () => {
  const { verdict } = await runThrough('changes a byte')
  assert.ok(verdict.violations.some(({ what }) => new RegExp(`the caller received a byte at ${AT_BYTES} `).test(what)), JSON.stringify(verdict.violations.slice(0, 5)))
})

async function runThrough (middle: Middle): Promise<{ verdict: Verdict, kinds: Iterable<string> }> {
  const one = await startLoadPeer(HOST)
  const other = await startLoadPeer(HOST)
  const servers = [await startMiddle(other.port, middle), await startMiddle(one.port, 'honest')]
  const [there, back] = servers.map((server) => ({ host: '127.0.0.1', port: (server.address() as AddressInfo).port }))
  assert.ok(there !== undefined && back !== undefined)
  // both places are this machine: the names of channels must differ
  const load = startLoad({ seed: 1, hangMs: PATIENCE_MS, bytesPerSecond: 64 * 1024, ends: [{ peer: { ...one, name: 'one' }, door: there }, { peer: { ...other, name: 'other' }, door: back }] })
  try {
    await waitFor('some channels', () => load.history.wholeCount() >= LEAST_CHANNELS, { deadlineMs: PATIENCE_MS })
    await load.calm({ keepIdle: false, deadlineMs: PATIENCE_MS })
    await waitFor('the ends of the services', () => load.history.openCount() === 0, { deadlineMs: PATIENCE_MS / 6 }).catch((err: unknown) => {
      // a channel that was lied to may stand for ever; the honest ones must not
      if (middle === 'honest' || middle === 'resets') throw err
    })
    return { verdict: load.history.verdict(historyNow()), kinds: load.wholeByKind.keys() }
  } finally {
    await load.stop()
    for (const peer of [one, other]) await peer.program.stop()
    for (const server of servers) server.close()
  }
}

/** Passes connections on to `port`. */
async function startMiddle (port: number, middle: Middle): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    const reset = (socket: Socket): void => { if (!socket.destroyed) socket.resetAndDestroy() }
    near.on('error', () => { reset(far) }).pipe(far)
    far.on('error', () => { reset(near) })
    let passedBytes = 0
    far.on('data', (chunk: Buffer) => {
      const at = AT_BYTES - passedBytes
      passedBytes += chunk.length
      const isHere = middle !== 'honest' && at >= 0 && at < chunk.length
      if (!isHere) {
        if (!near.writableEnded) near.write(chunk)
        return
      }
      if (middle === 'changes a byte') {
        chunk[at] = (chunk[at] ?? 0) ^ 1
        near.write(chunk)
        return
      }
      if (middle === 'ends early') {
        near.end(chunk.subarray(0, at))
        return
      }
      reset(near)
      reset(far)
    })
    far.on('end', () => { if (!near.writableEnded) near.end() })
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  return server
}
