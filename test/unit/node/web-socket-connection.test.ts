/** A WebSocket as raw connection: whoever does not read makes the other side wait, and what broke never looks like an end. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { after, test } from 'node:test'
import type { Logger } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { WebSocket, WebSocketServer } from 'ws'
import { LIMITS } from '../../../src/base/index.ts'
import { WebSocketConnection } from '../../../src/node/web-socket-connection.ts'
import { PATIENCE_MS, PATIENT, waitFor, within } from '../../support/wait.ts'

const BLOCK = new Uint8Array(64 * 1024).fill(7)
/** What two kernels may hold of one connection. */
const KERNEL_BYTES = 16 * 1024 * 1024

const quiet = (): void => {}
const SILENT: Logger = Object.assign(quiet, { enabled: false, error: quiet, trace: quiet, newScope: () => SILENT })

const servers: WebSocketServer[] = []
after(() => {
  for (const server of servers) {
    for (const client of server.clients) client.terminate()
    server.close()
  }
})

interface Ends { connection: WebSocketConnection, far: WebSocket, farSocket: Socket, events: string[] }

async function openEnds (): Promise<Ends> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false })
  servers.push(server)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const accepted = once(server, 'connection') as Promise<[WebSocket, { socket: Socket }]>
  const near = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false, maxPayload: LIMITS.webSocketReadBytes })
  const connection = await new Promise<WebSocketConnection>((resolve) => {
    near.on('open', () => { resolve(new WebSocketConnection({ webSocket: near, remoteAddr: multiaddr(`/ip4/127.0.0.1/tcp/${port}/ws`), log: SILENT })) })
  })
  const [far, request] = await accepted
  far.on('error', () => { /* broken on purpose */ })
  const events: string[] = []
  connection.addEventListener('close', (event) => { events.push(event.error === undefined ? 'closed' : `broken ${event.error.name}`) })
  return { connection, far, farSocket: request.socket, events }
}

async function closed (ends: Ends): Promise<string> {
  await waitFor('the end of the connection', () => ends.events.length > 0, PATIENT)
  assert.equal(ends.events.length, 1, ends.events.join())
  return ends.events[0] ?? ''
}

test('a far end that does not read makes the sender wait, and all of it arrives when it does', async () => {
  const ends = await openEnds()
  ends.far.pause()
  let sentBytes = 0
  while (ends.connection.send(BLOCK) && sentBytes < KERNEL_BYTES) sentBytes += BLOCK.length
  sentBytes += BLOCK.length
  // nothing can be handed to the kernel before this turn ends
  assert.ok(sentBytes >= LIMITS.webSocketBufferBytes && sentBytes <= LIMITS.webSocketBufferBytes + BLOCK.length, `${sentBytes} bytes`)
  let receivedBytes = 0
  ends.far.on('message', (data: Buffer) => { receivedBytes += data.length })
  const drained = once(ends.connection, 'drain')
  ends.far.resume()
  await within('the drain', PATIENCE_MS, drained)
  await waitFor('all bytes', () => receivedBytes === sentBytes, PATIENT)
  assert.equal(ends.connection.send(BLOCK), true)
  await ends.connection.close()
  assert.equal(await closed(ends), 'closed')
})

test('a paused connection reads nothing more, and goes on where it stopped', async () => {
  const ends = await openEnds()
  let receivedBytes = 0
  ends.connection.addEventListener('message', (event) => { receivedBytes += event.data.byteLength })
  ends.connection.pause()
  let sentBytes = 0
  // until the kernels are full: what is left waits in the far end
  while (ends.far.bufferedAmount < 1024 * 1024 && sentBytes < 4 * KERNEL_BYTES) {
    await new Promise<void>((resolve) => { setImmediate(resolve) })
    ends.far.send(BLOCK)
    sentBytes += BLOCK.length
  }
  assert.ok(ends.far.bufferedAmount >= 1024 * 1024, `${sentBytes} bytes were taken by somebody who does not read`)
  assert.equal(receivedBytes, 0)
  assert.ok(ends.connection.readBufferLength <= 512 * 1024, `${ends.connection.readBufferLength} bytes were read ahead`)
  ends.connection.resume()
  await waitFor('all bytes', () => receivedBytes === sentBytes, PATIENT)
  ends.connection.abort(new Error('done'))
})

test('messages are split, so that no end has to hold a long one', async () => {
  const ends = await openEnds()
  const sizes: number[] = []
  ends.far.on('message', (data: Buffer) => { sizes.push(data.length) })
  ends.connection.send(new Uint8Array(2.5 * LIMITS.webSocketMessageBytes))
  await waitFor('three messages', () => sizes.length === 3, PATIENT)
  assert.deepEqual(sizes, [LIMITS.webSocketMessageBytes, LIMITS.webSocketMessageBytes, LIMITS.webSocketMessageBytes / 2])
  ends.connection.abort(new Error('done'))
})

test('I4: a close that was meant is an end; a socket that breaks or ends without one is an error', async () => {
  const meant = await openEnds()
  meant.far.close(1000)
  assert.equal(await closed(meant), 'closed')
  for (const [what, breakIt] of [
    ['a reset', (ends: Ends) => { ends.farSocket.resetAndDestroy() }],
    ['an end without a close', (ends: Ends) => { ends.farSocket.end() }],
    ['a close with the code of an error', (ends: Ends) => { ends.far.close(1011) }],
    ['text', (ends: Ends) => { ends.far.send('text') }],
    ['a message that is too long', (ends: Ends) => { ends.far.send(new Uint8Array(LIMITS.webSocketReadBytes + 1)) }],
    ['bytes that are no frame', (ends: Ends) => { ends.farSocket.write(Buffer.alloc(64, 0xff)) }]
  ] as const) {
    const ends = await openEnds()
    breakIt(ends)
    assert.match(await closed(ends), /^broken /, what)
    await waitFor(`${what}: the far socket to be closed`, () => ends.farSocket.destroyed || ends.farSocket.readableEnded, PATIENT)
  }
})

test('an abort destroys the socket at once, also one that is paused and full', async () => {
  const ends = await openEnds()
  ends.far.pause()
  ends.connection.pause()
  for (let count = 0; count < 1000 && ends.connection.send(BLOCK); count++) { /* until it is full */ }
  ends.connection.abort(new Error('not wanted'))
  assert.equal(ends.events.length, 1)
  ends.far.resume()
  const [code] = await within('the far end to see it', PATIENCE_MS, once(ends.far, 'close') as Promise<[number]>)
  assert.equal(code, 1006)
  assert.throws(() => ends.connection.send(BLOCK))
})

test('a close that the other end does not answer ends with its signal', async () => {
  const ends = await openEnds()
  ends.far.pause()
  const controller = new AbortController()
  const closing = ends.connection.close({ signal: controller.signal })
  controller.abort(new Error('long enough'))
  await within('the close', PATIENCE_MS, closing.catch(() => { /* the signal may be its end too */ }))
  assert.equal(await closed(ends), 'closed')
})
