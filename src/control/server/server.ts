/** The control API of a daemon: HTTP and JSON on an owner-only Unix socket. Works on the Carrier interface alone. */
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { STATUS_CODES } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import type { Carrier } from '../../carrier-types.ts'
import type { Clock, ErrorCode, Logger, Startable } from '../../base/index.ts'
import { CarrierError, ERRORS, LIMITS, ensurePrivateDirectory, toCarrierError, toHex, writePrivateFile } from '../../base/index.ts'
import type { MethodFacts, MethodName, MethodOutput } from '../client/index.ts'
import { CONTROL_FILES, EVENTS_PATH, METHODS, PIPE_ID_HEADER, PIPE_PATH, PIPE_UPGRADE, ToShape, describeIssue } from '../client/index.ts'
import { admitRequest } from './admission.ts'
import { createEventStreams } from './event-streams.ts'
import { createHandlers } from './handlers.ts'
import { createPipeTable } from './pipe-table.ts'
import type { SocketFile } from './socket-file.ts'
import { prepareSocketFile } from './socket-file.ts'
import { viewEvent } from './views.ts'

/** What the server works with. */
export interface ControlServerComponents { carrier: Carrier, log: Logger, clock: Clock }

/** Where it answers and what it says about its process. */
export interface ControlServerInit {
  dataDirectory: string
  /** Where the socket may move when its path is too long, best first. */
  fallbackDirectories: readonly string[]
  info: MethodOutput<'daemon.info'>
  /** Called once after `daemon.stop` was answered. */
  requestStop: () => void
}

/** A control server. `start` after the carrier, `stop` before it. */
export interface ControlServer extends Startable {
  /** Where it listens; undefined while stopped. */
  socketPath: () => string | undefined
}

/** How long a pipe's last bytes may take to leave when the daemon stops. */
const PIPE_FLUSH_MS = 500

