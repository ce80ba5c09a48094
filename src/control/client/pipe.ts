/**
 * A byte pipe to `WHO/SERVICE` through the daemon: `Upgrade: carrier-pipe`, raw bytes after 101, half-close kept.
 * A Unix socket cannot say why it ended, so every end is confirmed by `pipe.result` before the reader sees it (I4).
 */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { CarrierError, isErrorCode } from '../../base/light.ts'
import type { ExchangeInit } from './http.ts'
import { cancelled, connectionError, exchangeJson, readAnswer, refusalOf, startRequest } from './http.ts'
import { METHODS, PIPE_ID_HEADER, PIPE_PATH, PIPE_UPGRADE } from './methods.ts'

/** Where a pipe leads. */
export interface OpenPipeInit { dataDirectory: string, to: string, signal?: AbortSignal }

/**
 * Opens a pipe. The Duplex ends only after a clean end at the far side; everything else destroys it with a CarrierError
 * (ERR_NOT_AVAILABLE, ERR_TARGET_UNREACHABLE, ERR_LINK_LOST, ERR_RESET, …). `close` comes after the far side's last word.
 *
 * @throws CarrierError ERR_UNKNOWN_FRIEND, ERR_PEER_OFFLINE, ERR_LIMIT, ERR_NOT_RUNNING
 */
export async function openPipe (init: OpenPipeInit): Promise<Duplex> {
  const exchange: ExchangeInit = {
    dataDirectory: init.dataDirectory,
    verb: 'GET',
    path: `${PIPE_PATH}?${new URLSearchParams({ to: init.to })}`,
    headers: { connection: 'Upgrade', upgrade: PIPE_UPGRADE }
  }
  const { outgoing } = await startRequest(exchange)
  return new Promise((resolve, reject) => {
    // the signal is for the opening alone: later it would cut the socket below the Duplex, which looks like a lost daemon
    const onAbort = (): void => { outgoing.destroy(init.signal === undefined ? undefined : cancelled(init.signal)) }
    init.signal?.addEventListener('abort', onAbort, { once: true })
    outgoing.once('close', () => { init.signal?.removeEventListener('abort', onAbort) })
    outgoing.once('upgrade', (answer, socket: Socket, head) => {
      init.signal?.removeEventListener('abort', onAbort)
      const id = answer.headers[PIPE_ID_HEADER]
      if (typeof id !== 'string') {
        socket.destroy()
        reject(new CarrierError('ERR_PROTOCOL', 'the daemon opened a pipe without an id; do command and daemon have the same version?'))
        return
      }
      resolve(createPipe(init.dataDirectory, socket, id, head))
    })
    outgoing.once('response', (answer) => {
      readAnswer(exchange, answer).then((text) => { reject(refusalOf(answer.statusCode ?? 0, text)) }, reject)
    })
    outgoing.once('error', (err) => { reject(connectionError(exchange, err)) })
    if (init.signal?.aborted === true) onAbort()
    outgoing.end()
  })
}

function createPipe (dataDirectory: string, socket: Socket, id: string, head: Uint8Array): Duplex {
  let hasFailed = false
  socket.allowHalfOpen = true
  if (head.length > 0) socket.unshift(head)

  /** Undefined when the daemon confirms that `until` was reached cleanly. */
  async function failure (until: 'end' | 'close'): Promise<CarrierError | undefined> {
    const query = new URLSearchParams({ id, until })
    try {
      const answer = await exchangeJson({ dataDirectory, verb: 'GET', path: `${METHODS['pipe.result'].path}?${query}` })
      const { state, code, message } = METHODS['pipe.result'].output.parse(answer)
      if (state === 'failed') return new CarrierError(isErrorCode(code) ? code : 'ERR_INTERNAL', message ?? 'the pipe failed')
      if (state === 'closed' || (state === 'ended' && until === 'end')) return undefined
      return new CarrierError('ERR_LINK_LOST', 'the daemon ended the pipe before its far side did')
    } catch (err) {
      return new CarrierError('ERR_LINK_LOST', 'the daemon went away while the pipe was open; what was sent last may be lost', { cause: err })
    }
  }

  /** Tells the daemon that this end is no clean one, so that the far side sees a reset instead of an end (I4). */
  async function reset (): Promise<void> {
    try {
      await exchangeJson({ dataDirectory, verb: 'POST', path: METHODS['pipe.reset'].path, body: JSON.stringify({ id }) })
    } catch {
      // the daemon is gone or has forgotten the pipe: then the far side was reset already
    }
  }

  function fail (err: CarrierError | undefined): void {
    hasFailed = true
    pipe.destroy(err ?? new CarrierError('ERR_LINK_LOST', 'the daemon closed the pipe'))
  }

  const pipe: Duplex = new Duplex({
    allowHalfOpen: true,
    read: () => { socket.resume() },
    write: (chunk: Uint8Array, _encoding, done) => {
      // on a broken socket `done` never comes: its end asks the daemon for the code and destroys the pipe
      if (socket.write(chunk)) done()
      else if (!socket.destroyed) socket.once('drain', done)
    },
    final: (done) => {
      socket.once('finish', () => { done() })
      socket.end()
    },
    destroy: (err, done) => {
      // unread bytes or an unfinished writer: the daemon sees the socket go and resets the far side
      const isComplete = err === null && pipe.readableEnded && pipe.writableFinished
      const lastWord = isComplete ? failure('close') : hasFailed ? Promise.resolve(undefined) : reset()
      void lastWord.then((problem) => {
        socket.destroy()
        done(err ?? problem ?? null)
      })
    }
  })
  socket.on('data', (chunk: Uint8Array) => { if (!pipe.push(chunk)) socket.pause() })
  socket.once('end', () => {
    void failure('end').then((problem) => {
      if (problem === undefined) pipe.push(null)
      else fail(problem)
    })
  })
  socket.on('error', () => { void failure('close').then(fail) })
  socket.once('close', (hadError) => {
    if (!hadError && !pipe.destroyed && !(socket.readableEnded && pipe.writableFinished)) void failure('close').then(fail)
  })
  socket.pause()
  return pipe
}
