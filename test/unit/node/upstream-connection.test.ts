/** A socket through a proxy as raw connection: both ways wait for who does not read, and what broke is an error. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { Logger } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { UpstreamConnection } from '../../../src/node/upstream-connection.ts'
import { openSocketPair } from '../../support/live-pair.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../../support/wait.ts'

const BLOCK = new Uint8Array(64 * 1024).fill(7)
const MIB = 1024 * 1024

const quiet = (): void => {}
const SILENT: Logger = Object.assign(quiet, { enabled: false, error: quiet, trace: quiet, newScope: () => SILENT })

async function openEnds (): Promise<{ connection: UpstreamConnection, far: Socket, events: string[] }> {
  const [stream, far] = await openSocketPair()
  const connection = new UpstreamConnection({ stream, remoteAddr: multiaddr('/dns4/relay.example.org/tcp/443'), log: SILENT })
  const events: string[] = []
  connection.addEventListener('close', (event) => { events.push(event.error === undefined ? 'closed' : 'broken') })
  return { connection, far, events }
}

test('a far end that does not read makes the sender wait; all of it arrives when it does', async () => {
  const { connection, far } = await openEnds()
  let sentBytes = 0
  let canSend = true
  while (canSend && sentBytes < 64 * MIB) {
    canSend = connection.send(BLOCK)
    sentBytes += BLOCK.length
  }
  assert.ok(!canSend, `${sentBytes} bytes were taken by somebody who does not read`)
  let receivedBytes = 0
  const drained = once(connection, 'drain')
  far.on('data', (chunk: Buffer) => { receivedBytes += chunk.length })
  // it is paused from its accept on
  far.resume()
  await within('the drain', PATIENCE_MS, drained)
  await waitFor('all bytes', () => receivedBytes === sentBytes, PATIENT)
  connection.abort(new Error('done'))
})

test('a paused connection reads nothing more, and goes on where it stopped', async () => {
  const { connection, far } = await openEnds()
  let receivedBytes = 0
  connection.addEventListener('message', (event) => { receivedBytes += event.data.byteLength })
  connection.pause()
  let sentBytes = 0
  while (far.writableLength < MIB && sentBytes < 64 * MIB) {
    await new Promise<void>((resolve) => { setImmediate(resolve) })
    far.write(BLOCK)
    sentBytes += BLOCK.length
  }
  assert.ok(far.writableLength >= MIB, `${sentBytes} bytes were taken by somebody who does not read`)
  assert.equal(receivedBytes, 0)
  connection.resume()
  await waitFor('all bytes', () => receivedBytes === sentBytes, PATIENT)
  connection.abort(new Error('done'))
})

test('I4: an end is an end, our own close is one, a reset is an error', async () => {
  for (const [expected, finish] of [
    ['closed', async ({ far }) => { far.end() }],
    ['closed', async ({ connection }) => { await connection.close() }],
    ['broken', async ({ far }) => { far.resetAndDestroy() }],
    ['broken', async ({ connection }) => { connection.abort(new Error('not wanted')) }]
  ] as Array<['closed' | 'broken', (ends: Awaited<ReturnType<typeof openEnds>>) => Promise<void>]>) {
    const ends = await openEnds()
    ends.far.resume()
    await within('the end', PATIENCE_MS, finish(ends))
    await waitFor('the event', () => ends.events.length > 0, PATIENT)
    assert.deepEqual(ends.events, [expected], String(finish))
    await waitFor('the far socket to be closed', () => ends.far.destroyed || ends.far.readableEnded, PATIENT)
    ends.far.destroy()
  }
})
