/** One leg of a splice: a socket that says what it read and keeps it until it was written at the other leg, twice implemented. */
import type { Socket } from 'node:net'
import { createSlotReader, LIMITS } from '../base/index.ts'
import type { BufferPool, OnRead } from '../base/index.ts'

/** How legs read: `auto` into buffers that are reused where this Node allows it, `public` with the documented API only. */
export type SpliceCopy = 'auto' | 'public'

/** What a leg tells. */
export interface LegEvents {
  /** The leg stops to read by itself while too many bytes wait to be written at the other leg. */
  onRead: OnRead
  /** The other end sends no more; every byte before was told. */
  onEnd: () => void
  /** The socket is gone, exactly once. */
  onClose: () => void
}

/** One leg. */
export interface SpliceLeg {
  readonly isReusing: boolean
  write: (bytes: Uint8Array, onWritten: () => void) => void
  /** True when the kernel has taken everything that was written. */
  isDrained: () => boolean
  /** Reading waits until `release`. */
  hold: () => void
  release: () => void
  /** Sends what was written, then a FIN. */
  end: () => void
  /** Closes now; with `reset` the other end sees a reset. */
  destroy: (how?: 'reset') => void
  /** Bytes that were read here and are not written at the other leg. */
  waitingBytes: () => number
  /** Gives buffers back. Only when both legs of the splice are closed. */
  dispose: () => void
}

/** Makes a leg of a paused socket that has passed its ticket; reading starts in a later turn. The leg owns the socket. */
export function createSpliceLeg (pool: BufferPool, init: { socket: Socket, copy: SpliceCopy }, events: LegEvents): SpliceLeg {
  const reusing = init.copy === 'auto' ? createReusingLeg(pool, init.socket, events) : undefined
  return reusing ?? createPublicLeg(init.socket, events)
}

/** Reads into buffers that are used again. */
function createReusingLeg (pool: BufferPool, socket: Socket, events: LegEvents): SpliceLeg | undefined {
  const reader = createSlotReader(pool, socket, events.onRead)
  if (reader === undefined) return undefined
  watch(socket, events)
  return { isReusing: true, ...outgoing(socket), ...reader }
}

/** The same with 'data' events: every read makes a new buffer, whose memory goes back as soon as it was written. */
function createPublicLeg (socket: Socket, events: LegEvents): SpliceLeg {
  let waitingBytes = 0
  let isHeld = false

  function update (): void {
    const mustPause = isHeld || waitingBytes > PUBLIC_WAITING_BYTES
    if (mustPause && !socket.isPaused()) socket.pause()
    else if (!mustPause && socket.isPaused()) socket.resume()
  }

  socket.on('data', (bytes: Buffer) => {
    const byteCount = bytes.length
    waitingBytes += byteCount
    events.onRead(bytes, (err?: Error | null) => {
      waitingBytes -= byteCount
      if (err === undefined || err === null) freeMemory(bytes)
      update()
    })
    update()
  })
  watch(socket, events)

  return {
    isReusing: false,
    ...outgoing(socket),
    hold: () => {
      isHeld = true
      update()
    },
    release: () => {
      isHeld = false
      update()
    },
    waitingBytes: () => waitingBytes + socket.readableLength,
    dispose: () => { /* its buffers are the collector's */ }
  }
}

/**
 * The next read gets this memory again while it is still in the processor's cache, and the collector has nothing to do: without that it comes
 * so late that the kernel has to provide new pages for each read. Only for bytes that nobody needs any more, also no write that failed. What
 * does not begin its memory is the rest of a ticket's read: that memory is not ours alone.
 */
function freeMemory ({ buffer, byteOffset, byteLength }: Buffer): void {
  if (byteLength >= FREED_BYTES && byteOffset === 0 && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

function watch (socket: Socket, events: LegEvents): void {
  // 'close' follows and says enough
  socket.on('error', () => {})
  // it may have ended while it waited for the other leg
  if (socket.readableEnded) process.nextTick(events.onEnd)
  else socket.on('end', events.onEnd)
  socket.on('close', events.onClose)
  queueMicrotask(() => { socket.resume() })
}

function outgoing (socket: Socket): Pick<SpliceLeg, 'write' | 'isDrained' | 'end' | 'destroy'> {
  return {
    write: (bytes, onWritten) => {
      if (socket.writable) socket.write(bytes, onWritten)
      else onWritten()
    },
    isDrained: () => socket.writableLength === 0,
    end: () => { socket.end() },
    destroy: (how) => {
      if (how === 'reset') socket.resetAndDestroy()
      else socket.destroy()
    }
  }
}

/** Large read buffers: two of them are all that a direction may hold. */
export const LARGE_BUFFER_BYTES = LIMITS.relaySpliceBufferBytes / 2

/** From this size on it pays. */
const FREED_BYTES = 4096
// a read of `net` brings up to 64 KiB, a paused socket holds as much again, and what waits is counted after it came
const PUBLIC_WAITING_BYTES = LIMITS.relaySpliceBufferBytes / 4
