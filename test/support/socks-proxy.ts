/** A SOCKS5 proxy for tests: RFC 1928 and 1929, as far as a client can see. */
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { startTestProxy } from './test-proxy.ts'
import type { TestProxy } from './test-proxy.ts'

/** How it behaves. */
export interface SocksProxyInit {
  /** Asked for when given. */
  credentials?: { user: string, password: string }
  /** Answers every request with this number instead of connecting. */
  reply?: number
  /** What it makes of names. */
  resolve?: (host: string) => string
}

/** Starts it on loopback. */
export async function startSocksProxy (init: SocksProxyInit = {}): Promise<TestProxy> {
  const targets: string[] = []
  const server = createServer((socket) => {
    serve(socket).catch(() => { socket.destroy() })
  })

  async function serve (socket: Socket): Promise<void> {
    const read = async (bytes: number): Promise<Buffer> => {
      for (;;) {
        const chunk = socket.read(bytes) as Buffer | null
        if (chunk !== null) return chunk
        if (socket.destroyed || socket.readableEnded) throw new Error('the client left')
        await new Promise<void>((resolve) => {
          socket.once('readable', resolve)
          socket.once('close', () => { resolve() })
        })
      }
    }
    const [, methodCount = 0] = await read(2)
    const methods = await read(methodCount)
    const method = init.credentials === undefined ? 0 : 2
    if (!methods.includes(method)) {
      socket.end(Buffer.from([5, 0xff]))
      return
    }
    socket.write(Buffer.from([5, method]))
    if (init.credentials !== undefined) {
      const [, userBytes = 0] = await read(2)
      const user = (await read(userBytes)).toString()
      const password = (await read((await read(1))[0] ?? 0)).toString()
      const isRight = user === init.credentials.user && password === init.credentials.password
      socket.write(Buffer.from([1, isRight ? 0 : 1]))
      if (!isRight) {
        socket.end()
        return
      }
    }
    const [, , , kind] = await read(4)
    const host = kind === 1
      ? [...await read(4)].join('.')
      : kind === 4
        ? new URL(`http://[${(await read(16)).toString('hex').replace(/(.{4})(?=.)/g, '$1:')}]`).hostname.slice(1, -1)
        : (await read((await read(1))[0] ?? 0)).toString()
    const port = (await read(2)).readUInt16BE()
    targets.push(`${host}:${port}`)
    if (init.reply !== undefined) {
      socket.end(Buffer.from([5, init.reply, 0, 1, 0, 0, 0, 0, 0, 0]))
      return
    }
    const upstream = connect({ host: init.resolve?.(host) ?? host, port })
    upstream.on('connect', () => {
      // a name as its own end: the client has to read it, whatever it is
      socket.write(Buffer.from([5, 0, 0, 3, 4, ...Buffer.from('here'), 0, 80]))
      upstream.pipe(socket)
      socket.pipe(upstream)
    })
    upstream.on('error', () => { socket.end(Buffer.from([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])) })
    upstream.on('close', () => { socket.destroy() })
    socket.on('close', () => { upstream.destroy() })
  }

  return startTestProxy(server, targets)
}
