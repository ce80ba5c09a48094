/** Reads a socket into two buffers in turn: while one waits to be passed on, the other is read into. */
import type { Socket } from 'node:net'
import type { BufferPool } from './buffer-pool.ts'
import { readInto } from './read-into.ts'

/**
 * Bytes were read. They stay as they are until `onTaken`, or shorter when the answer is true: they are somewhere else already.
 * The socket stops reading by itself while both buffers wait.
 */
export type OnRead = (bytes: Uint8Array, onTaken: () => void) => boolean

/** Who reads a socket. */
export interface SlotReader {
  /** Reading waits until `release`. */
  hold: () => void
  release: () => void
  /** Bytes of the buffers that wait to be passed on. */
  waitingBytes: () => number
  /** Gives buffers back. Only when the socket is closed and nothing that was read is needed any more. */
  dispose: () => void
}

/** A buffer that bytes are read into, and how many pieces of it wait. */
interface Slot { buffer: Uint8Array, isLarge: boolean, pendingCount: number, isTaken: boolean, onTaken: () => void }

/** What a reader begins with, and goes back to when reads stay short: an idle connection costs little. */
const SMALL_BYTES = 16 * 1024
// so many reads in a row that a small buffer would have held make a large one small again
const SHORT_READ_COUNT = 8
const SHORT_READ_BYTES = 8 * 1024

/**
 * Takes over the reading of a paused socket: what it holds already is told in the next tick, everything else after the
 * caller has let it flow (`socket.resume()`). Large buffers are of `pool`. Undefined, with nothing changed, where this Node does not allow it.
 */
export function createSlotReader (pool: BufferPool, socket: Socket, onRead: OnRead): SlotReader | undefined {
  const slots: Slot[] = [makeSlot()]
  let current = slots[0] as Slot
  let isHeld = false
  let isDisposed = false
  let isWaiting = false
  let shortReadCount = 0

  function makeSlot (): Slot {
    const slot: Slot = {
      buffer: Buffer.allocUnsafeSlow(SMALL_BYTES),
      isLarge: false,
      pendingCount: 0,
      isTaken: false,
      onTaken: () => {
        slot.pendingCount--
        if (isDisposed) return
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

  function onBytes (byteCount: number): boolean {
    if (isDisposed) return false
    const slot = current
    // negative: the last read filled a buffer
    if (byteCount === slot.buffer.length) shortReadCount = -1
    else if (byteCount > SHORT_READ_BYTES) shortReadCount = Math.min(shortReadCount, 0)
    else shortReadCount = Math.max(0, shortReadCount) + 1
    slot.pendingCount++
    slot.isTaken = onRead(slot.buffer.subarray(0, byteCount), slot.onTaken)
    choose()
    isWaiting = !isFree(current) || isHeld
    return !isWaiting
  }

  if (!readInto(socket, { buffer: () => current.buffer, onRead: onBytes }, (bytes) => { onRead(bytes, () => {}) })) return undefined

  return {
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
      isDisposed = true
      for (const slot of slots) if (slot.isLarge) pool.give(slot.buffer)
      slots.length = 0
    }
  }
}
