/**
 * The service of the bench, as a process of its own: argument HOST; prints the port it got. The first byte of a connection says
 * what it does: `M` count what comes until the end marker and answer the count · `D<ms>\n` send for so long · `E` echo.
 * Nothing depends on half-closed connections: some baselines do not carry them.
 */
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { END_MARKER } from '../support/tcp-load.ts'
import { readNumber, sendFor } from '../support/timed-sender.ts'

const MARKER = Buffer.from(END_MARKER)

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
    case 'D': { readNumber(socket, rest, (durationMs) => { sendFor(socket, durationMs) }); break }
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
