/** An HTTP proxy that makes tunnels: what stands at the edge of a company's network. */
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { startTestProxy } from './test-proxy.ts'
import type { TestProxy } from './test-proxy.ts'

/** How it behaves. */
export interface ConnectProxyInit {
  host?: string
  port?: number
  /** `USER:PASSWORD`; others get 407. */
  credentials?: string
  /** Others get 403. */
  allows?: (target: string) => boolean
  /** Makes it an https proxy. */
  tls?: { cert: string, key: string }
  /** What it makes of names, for names that nobody else resolves. */
  resolve?: (host: string) => string
}

/** Starts it. */
export async function startConnectProxy (init: ConnectProxyInit = {}): Promise<TestProxy> {
  const targets: string[] = []
  const server = init.tls === undefined ? createServer() : createTlsServer(init.tls)
  server.on('connect', (request, client: Duplex, head: Buffer) => {
    client.on('error', () => { /* seen by the close of the other side */ })
    const target = request.url ?? ''
    const refuse = (status: string): void => { client.end(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`) }
    if (init.credentials !== undefined && request.headers['proxy-authorization'] !== `Basic ${Buffer.from(init.credentials).toString('base64')}`) {
      refuse('407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="test"')
      return
    }
    if (init.allows?.(target) === false) {
      refuse('403 Forbidden')
      return
    }
    targets.push(target)
    const { hostname, port } = new URL(`http://${target}`)
    const host = hostname.replace(/^\[|\]$/g, '')
    const upstream = connect({ host: init.resolve?.(host) ?? host, port: Number(port === '' ? 80 : port) })
    upstream.on('connect', () => {
      client.write('HTTP/1.1 200 Connection Established\r\nVia: test\r\n\r\n')
      upstream.write(head)
      upstream.pipe(client)
      client.pipe(upstream)
    })
    upstream.on('error', () => { refuse('502 Bad Gateway') })
    upstream.on('close', () => { client.destroy() })
    client.on('close', () => { upstream.destroy() })
  })
  return startTestProxy(server, targets, init)
}
