/**
 * The operator's hand on a running relay: HTTP on a Unix socket in the data directory that only its owner can open. It has no token:
 * who can open the socket can also read the key and send signals.
 */
import { chmod, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { CarrierError, ERRORS, LIMITS, errorCode, errorMessage } from '../base/index.ts'
import type { Logger, Startable } from '../base/index.ts'

/** Name of the socket in the data directory. */
export const OPERATOR_SOCKET = 'control.sock'

/** What can be asked, by path; each gives JSON. `isFull`: with whole PeerIds and source addresses. */
export interface OperatorMethods {
  status: () => object
  peers: (isFull: boolean) => object
  reload: () => Promise<object>
  drain: () => object
}

/** Creates the server; its owner starts it after the state lock is held and stops it last. */
export function createOperatorServer ({ log, methods }: { log: Logger, methods: OperatorMethods }, init: { dataDirectory: string }): Startable {
  const path = join(init.dataDirectory, OPERATOR_SOCKET)
  let server: Server | undefined

  async function answer (verb: string, url: string): Promise<object> {
    const { pathname, searchParams } = new URL(url, 'http://carrier')
    switch (`${verb} ${pathname}`) {
      case 'GET /v1/status': return methods.status()
      case 'GET /v1/peers': return methods.peers(searchParams.get('full') === '1')
      case 'POST /v1/reload': return methods.reload()
      case 'POST /v1/drain': return methods.drain()
      default: throw new CarrierError('ERR_NOT_FOUND', `the relay has no ${verb} ${pathname}`)
    }
  }

  return {
    start: async () => {
      if (Buffer.byteLength(path) > LIMITS.controlSocketPathBytes) {
        log.warn(`the path of the control socket has more than ${LIMITS.controlSocketPathBytes} bytes: "carrier-bootstrap status", "peers", "reload" and "drain" do not work; use signals, or a shorter data_dir`)
        return
      }
      // the state lock is held: whatever lies there is a dead process's
      await rm(path, { force: true })
      const starting = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: 1_000, maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
        // no method takes a body
        request.resume()
        answer(request.method ?? '', request.url ?? '/').then((body) => {
          response.writeHead(200, JSON_TYPE).end(JSON.stringify(body))
        }, (err: unknown) => {
          const code = errorCode(err)
          response.writeHead(ERRORS[code].http, JSON_TYPE).end(JSON.stringify({ error: { code, message: errorMessage(err) } }))
        })
      })
      starting.maxConnections = LIMITS.relayOperatorConnectionCount
      await new Promise<void>((resolve, reject) => {
        starting.once('error', (err) => { reject(new CarrierError('ERR_INVALID_ARGUMENT', `the control socket ${path} cannot be made: ${errorMessage(err)}`, { cause: err })) })
        starting.listen(path, resolve)
      })
      server = starting
      await chmod(path, 0o600)
    },
    stop: async () => {
      const stopping = server
      server = undefined
      if (stopping === undefined) return
      stopping.closeAllConnections()
      await new Promise<void>((resolve) => { stopping.close(() => { resolve() }) })
      await rm(path, { force: true })
    }
  }
}

const JSON_TYPE = { 'content-type': 'application/json', 'cache-control': 'no-store' }
const REQUEST_TIMEOUT_MS = 5_000
const MAX_HEADER_BYTES = 8 * 1024
