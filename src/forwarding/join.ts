/**
 * Joins a socket and a channel into one connection: half-close passes in both directions, back-pressure too, and
 * whatever is not a clean end of one side is a reset of the other. Never a false end of stream (I4).
 */
import type { Socket } from 'node:net'
import { CarrierError, createBufferPool, createSlotReader, errorMessage, LIMITS, toCarrierError } from '../base/index.ts'
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
      channel.destroy(error)
      resetSocket(socket)
    }

    function closed (): void {
      if (--openCount > 0) return
      release?.()
      resolve(outcome)
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

    fill(channel, socket, init.onAnswer)
    const release = drain(socket, channel)

    // one of them may have died between its creation and now, when nobody listened
    if (socket.destroyed) socketFailed(socket.errored ?? undefined)
    if (channel.destroyed) fail('channel', toCarrierError(channel.errored ?? undefined, 'ERR_LINK_LOST', 'the channel is gone'))
    if (socket.closed) closed()
    if (channel.closed) closed()
  })
}

/** Large read buffers of all connections. */
const buffers = createBufferPool({ bufferBytes: LIMITS.forwardReadBytes, maxBytes: LIMITS.forwardReadPoolBytes })

/** What the socket brings goes to the channel, and its clean end. The result gives its memory back: to be called when both are gone. */
function drain (socket: Socket, channel: Channel): (() => void) | undefined {
  const reader = createSlotReader(buffers, socket, (bytes, onTaken) => {
    channel.write(bytes, onTaken)
    return false
  })
  if (reader === undefined) {
    socket.pipe(channel)
    return undefined
  }
  // a program may have said that it has nothing to send while its session was waited for
  if (socket.readableEnded) process.nextTick(() => { channel.end() })
  else socket.once('end', () => { channel.end() })
  socket.resume()
  return reader.dispose
}

/** What the channel brings goes to the socket, and its clean end. The memory of what the kernel has taken is used again. */
function fill (channel: Channel, socket: Socket, onAnswer: (() => void) | undefined): void {
  let hasAnswered = onAnswer === undefined

  function answered (): void {
    if (hasAnswered) return
    hasAnswered = true
    onAnswer?.()
  }

  channel.once('end', () => {
    answered()
    socket.end()
  })
  channel.readTo((bytes, done) => {
    answered()
    let isTaken = false
    socket.write(bytes, (err) => {
      // what a failed write left in the kernel's hands is not touched
      if (isTaken || (err !== undefined && err !== null)) return
      done()
      channel.readMore()
    })
    isTaken = socket.writableLength === 0 && !socket.destroyed
    if (isTaken) done()
    return isTaken
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
