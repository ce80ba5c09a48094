/**
 * One end of a transfer, as a process of its own.
 * `transfer-main.ts serve HOST` prints its port, then one line for the end of each connection.
 * `transfer-main.ts call HOST PORT JSON` connects, says what it wants in one line, and prints its progress and its end.
 * Both directions run at once; an end is told with what was sent, what came, and how the connection ended. A line on the
 * caller's standard input ends a transfer without a length.
 */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { ByteMeter, createByteSource } from './byte-stream.ts'
import type { TransferEnd, TransferInit } from './transfer.ts'

const BLOCK_BYTES = 64 * 1024
const PROGRESS_MS = 10

/** What the caller's first line says. */
interface Order { id: string, upBytes: number | null, downBytes: number | null, bytesPerSecond: number | null }

const [role = '', host = '', port = '', text = '{}'] = process.argv.slice(2)
if (role === 'serve') serve()
else await call(JSON.parse(text) as TransferInit & { id: string })

function serve (): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    serveOne(socket).catch((err: unknown) => { console.log(JSON.stringify({ failure: String(err) })) })
  })
  server.listen({ host, port: 0 }, () => { console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })) })
  process.stdin.on('end', () => { process.exit(0) }).resume()
}

async function serveOne (socket: Socket): Promise<void> {
  socket.on('error', () => { /* told with the end */ })
  let head = Buffer.alloc(0)
  while (!head.includes('\n')) {
    const [chunk] = await once(socket, 'data') as [Buffer]
    head = Buffer.concat([head, chunk])
  }
  socket.pause()
  const line = head.indexOf('\n')
  const order = JSON.parse(head.subarray(0, line).toString()) as Order
  if (line + 1 < head.length) socket.unshift(head.subarray(line + 1))
  let isOver = false
  socket.once('end', () => { isOver = true })
  const end = await run(socket, { seed: `${order.id} down`, sendBytes: order.downBytes, bytesPerSecond: order.bytesPerSecond, isOver: () => isOver, pauses: [], onProgress: () => {} })
  console.log(JSON.stringify({ id: order.id, end }))
}

async function call (init: TransferInit & { id: string }): Promise<void> {
  const socket = connect({ host, port: Number(port), allowHalfOpen: true, noDelay: true })
  await once(socket, 'connect')
  let isOver = false
  createInterface({ input: process.stdin }).once('line', () => { isOver = true })
  const order: Order = { id: init.id, upBytes: init.upBytes ?? null, downBytes: init.downBytes ?? null, bytesPerSecond: init.bytesPerSecond ?? null }
  socket.write(`${JSON.stringify(order)}\n`)
  const end = await run(socket, {
    seed: `${init.id} up`,
    sendBytes: order.upBytes,
    bytesPerSecond: order.bytesPerSecond,
    isOver: () => isOver,
    pauses: init.pauses ?? [],
    onProgress: (progress) => { console.log(JSON.stringify(progress)) }
  })
  console.log(JSON.stringify({ end }))
  process.exit(0)
}

interface Run {
  seed: string
  sendBytes: number | null
  bytesPerSecond: number | null
  isOver: () => boolean
  pauses: ReadonlyArray<{ atBytes: number, pauseMs: number }>
  onProgress: (progress: { receivedBytes: number, pausedAtBytes?: number }) => void
}

async function run (socket: Socket, init: Run): Promise<TransferEnd> {
  const sent = new ByteMeter()
  const received = new ByteMeter()
  const pauses = [...init.pauses]
  let how = 'closed without an end'
  let toldBytes = 0
  const timer = setInterval(() => {
    if (received.bytes === toldBytes) return
    toldBytes = received.bytes
    init.onProgress({ receivedBytes: toldBytes })
  }, PROGRESS_MS)
  socket.on('error', (err) => { how = (err as NodeJS.ErrnoException).code ?? err.message })
  socket.once('end', () => { how = 'end' })
  socket.on('data', (chunk: Buffer) => {
    received.note(chunk)
    const next = pauses[0]
    if (next === undefined || received.bytes < next.atBytes) return
    pauses.shift()
    socket.pause()
    init.onProgress({ receivedBytes: received.bytes, pausedAtBytes: next.atBytes })
    setTimeout(() => {
      received.forgive()
      socket.resume()
    }, next.pauseMs)
  })
  socket.resume()
  const over = new Promise<void>((resolve) => {
    socket.once('close', resolve)
    socket.once('end', resolve)
  })
  await send(socket, sent, init)
  await over
  clearInterval(timer)
  if (!socket.closed && !socket.writableFinished && !socket.destroyed) await Promise.race([once(socket, 'finish'), once(socket, 'close')])
  return {
    sentBytes: sent.bytes,
    sentSha256: sent.sha256(),
    receivedBytes: received.bytes,
    receivedSha256: received.sha256(),
    longestGapMs: received.longestGapMs,
    longestGapAtBytes: received.longestGapAtBytes,
    how
  }
}

async function send (socket: Socket, sent: ByteMeter, init: Run): Promise<void> {
  const next = createByteSource(init.seed)
  const total = init.sendBytes ?? Infinity
  const startedAtMs = performance.now()
  while (sent.bytes < total && !socket.destroyed && !(init.sendBytes === null && init.isOver())) {
    const chunk = next(Math.min(BLOCK_BYTES, total - sent.bytes))
    sent.note(chunk)
    const isFree = socket.write(chunk)
    if (!isFree) await Promise.race([once(socket, 'drain').catch(() => { /* the close tells */ }), once(socket, 'close').catch(() => { /* the error comes first */ })])
    const dueMs = init.bytesPerSecond === null ? 0 : startedAtMs + sent.bytes / init.bytesPerSecond * 1000 - performance.now()
    if (dueMs > 1) await new Promise<void>((resolve) => { setTimeout(resolve, dueMs) })
  }
  if (!socket.destroyed) socket.end()
}
