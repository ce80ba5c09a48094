/** Byte pipes of local clients: each joins a socket to a channel, and how it ended can be asked afterwards. */
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../base/index.ts'
import { CarrierError, LIMITS, abortable, errorCode, errorMessage, startDeadline, toHex } from '../../base/index.ts'
import type { MethodOutput } from '../client/index.ts'

/** How a pipe stands, as `pipe.result` answers. */
export type PipeResult = MethodOutput<'pipe.result'>

/** The pipes of one server. */
export interface PipeTable {
  /** Live pipes. */
  count: () => number
  /** Takes ownership of both ends; `greet` gets the new id and writes the answer before any byte flows. */
  join: (socket: Duplex, channel: Duplex, greet: (id: string) => void) => void
  /** How the pipe ended; waits for it. @throws CarrierError ERR_NOT_FOUND */
  result: (id: string, until: 'end' | 'close', signal: AbortSignal) => Promise<PipeResult>
  /** Resets the far side. @throws CarrierError ERR_NOT_FOUND */
  reset: (id: string) => void
  /** Resets all pipes. */
  stop: (err: CarrierError) => void
}

interface Pipe {
  /** Undefined once it is closed: a result is all that is kept. */
  channel: Duplex | undefined
  hasEnded: boolean
  isClosed: boolean
  error: CarrierError | undefined
  /** Resolve when the incoming side, or both sides, are done or failed. */
  ended: Promise<void>
  closed: Promise<void>
}

/** How long `pipe.result` waits for a pipe whose client already saw an end: the far side's last acknowledgement. */
const RESULT_WAIT_MS = 10_000

/** Makes an empty table. */
export function createPipeTable ({ clock }: { clock: Clock }): PipeTable {
  const pipes = new Map<string, Pipe>()
  let liveCount = 0

  function find (id: string): Pipe {
    const pipe = pipes.get(id)
    if (pipe === undefined) throw new CarrierError('ERR_NOT_FOUND', 'no such pipe, or too many ended since')
    return pipe
  }

  /**
   * A client asks for the result when it has read the last byte, which may be hours later: results stay until there are
   * too many, then the oldest goes. Live pipes are bounded by themselves.
   */
  function dropOldResult (): void {
    if (pipes.size <= LIMITS.controlPipeResultCount + liveCount) return
    for (const [oldest, pipe] of pipes) {
      if (!pipe.isClosed) continue
      pipes.delete(oldest)
      return
    }
  }

  return {
    count: () => liveCount,
    join: (socket, channel, greet) => {
      const id = toHex(randomBytes(16))
      const ended = Promise.withResolvers<undefined>()
      const closed = Promise.withResolvers<undefined>()
      const pipe: Pipe = { channel, hasEnded: false, isClosed: false, error: undefined, ended: ended.promise, closed: closed.promise }
      pipes.set(id, pipe)
      liveCount++

      channel.once('end', () => {
        pipe.hasEnded = true
        ended.resolve(undefined)
      })
      channel.once('error', (err) => { pipe.error ??= asPipeError(err) })
      channel.once('close', () => {
        pipe.isClosed = true
        if (!channel.readableEnded || !channel.writableFinished) pipe.error ??= new CarrierError('ERR_RESET', 'the connection was reset')
        liveCount--
        ended.resolve(undefined)
        closed.resolve(undefined)
        pipe.channel = undefined
        dropOldResult()
        // what was delivered before goes out first; then the socket closes in both directions, so that a client that only writes notices too
        socket.unpipe(channel)
        if (pipe.error !== undefined) socket.end(() => { socket.destroy() })
      })
      socket.once('error', (err) => { channel.destroy(new CarrierError('ERR_RESET', `the local client went away: ${errorMessage(err)}`, { cause: err })) })
      socket.once('close', () => {
        if (!channel.writableEnded || !channel.readableEnded) channel.destroy(new CarrierError('ERR_RESET', 'the local client went away'))
      })

      greet(id)
      socket.pipe(channel)
      channel.pipe(socket)
    },
    result: async (id, until, signal) => {
      const pipe = find(id)
      using deadline = startDeadline(clock, RESULT_WAIT_MS, 'the pipe is still open', signal)
      try {
        await abortable(until === 'end' ? pipe.ended : pipe.closed, deadline.signal)
      } catch (err) {
        if (errorCode(err) !== 'ERR_TIMEOUT') throw err
        // the deadline passed: the state below says what is known
      }
      if (pipe.error !== undefined) return { state: 'failed', code: pipe.error.code, message: pipe.error.message }
      if (pipe.isClosed) return { state: 'closed' }
      return { state: pipe.hasEnded ? 'ended' : 'open' }
    },
    reset: (id) => {
      find(id).channel?.destroy(new CarrierError('ERR_RESET', 'the local client gave the pipe up'))
    },
    stop: (err) => {
      for (const { channel } of pipes.values()) channel?.destroy(err)
    }
  }
}

function asPipeError (err: Error): CarrierError {
  return err instanceof CarrierError ? err : new CarrierError(errorCode(err), errorMessage(err), { cause: err })
}
