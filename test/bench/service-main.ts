/**
 * The service of the bench, as a process of its own: argument HOST; prints the port it got. The first byte of a connection says
 * what it does: `M` count what comes until the end marker and answer the count · `D<ms>\n` send for so long · `E` echo.
 * Nothing depends on half-closed connections: some baselines do not carry them.
 */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { END_MARKER } from '../support/tcp-load.ts'

const BLOCK = Buffer.alloc(64 * 1024, 'carrier bench block ')
const MARKER = Buffer.from(END_MARKER)
const MAX_COMMAND_BYTES = 32

const [host = '127.0.0.1'] = process.argv.slice(2)
const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => { socket.destroy() })
  socket.once('data', (first: Buffer) => { begin(socket, first) })
})
server.listen({ host, port: 0, backlog: 1024 }, () => { console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })) })
process.stdin.on('end', () => { process.exit(0) }).resume()

function begin (socket: Socket, first: Buffer): void {
  const rest = first.subarray(1)
  switch (String.fromCharCode(first[0] ?? 0)) {
    case 'M': { count(socket, rest); break }
    case 'D': { sendWhenTold(socket, rest); break }
    case 'E': {
      if (rest.length > 0) socket.write(rest)
      socket.pipe(socket)
      break
    }
    default: socket.resetAndDestroy()
  }
}

function count (socket: Socket, rest: Buffer): void {
  let bytes = 0
  let tail: Buffer = Buffer.alloc(0)
  const take = (chunk: Buffer): void => {
    bytes += chunk.length
    tail = chunk.length >= MARKER.length ? chunk.subarray(-MARKER.length) : Buffer.concat([tail, chunk]).subarray(-MARKER.length)
    if (tail.equals(MARKER)) socket.end(`${bytes}\n`)
  }
  socket.on('data', take)
  take(rest)
}

function sendWhenTold (socket: Socket, rest: Buffer): void {
  let text = rest.toString('latin1')
  const decide = (): void => {
    const end = text.indexOf('\n')
    if (end >= 0) {
      socket.off('data', onData)
      socket.resume()
      sendFor(socket, Number(text.slice(0, end)))
    } else if (text.length > MAX_COMMAND_BYTES) socket.resetAndDestroy()
  }
  const onData = (chunk: Buffer): void => {
    text += chunk.toString('latin1')
    decide()
  }
  socket.on('data', onData)
  decide()
}

function sendFor (socket: Socket, durationMs: number): void {
  const untilMs = performance.now() + durationMs
  const step = (): void => {
    while (performance.now() < untilMs && !socket.destroyed) {
      if (!socket.write(BLOCK)) {
        socket.once('drain', step)
        return
      }
    }
    socket.end()
  }
  step()
}
