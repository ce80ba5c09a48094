/** One leg of a splice: a socket that says what it read and keeps it until it was written at the other leg, twice implemented. */
import type { Socket } from 'node:net'
import { LIMITS } from '../base/index.ts'
import type { BufferPool } from './buffer-pool.ts'
import { reuseBuffers } from './reused-socket.ts'

/** How legs read: `auto` into buffers that are reused where this Node allows it, `public` with the documented API only. */
export type SpliceCopy = 'auto' | 'public'

/** What a leg tells. */
export interface LegEvents {
  /**
   * Bytes were read. They stay as they are until `onWritten`, or shorter when the answer is true: the kernel has them already.
   * The leg stops to read by itself while too many bytes wait for `onWritten`.
   */
  onRead: (bytes: Uint8Array, onWritten: () => void) => boolean
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

/** A buffer that bytes are read into, and how many writes of it are under way. */
interface Slot { buffer: Uint8Array, isLarge: boolean, pendingCount: number, isTaken: boolean, onWritten: () => void }

/**
 * Two buffers in turn: while one waits to be written at the other leg, the other is read into. They are small until a read
 * fills one, so that an idle splice costs little, and become small again when reads stay short.
 */
function createReusingLeg (pool: BufferPool, accepted: Socket, events: LegEvents): SpliceLeg | undefined {
  const slots: Slot[] = [makeSlot()]
  let current = slots[0] as Slot
  let isHeld = false
  let isWaiting = false
  let shortReadCount = 0

  function makeSlot (): Slot {
    const slot: Slot = {
      buffer: Buffer.allocUnsafeSlow(SMALL_BYTES),
      isLarge: false,
      pendingCount: 0,
      isTaken: false,
      onWritten: () => {
        slot.pendingCount--
        if (isWaiting && !isHeld && isFree(current)) start()
      }
    }
    return slot
  }

  function isFree (slot: Slot): boolean { return slot.pendingCount === 0 || slot.isTaken }

  function start (): void {
    isWaiting = false
    socket.resume()
  }

  /** The buffer of the next read: the same when it is free, else the other one; both busy: the one that is free first. */
  function choose (): void {
    if (!isFree(current)) {
      const other = slots.find((slot) => slot !== current) ?? makeSlot()
      if (slots.length === 1) slots.push(other)
      current = other
    }
    if (!isFree(current)) return
    resize(current)
    if (!current.isLarge) dropOther()
  }

  /** Short reads need one buffer: a second one that is large would wait for the next bulk, perhaps for ever. */
  function dropOther (): void {
    const index = slots.findIndex((slot) => slot !== current && slot.isLarge && slot.pendingCount === 0)
    const [other] = index === -1 ? [] : slots.splice(index, 1)
    if (other !== undefined) pool.give(other.buffer)
  }

  function resize (slot: Slot): void {
    const wantsLarge = shortReadCount < SHORT_READ_COUNT && (slot.isLarge || shortReadCount < 0)
    if (wantsLarge === slot.isLarge) return
    const large = wantsLarge ? pool.take() : undefined
    if (wantsLarge && large === undefined) return
    if (slot.isLarge) pool.give(slot.buffer)
    slot.buffer = large ?? Buffer.allocUnsafeSlow(SMALL_BYTES)
    slot.isLarge = large !== undefined
  }

  function onRead (byteCount: number): boolean {
    const slot = current
    // negative: the last read filled a buffer
    if (byteCount === slot.buffer.length) shortReadCount = -1
    else if (byteCount > SHORT_READ_BYTES) shortReadCount = Math.min(shortReadCount, 0)
    else shortReadCount = Math.max(0, shortReadCount) + 1
    slot.pendingCount++
    slot.isTaken = events.onRead(slot.buffer.subarray(0, byteCount), slot.onWritten)
    choose()
    isWaiting = !isFree(current) || isHeld
    return !isWaiting
  }

  const moved = reuseBuffers(accepted, { buffer: () => current.buffer, callback: onRead })
  if (moved === undefined) return undefined
  const { socket, rest } = moved
  watch(socket, events)
  // what came with the ticket goes first; nothing else is read before this turn is over
  for (const bytes of rest) queueMicrotask(() => { if (!socket.destroyed) events.onRead(bytes, () => {}) })

  return {
    isReusing: true,
    ...outgoing(socket),
    hold: () => {
      isHeld = true
      isWaiting = true
      socket.pause()
    },
    release: () => {
      isHeld = false
      if (isWaiting && isFree(current)) start()
    },
    waitingBytes: () => slots.reduce((sum, slot) => sum + (slot.pendingCount > 0 && !slot.isTaken ? slot.buffer.length : 0), 0),
    dispose: () => {
      for (const slot of slots) if (slot.isLarge) pool.give(slot.buffer)
      slots.length = 0
    }
  }
}

/** The same with 'data' events: every read makes a new buffer. */
function createPublicLeg (socket: Socket, events: LegEvents): SpliceLeg {
  let waitingBytes = 0
  let isHeld = false

  function update (): void {
    const mustPause = isHeld || waitingBytes > PUBLIC_WAITING_BYTES
    if (mustPause && !socket.isPaused()) socket.pause()
    else if (!mustPause && socket.isPaused()) socket.resume()
  }

  socket.on('data', (bytes: Buffer) => {
    waitingBytes += bytes.length
    events.onRead(bytes, () => {
      waitingBytes -= bytes.length
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

function watch (socket: Socket, events: LegEvents): void {
  // 'close' follows and says enough
  socket.on('error', () => {})
  socket.on('end', events.onEnd)
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

const SMALL_BYTES = 16 * 1024

// so many reads in a row that a small buffer would have held make a large one small again
const SHORT_READ_COUNT = 8
const SHORT_READ_BYTES = 8 * 1024

// a read of `net` brings up to 64 KiB, a paused socket holds as much again, and what waits is counted after it came
const PUBLIC_WAITING_BYTES = LIMITS.relaySpliceBufferBytes / 4
