/** Servers that stand behind a service in tests, and clients that speak to a forward. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'

export { freePort } from './free-port.ts'

/** A target on 127.0.0.1. */
export interface TargetServer {
  port: number
  /** `127.0.0.1:PORT`, or `unix:PATH`. */
  target: string
  /** Connections so far. */
  connectionCount: () => number
  /** Open now. */
  sockets: Set<Socket>
  close: () => Promise<void>
}

/** Starts a target; each connection goes to `serve`. It keeps half-close. */
export async function startTarget (serve: (socket: Socket) => void, options: { port?: number, path?: string } = {}): Promise<TargetServer> {
  const sockets = new Set<Socket>()
  let count = 0
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    count++
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => { sockets.delete(socket) })
    serve(socket)
  })
  server.listen(options.path === undefined ? { host: '127.0.0.1', port: options.port ?? 0, backlog: 1024 } : { path: options.path })
  await once(server, 'listening')
  const port = options.path === undefined ? (server.address() as AddressInfo).port : 0
  return {
    port,
    target: options.path === undefined ? `127.0.0.1:${port}` : `unix:${options.path}`,
    connectionCount: () => count,
    sockets,
    close: async () => {
      server.close()
      for (const socket of sockets) socket.resetAndDestroy()
      await once(server, 'close')
    }
  }
}

/** Sends back what comes, and ends when the other side ends. */
export async function startEcho (options: { port?: number } = {}): Promise<TargetServer> {
  return startTarget((socket) => { socket.pipe(socket) }, options)
}

/** Starts to connect to `127.0.0.1:PORT` (or a `listen` text); keeps half-close. */
export function startConnect (listen: string | number): Socket {
  const port = typeof listen === 'number' ? listen : Number(listen.slice(listen.lastIndexOf(':') + 1))
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
  socket.on('error', () => {})
  return socket
}

/** Connects as {@link startConnect} and waits for it. */
export async function connectTo (listen: string | number): Promise<Socket> {
  const socket = startConnect(listen)
  await once(socket, 'connect')
  return socket
}

/** Everything until the clean end; rejects with the socket's error if it does not end cleanly. */
export async function readAll (socket: Socket): Promise<Buffer> {
  // not "for await": that would destroy the socket, and with it the direction that is still open
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    if (socket.readableEnded || socket.closed) reject(new Error('the socket ended before anybody read'))
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.once('end', () => { resolve(Buffer.concat(chunks)) })
    socket.once('error', reject)
    socket.once('close', () => { reject(new Error('the socket closed without an end')) })
  })
}

/** How a socket ends: `end`, or the code of its error. */
export async function endOf (socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('end', () => { resolve('end') })
    socket.once('error', (err: NodeJS.ErrnoException) => { resolve(err.code ?? err.message) })
    socket.once('close', () => { resolve('close') })
    // what happened before anybody asked
    if (socket.errored != null) resolve((socket.errored as NodeJS.ErrnoException).code ?? 'error')
    else if (socket.readableEnded) resolve('end')
    else if (socket.closed) resolve('close')
    socket.resume()
  })
}
