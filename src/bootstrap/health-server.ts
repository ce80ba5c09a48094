/** The operator's window: /healthz, /readyz and /metrics over HTTP on a listener of its own, meant for loopback. */
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { CarrierError, LIMITS, errorMessage } from '../base/index.ts'
import type { Metrics, Startable } from '../base/index.ts'

/** Where the health server listens; port 0 picks one. */
export interface HealthAddress { host: string, port: number }

/** What it shows. */
export interface HealthServerComponents {
  metrics: Pick<Metrics, 'text'>
  /** False while the daemon starts or drains: load balancers then send nobody. */
  isReady: () => boolean
}

/** A running health server. */
export interface HealthServer extends Startable {
  /** HOST:PORT as bound; undefined before `start`. */
  readonly address: string | undefined
}

/** Creates the health server; its owner starts it first and stops it last. */
export function createHealthServer ({ metrics, isReady }: HealthServerComponents, init: HealthAddress): HealthServer {
  let server: Server | undefined
  let address: string | undefined

  async function respond (path: string): Promise<{ status: number, type: string, body: string }> {
    switch (path) {
      case '/healthz': return { status: 200, type: TEXT, body: 'ok\n' }
      case '/readyz': return isReady() ? { status: 200, type: TEXT, body: 'ready\n' } : { status: 503, type: TEXT, body: 'not ready\n' }
      case '/metrics': return { status: 200, type: PROMETHEUS, body: await metrics.text() }
      default: return { status: 404, type: TEXT, body: 'not found: try /healthz, /readyz or /metrics\n' }
    }
  }

  return {
    get address () { return address },
    start: async () => {
      server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: REQUEST_TIMEOUT_MS, maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
        if (request.method !== 'GET' && request.method !== 'HEAD') {
          response.writeHead(405, { allow: 'GET, HEAD', connection: 'close' }).end()
          return
        }
        respond((request.url ?? '/').split('?')[0] ?? '/').then(({ status, type, body }) => {
          response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(request.method === 'HEAD' ? undefined : body)
        }, () => {
          response.writeHead(500).end()
        })
      })
      server.maxConnections = LIMITS.healthRequestCount
      const starting = server
      await new Promise<void>((resolve, reject) => {
        starting.once('error', (err) => {
          reject(new CarrierError('ERR_PORT_IN_USE', `the health listener cannot bind ${init.host}:${init.port}: ${errorMessage(err)}; choose another with --health`, { cause: err }))
        })
        starting.listen(init.port, init.host, resolve)
      })
      const bound = starting.address()
      const port = typeof bound === 'object' && bound !== null ? bound.port : init.port
      address = init.host.includes(':') ? `[${init.host}]:${port}` : `${init.host}:${port}`
    },
    stop: async () => {
      const stopping = server
      server = undefined
      if (stopping?.listening !== true) return
      stopping.closeAllConnections()
      await new Promise<void>((resolve) => { stopping.close(() => { resolve() }) })
    }
  }
}

const TEXT = 'text/plain; charset=utf-8'
const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8'
const REQUEST_TIMEOUT_MS = 5_000
const MAX_HEADER_BYTES = 8 * 1024
