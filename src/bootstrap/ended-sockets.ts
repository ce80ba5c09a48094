/**
 * Sockets whose peer has ended. For libp2p such a connection is over at once, and nobody looks after its socket any more: a peer that
 * does not take what is still to be sent would keep it, and the listener from closing, for as long as it likes.
 */
import type { Server, Socket } from 'node:net'
import { LIMITS } from '../base/index.ts'
import type { Clock, Timer } from '../base/index.ts'

/** The watch. */
export interface EndedSockets {
  /** Watches what this server accepts from now on. */
  watch: (server: Server) => void
  /** Ends those that are left; those that end from now on go at once. */
  stop: () => void
}

/** Creates the watch; its owner calls `stop` before it closes the servers. */
export function createEndedSockets (clock: Pick<Clock, 'setTimer'>): EndedSockets {
  const ended = new Map<Socket, Timer>()
  let isStopped = false

  function enter (socket: Socket): void {
    socket.once('end', () => {
      if (isStopped) {
        socket.destroy()
        return
      }
      if (socket.destroyed) return
      ended.set(socket, clock.setTimer(() => { socket.destroy() }, LIMITS.relayEndedSocketMs))
    })
    socket.once('close', () => {
      ended.get(socket)?.cancel()
      ended.delete(socket)
    })
  }

  return {
    watch: (server) => { server.on('connection', enter) },
    stop: () => {
      isStopped = true
      for (const socket of ended.keys()) socket.destroy()
    }
  }
}
