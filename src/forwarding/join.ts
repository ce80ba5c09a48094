/**
 * Joins a socket and a channel into one connection: half-close passes in both directions, back-pressure too, and
 * whatever is not a clean end of one side is a reset of the other. Never a false end of stream (I4).
 */
import type { Socket } from 'node:net'
import { CarrierError, errorMessage, toCarrierError } from '../base/index.ts'
import type { Channel } from '../session/index.ts'

/** How a joined connection ended; without `error` both directions ended cleanly. */
export interface JoinOutcome { error: CarrierError | undefined, origin: 'socket' | 'channel' | undefined }

/** What the owner of a joined connection may want to know. */
export interface JoinInit {
  /** Called once, when the far end has shown that it is there: a first byte, or a clean end. */
  onAnswer?: () => void
}

/**
 * Joins the two and owns both from now on. Resolves when both are gone and never rejects; destroy the channel with an
 * error to cut the connection.
 */
export async function join (socket: Socket, channel: Channel, init: JoinInit = {}): Promise<JoinOutcome> {
  return new Promise((resolve) => {
    const outcome: JoinOutcome = { error: undefined, origin: undefined }
    let hasFailed = false
    let openCount = 2

    function fail (origin: 'socket' | 'channel', error: CarrierError): void {
      if (hasFailed) return
      hasFailed = true
      outcome.error = error
      outcome.origin = origin
      socket.unpipe(channel)
      channel.unpipe(socket)
      channel.destroy(error)
      resetSocket(socket)
    }

    function closed (): void {
      if (--openCount === 0) resolve(outcome)
    }

    function socketFailed (err: unknown): void {
      fail('socket', new CarrierError('ERR_RESET', err === undefined ? 'the connection was reset' : `the connection was reset: ${errorMessage(err)}`, { cause: err }))
    }

    socket.on('error', socketFailed)
    socket.once('close', () => {
      if (!(socket.readableEnded && socket.writableFinished)) socketFailed(undefined)
      closed()
    })
    channel.on('error', (err: unknown) => { fail('channel', toCarrierError(err, 'ERR_LINK_LOST')) })
    channel.once('close', () => {
      if (!(channel.readableEnded && channel.writableFinished)) fail('channel', new CarrierError('ERR_LINK_LOST', 'the channel is gone'))
      closed()
    })

    if (init.onAnswer !== undefined) {
      const { onAnswer } = init
      let hasAnswered = false
      const answered = (): void => {
        channel.off('data', answered)
        channel.off('end', answered)
        if (hasAnswered) return
        hasAnswered = true
        onAnswer()
      }
      channel.on('data', answered)
      channel.on('end', answered)
    }

    // pipe() ends the other side only on a clean end, which is exactly right
    socket.pipe(channel)
    channel.pipe(socket)

    // one of them may have died between its creation and now, when nobody listened
    if (socket.destroyed) socketFailed(socket.errored ?? undefined)
    if (channel.destroyed) fail('channel', toCarrierError(channel.errored ?? undefined, 'ERR_LINK_LOST', 'the channel is gone'))
    if (socket.closed) closed()
    if (channel.closed) closed()
  })
}

/** Ends a socket so that its peer sees a reset, not an end. Idempotent. */
export function resetSocket (socket: Socket): void {
  if (socket.destroyed) return
  // The kernel cannot reset while a shutdown is under way, and the handle would leak: it is a matter of one turn.
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0) {
    socket.once('finish', () => { resetNow(socket) })
    return
  }
  resetNow(socket)
}

function resetNow (socket: Socket): void {
  if (socket.destroyed) return
  try {
    socket.resetAndDestroy()
  } catch {
    // a Unix socket knows no reset: closing is all there is
    socket.destroy()
  }
}