/** Makes the server. Bodies, headers, connections, pipes and event streams are bounded by LIMITS.control*. */
export function createControlServer (components: ControlServerComponents, init: ControlServerInit): ControlServer {
  const { carrier, clock, metrics, log } = { ...components, metrics: components.carrier.metrics, log: components.log.child('carrier:control') }
  const token = toHex(randomBytes(32))
  const pipes = createPipeTable({ clock })
  const events = createEventStreams({
    onEvent: (listener) => carrier.onAnyEvent((name, payload) => {
      const event = viewEvent(name, payload)
      if (event !== undefined) listener(event.name, event.payload)
    }),
    clock,
    lagged: metrics.counter('carrier_control_event_streams_lagged_total', 'event streams ended because their reader was too slow')
  })
  const requests = metrics.counter('carrier_control_requests_total', 'calls of the control API', ['method'])
  const refusals = metrics.counter('carrier_control_refusals_total', 'requests refused before they were read', ['reason'])
  metrics.gauge('carrier_control_pipes_count', 'open byte pipes of local clients', [], () => pipes.count())
  metrics.gauge('carrier_control_event_streams_count', 'open event streams', [], () => events.count())
  const handlers = createHandlers({ carrier, pipes, info: () => init.info })
  /** Sockets that left HTTP: they are ours to close. */
  const upgraded = new Set<Socket>()
  let stopping = new AbortController()
  let dialingCount = 0
  let app: FastifyInstance | undefined
  let file: SocketFile | undefined

  function assertAdmitted (request: IncomingMessage): void {
    const verdict = admitRequest(request.headers, token)
    if (verdict.allow) return
    refusals.add(1, { reason: verdict.reason })
    log.warn('control request refused', { reason: verdict.reason })
    throw new CarrierError(verdict.code, verdict.message)
  }

  async function openPipe (request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    assertAdmitted(request)
    const url = new URL(request.url ?? '', 'http://carrier')
    if (request.headers.upgrade?.toLowerCase() !== PIPE_UPGRADE || url.pathname !== PIPE_PATH) {
      throw new CarrierError('ERR_NOT_FOUND', `only "Upgrade: ${PIPE_UPGRADE}" on ${PIPE_PATH} is known`)
    }
    const to = ToShape.safeParse(url.searchParams.get('to') ?? '')
    if (!to.success) throw new CarrierError('ERR_INVALID_ARGUMENT', `to: ${describeIssue(to.error.issues[0])}`)
    if (pipes.count() + dialingCount >= LIMITS.controlPipeCount) throw new CarrierError('ERR_LIMIT', `at most ${LIMITS.controlPipeCount} pipes can be open; close another one`)
    requests.add(1, { method: 'pipe' })
    const gone = new AbortController()
    const onClose = (): void => { gone.abort(new CarrierError('ERR_CANCELLED', 'the client went away')) }
    socket.once('close', onClose)
    const signal = AbortSignal.any([gone.signal, stopping.signal])
    dialingCount++
    const channel = await carrier.forwarding.dial(to.data, { signal }).finally(() => { dialingCount-- })
    socket.removeListener('close', onClose)
    if (signal.aborted) {
      channel.destroy(signal.reason as CarrierError)
      throw signal.reason
    }
    if (head.length > 0) socket.unshift(head)
    pipes.join(socket, channel, (id) => {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${PIPE_UPGRADE}\r\n${PIPE_ID_HEADER}: ${id}\r\n\r\n`)
    })
  }

  function build (): FastifyInstance {
    const server = fastify({
      logger: false,
      bodyLimit: LIMITS.controlBodyBytes,
      http: { maxHeaderSize: LIMITS.controlHeaderBytes, headersTimeout: 10_000, requestTimeout: 30_000 },
      forceCloseConnections: true,
      exposeHeadRoutes: false
    })
    server.server.maxConnections = LIMITS.controlConnectionCount
    server.removeContentTypeParser('text/plain')
    server.addHook('onRequest', (request, _reply, done) => {
      assertAdmitted(request.raw)
      done()
    })
    server.setNotFoundHandler(() => { throw new CarrierError('ERR_NOT_FOUND', 'no such method; do command and daemon have the same version?') })
    server.setErrorHandler((err, _request, reply) => {
      const failure = translate(err)
      if (failure.code === 'ERR_INTERNAL') log.error('a control call failed', { err })
      void reply.code(ERRORS[failure.code].http).send(errorBody(failure))
    })
    server.server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      // until a pipe takes over, a client that goes away is noticed by the close event
      const ignore = (): void => {}
      socket.on('error', ignore)
      upgraded.add(socket)
      socket.once('close', () => { upgraded.delete(socket) })
      openPipe(request, socket, head)
        .catch((err: unknown) => { refuseUpgrade(socket, translate(err)) })
    })
    server.get(EVENTS_PATH, (_request, reply) => {
      events.open(reply.raw)
      reply.hijack()
    })
    for (const name of Object.keys(METHODS) as MethodName[]) addMethod(server, name)
    return server
  }

  function addMethod (server: FastifyInstance, name: MethodName): void {
    const method: MethodFacts<(typeof METHODS)[MethodName]['input'], (typeof METHODS)[MethodName]['output']> = METHODS[name]
    // the table pairs each handler with its own schema; the compiler cannot see that through the union
    const handle = handlers[name] as (input: unknown, options: { signal: AbortSignal }) => unknown
    server.route({
      method: method.verb,
      url: method.path,
      handler: async (request, reply) => {
        requests.add(1, { method: name })
        const input = method.input.safeParse((method.verb === 'GET' ? request.query : request.body) ?? {})
        if (!input.success) throw new CarrierError('ERR_INVALID_ARGUMENT', describeIssue(input.error.issues[0]))
        const answer = await handle(input.data, { signal: goneSignal(reply.raw) })
        // also when the client did not wait for its answer
        if (name === 'daemon.stop') reply.raw.once('close', init.requestStop)
        return method.output.parse(answer)
      }
    })
  }

  return {
    socketPath: () => file?.path,
    start: async () => {
      await ensurePrivateDirectory(init.dataDirectory)
      file = await prepareSocketFile(init)
      stopping = new AbortController()
      app = build()
      try {
        await app.listen({ path: file.path })
        await file.protect()
        // last: from now on the API is complete
        await writePrivateFile(join(init.dataDirectory, CONTROL_FILES.token), `${token}\n`)
      } catch (err) {
        await app.close()
        await file.remove()
        throw toCarrierError(err, 'ERR_INTERNAL', `cannot listen on the control socket ${file.path}: ${err instanceof Error ? err.message : String(err)}`)
      }
      log.info('control API ready', { socketPath: file.path })
    },
    stop: async () => {
      const reason = new CarrierError('ERR_CLOSED', 'the daemon stopped')
      stopping.abort(reason)
      events.stop()
      pipes.stop(reason)
      // what was delivered may still go out, but a client that does not read cannot hold the daemon
      const deadline = clock.setTimer(() => { for (const socket of upgraded) socket.destroy() }, PIPE_FLUSH_MS)
      await app?.close()
      deadline.cancel()
      if (file !== undefined) await rm(join(init.dataDirectory, CONTROL_FILES.token), { force: true })
      await file?.remove()
      app = undefined
      file = undefined
    }
  }
}

/** Fires when the client closes the connection before it has its answer. */
function goneSignal (response: ServerResponse): AbortSignal {
  const controller = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) controller.abort(new CarrierError('ERR_CANCELLED', 'the client went away'))
  })
  return controller.signal
}

function translate (err: unknown): CarrierError {
  const code = typeof err === 'object' && err !== null && 'code' in err ? String(err.code) : ''
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new CarrierError('ERR_TOO_LARGE', `the body is longer than ${LIMITS.controlBodyBytes} bytes`)
  if (code.startsWith('FST_ERR_CTP_') || err instanceof SyntaxError) return new CarrierError('ERR_INVALID_ARGUMENT', 'the body must be a JSON object with content-type application/json')
  return toCarrierError(err)
}

function errorBody (err: CarrierError): { error: { code: ErrorCode, message: string, detail?: CarrierError['detail'] } } {
  return { error: { code: err.code, message: err.message, ...(err.detail === undefined ? {} : { detail: err.detail }) } }
}

function refuseUpgrade (socket: Socket, err: CarrierError): void {
  if (socket.destroyed) return
  const status = ERRORS[err.code].http
  const body = JSON.stringify(errorBody(err))
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Error'}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    () => { socket.destroy() })
}
