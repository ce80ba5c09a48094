/** What all proxies of the tests tell, and how they are closed. */
import type { AddressInfo, Server, Socket } from 'node:net'

/** A proxy that runs. */
export interface TestProxy {
  readonly port: number
  /** HOST:PORT of every tunnel that was asked for and not refused. */
  readonly targets: string[]
  /** Connections that clients opened, and how many of them are open now. */
  connections: () => { count: number, open: number }
  /** Cuts every tunnel, and takes further ones. */
  cut: () => void
  close: () => Promise<void>
}

/** Watches the connections of `server` and listens. */
export async function startTestProxy (server: Server, targets: string[], address: { host?: string | undefined, port?: number | undefined } = {}): Promise<TestProxy> {
  const sockets = new Set<Socket>()
  let count = 0
  server.on('connection', (socket: Socket) => {
    count++
    sockets.add(socket)
    socket.on('error', () => { /* clients come and go */ })
    socket.on('close', () => { sockets.delete(socket) })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address.port ?? 0, address.host ?? '127.0.0.1', resolve)
  })
  const cut = (): void => { for (const socket of sockets) socket.destroy() }
  return {
    port: (server.address() as AddressInfo).port,
    targets,
    connections: () => ({ count, open: sockets.size }),
    cut,
    close: async () => {
      const closed = new Promise<void>((resolve) => { server.close(() => { resolve() }) })
      cut()
      await closed
    }
  }
}
