/** One HTTP exchange over the daemon's Unix socket. Loads node:http and nothing of libp2p. */
import { request } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { CarrierError, concatBytes, errorMessage, isErrorCode, utf8Decode } from '../../base/light.ts'
import type { ControlEndpoint } from './endpoint.ts'
import { notRunning, readEndpoint } from './endpoint.ts'
import { ErrorShape } from './shapes.ts'

/** Largest answer that is read; every list of the daemon is far below it. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

/** What one exchange needs. */
export interface ExchangeInit {
  dataDirectory: string
  verb: 'GET' | 'POST'
  path: string
  body?: string
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** Sends a request and resolves with its answer's head, whatever the status. @throws CarrierError ERR_NOT_RUNNING, ERR_CANCELLED */
export async function openExchange (init: ExchangeInit): Promise<IncomingMessage> {
  const { outgoing } = await startRequest(init)
  return new Promise((resolve, reject) => {
    outgoing.once('response', resolve)
    outgoing.once('error', (err) => { reject(connectionError(init, err)) })
    outgoing.end(init.body)
  })
}

/** Sends a request and gives the JSON of its answer. @throws CarrierError with the code that the daemon answered */
export async function exchangeJson (init: ExchangeInit): Promise<unknown> {
  const answer = await openExchange(init)
  const text = await readAnswer(init, answer)
  if (answer.statusCode !== 200) throw refusalOf(answer.statusCode ?? 0, text)
  try {
    return JSON.parse(text)
  } catch (err) {
    throw new CarrierError('ERR_PROTOCOL', `the daemon's answer to ${init.path} is not JSON; do command and daemon have the same version?`, { cause: err })
  }
}

/** A request that was not sent yet; the caller adds listeners and ends it. */
export async function startRequest (init: ExchangeInit): Promise<{ outgoing: ClientRequest, endpoint: ControlEndpoint }> {
  if (init.signal?.aborted === true) throw cancelled(init.signal)
  const endpoint = await readEndpoint(init.dataDirectory)
  const options: RequestOptions = {
    socketPath: endpoint.socketPath,
    method: init.verb,
    path: init.path,
    agent: false,
    headers: {
      host: 'carrier',
      authorization: `Bearer ${endpoint.token}`,
      ...(init.body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(init.body) }),
      ...init.headers
    }
  }
  if (init.signal !== undefined) options.signal = init.signal
  return { outgoing: request(options), endpoint }
}

/** Reads the text of an answer. */
export async function readAnswer (init: ExchangeInit, answer: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of answer as AsyncIterable<Uint8Array>) {
      size += chunk.length
      if (size > MAX_ANSWER_BYTES) throw new CarrierError('ERR_PROTOCOL', `the daemon's answer to ${init.path} is too long`)
      chunks.push(chunk)
    }
    return utf8Decode(concatBytes(chunks))
  } catch (err) {
    throw connectionError(init, err)
  }
}

/** The error that an answer of another status than 200 stands for. */
export function refusalOf (status: number, text: string): CarrierError {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    // no JSON: the status is all there is to say
    return new CarrierError('ERR_PROTOCOL', `the daemon answered HTTP ${status} without an error text`)
  }
  const parsed = ErrorShape.safeParse(body)
  if (!parsed.success) return new CarrierError('ERR_PROTOCOL', `the daemon answered HTTP ${status} in an unknown form; do command and daemon have the same version?`)
  const { code, message, detail } = parsed.data.error
  return new CarrierError(isErrorCode(code) ? code : 'ERR_INTERNAL', message, detail === undefined ? {} : { detail })
}

/** Translates what node:http says about a connection that did not work. */
export function connectionError (init: Pick<ExchangeInit, 'dataDirectory' | 'signal'>, err: unknown): CarrierError {
  if (err instanceof CarrierError) return err
  if (init.signal?.aborted === true) return cancelled(init.signal)
  const code = typeof err === 'object' && err !== null && 'code' in err ? err.code : undefined
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return notRunning(init.dataDirectory, err)
  if (code === 'EACCES') return new CarrierError('ERR_UNAUTHORIZED', `not allowed to reach the daemon of ${init.dataDirectory}; use the account that runs it`, { cause: err })
  return new CarrierError('ERR_LINK_LOST', `the connection to the daemon broke (${errorMessage(err)}); see "carrier status" and the log in ${init.dataDirectory}`, { cause: err })
}

/** What a call ends with whose signal fired. */
export function cancelled (signal: AbortSignal): CarrierError {
  return signal.reason instanceof CarrierError ? signal.reason : new CarrierError('ERR_CANCELLED', 'cancelled', { cause: signal.reason })
}
