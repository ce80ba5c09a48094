/**
 * The door of a port that answers nobody: a socket says a constant and a 32-byte ticket, or it is closed without a word.
 * The splice port of a relay and the link port of a node both stand behind it. PROTOCOL.md "Splices".
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'
import { sourcePrefix } from './source-prefix.ts'

/** Bytes of a ticket. */
export const TICKET_BYTES = 32

/** What a socket says first at the splice port of a relay. */
export const SPLICE_PREFACE = Buffer.from('carrier-splice/1\n', 'latin1')

/** What a socket says first at the link port of a node. */
export const LINK_PREFACE = Buffer.from('carrier-link/1\n', 'latin1')

/** Why a socket was closed at the door; also the label of the metric. */
export type TicketRefusal = 'preface' | 'late' | 'full' | 'ended' | 'ticket'

/** What a door needs. */
export interface TicketDoorComponents {
  clock: Clock
  onRefused: (reason: TicketRefusal) => void
  /**
   * Takes a socket with a complete ticket: paused, without listeners, with the bytes that follow the ticket still in it.
   * False: the ticket is not valid, and the door closes the socket.
   */
  onTicket: (socket: Socket, ticket: Uint8Array) => boolean
}

/** The door. */
export interface TicketDoor {
  /** Takes over a socket that was just accepted (`allowHalfOpen`, so that nothing is answered to a FIN). */
  enter: (socket: Socket) => void
  /** Sockets whose ticket is not complete. */
  readonly waitingCount: number
  /** Closes those. */
  closeAll: () => void
}

/** A socket whose ticket is not complete. */
interface Waiting { prefix: string, received: Buffer, timer: Timer, leave: () => void }

/** Opens the door; who came first goes first when there are too many (honest ones are through after one round trip). */
export function createTicketDoor ({ clock, onRefused, onTicket }: TicketDoorComponents, init: { preface: Buffer }): TicketDoor {
  const { preface } = init
  const neededBytes = preface.length + TICKET_BYTES
  // in the order of their arrival
  const waiting = new Map<Socket, Waiting>()
  const prefixes = new Map<string, Set<Socket>>()

  function refuse (socket: Socket, reason: TicketRefusal): void {
    onRefused(reason)
    remove(socket)
    // its error listener stays: a reset that is on its way must find one
    socket.destroy()
  }

  function remove (socket: Socket): void {
    const entry = waiting.get(socket)
    if (entry === undefined) return
    waiting.delete(socket)
    entry.timer.cancel()
    entry.leave()
    const same = prefixes.get(entry.prefix)
    same?.delete(socket)
    if (same?.size === 0) prefixes.delete(entry.prefix)
  }

  function makeRoom (prefix: string): void {
    const same = prefixes.get(prefix)
    if (same !== undefined && same.size >= LIMITS.ticketWaitingPerPrefixCount) for (const oldest of first(same)) refuse(oldest, 'full')
    if (waiting.size >= LIMITS.ticketWaitingCount) for (const oldest of first(waiting.keys())) refuse(oldest, 'full')
  }

  function enter (socket: Socket): void {
    const prefix = sourcePrefix(socket.remoteAddress)
    makeRoom(prefix)

    function onData (chunk: Buffer): void {
      const entry = waiting.get(socket)
      if (entry === undefined) return
      const start = entry.received.length
      const part = chunk.subarray(0, neededBytes - start)
      // the first wrong byte ends it; what stands after the preface says nothing before it is complete
      for (let index = start; index < preface.length && index - start < part.length; index++) {
        if (part[index - start] !== preface[index]) {
          refuse(socket, 'preface')
          return
        }
      }
      entry.received = Buffer.concat([entry.received, part])
      if (entry.received.length < neededBytes) return
      socket.pause()
      remove(socket)
      if (chunk.length > part.length) socket.unshift(chunk.subarray(part.length))
      // the listener for errors stays: the next owner may not listen at once
      if (onTicket(socket, entry.received.subarray(preface.length))) return
      onRefused('ticket')
      socket.destroy()
    }
    function onEnd (): void { refuse(socket, 'ended') }
    // a socket that is gone takes no place
    function onClose (): void { remove(socket) }

    socket.on('error', ignore)
    socket.on('data', onData)
    socket.on('end', onEnd)
    socket.on('close', onClose)
    waiting.set(socket, {
      prefix,
      received: Buffer.alloc(0),
      timer: clock.setTimer(() => { refuse(socket, 'late') }, LIMITS.ticketWaitMs),
      leave: () => {
        socket.removeListener('data', onData)
        socket.removeListener('end', onEnd)
        socket.removeListener('close', onClose)
      }
    })
    const same = prefixes.get(prefix) ?? new Set()
    prefixes.set(prefix, same)
    same.add(socket)
  }

  return {
    enter,
    get waitingCount () { return waiting.size },
    closeAll: () => {
      for (const socket of [...waiting.keys()]) {
        remove(socket)
        socket.destroy()
      }
    }
  }
}

/** A socket that waits for its ticket may fail at any time; its place is freed by 'close'. */
function ignore (): void {}

function first<T> (items: Iterable<T>): T[] {
  const next = items[Symbol.iterator]().next()
  return next.done === true ? [] : [next.value]
}
