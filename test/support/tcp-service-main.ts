/**
 * A TCP service for tests and the bench, as a process of its own: `tcp-service-main.ts HOST PORT` prints the port it got.
 * The first byte of a connection says what it does:
 * `U` count what comes until the end and answer the count · `H` the same with its sha256 · `D<ms>\n` send for so long
 * `E` echo · `W` tell who is calling
 */
import { createHash } from 'node:crypto'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { readNumber, sendFor } from './timed-sender.ts'

const [host = '127.0.0.1', port = '0'] = process.argv.slice(2)
const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on('error', () => { socket.destroy() })
  socket.once('data', (first: Buffer) => { begin(socket, first) })
  socket.once('end', () => { if (!socket.destroyed && socket.bytesRead === 0) socket.end() })
})
server.listen({ host, port: Number(port), backlog: 1024 }, () => {
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port }))
})
process.stdin.on('end', () => { process.exit(0) }).resume()

function begin (socket: Socket, first: Buffer): void {
  const rest = first.subarray(1)
  switch (String.fromCharCode(first[0] ?? 0)) {
    case 'U': { count(socket, rest); break }
    case 'H': { hash(socket, rest); break }
    case 'D': { readNumber(socket, rest, (value) => { sendFor(socket, value) }); break }
    case 'E': { echo(socket, rest); break }
    case 'W': { socket.end(`${socket.remoteAddress}:${socket.remotePort}\n`); break }
    default: socket.resetAndDestroy()
  }
}

function count (socket: Socket, rest: Buffer): void {
  let bytes = rest.length
  socket.on('data', (chunk: Buffer) => { bytes += chunk.length })
  socket.on('end', () => { socket.end(`${bytes}\n`) })
}

function hash (socket: Socket, rest: Buffer): void {
  const digest = createHash('sha256').update(rest)
  let bytes = rest.length
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    digest.update(chunk)
  })
  socket.on('end', () => { socket.end(`${bytes} ${digest.digest('hex')}\n`) })
}

function echo (socket: Socket, rest: Buffer): void {
  if (rest.length > 0) socket.write(rest)
  socket.pipe(socket)
}
