/** What every attack stands on: sockets from many addresses, timers, and an account of what the target refused. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { emptyFresh } from './fresh-report.ts'
import type { FreshReport } from './fresh-report.ts'

/** Whom the attacks are aimed at. */
export interface Target {
  host: string
  port: number
  splicePort: number
  /** Multiaddr of a relay, for attackers with a key. */
  relay: string
}

/** What the target refused, as the attackers saw it. */
export interface Refusals {
  /** Connections that it closed before we did. */
  sockets: number
  /** The same at its splice port. */
  spliceSockets: number
  /** Connections with a proven key that it cut off. */
  muxers: number
  /** Reservations that it refused with an answer. */
  reservations: number
}

/** What came of an attack. `fresh`: of it, keys that nobody had seen before. */
export interface AttackReport { made: number, failed: number, refused: Refusals, fresh: FreshReport }

/** Nothing yet. */
export function emptyReport (): AttackReport {
  return { made: 0, failed: 0, refused: { sockets: 0, spliceSockets: 0, muxers: 0, reservations: 0 }, fresh: emptyFresh() }
}

/** One run of attacks. */
export interface Ground {
  readonly target: Target
  readonly report: AttackReport
  /** Opens a socket from one of the attackers' addresses; it is ours to close after `lifeMs`. */
  open: (from: number, where: 'relay' | 'splice', lifeMs: number, onConnect: (socket: Socket) => void) => Socket
  every: (ms: number, work: () => void) => void
  later: (ms: number, work: () => void) => void
  /** True from `stop` on. */
  isOver: () => boolean
  /** Called at the end. */
  onStop: (work: () => void) => void
  stop: () => void
}

/** The addresses from which attackers come. */
export const ATTACKER_ADDRESSES: readonly string[] = Array.from({ length: 50 }, (_, index) => `127.0.0.${index + 2}`)

/** The address of the attacker with this number. */
export function attackerAddress (from: number): string {
  return ATTACKER_ADDRESSES[from % ATTACKER_ADDRESSES.length] ?? '127.0.0.2'
}

/** Makes an empty ground. */
export function createGround (target: Target): Ground {
  const report = emptyReport()
  const timers = new Set<NodeJS.Timeout>()
  const sockets = new Set<Socket>()
  const endings: Array<() => void> = []
  let isOver = false

  const later = (ms: number, work: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      if (!isOver) work()
    }, ms)
    timers.add(timer)
  }

  return {
    target,
    report,
    later,
    every: (ms, work) => { timers.add(setInterval(work, ms)) },
    isOver: () => isOver,
    onStop: (work) => { endings.push(work) },
    open: (from, where, lifeMs, onConnect) => {
      const socket = connect({ host: target.host, port: where === 'relay' ? target.port : target.splicePort, localAddress: attackerAddress(from) })
      let isConnected = false
      let isOurs = false
      sockets.add(socket)
      report.made++
      // 'close' follows
      socket.on('error', () => {})
      socket.on('connect', () => {
        isConnected = true
        onConnect(socket)
        // one that its own attack has closed is no refusal
        isOurs ||= socket.destroyed
      })
      // what the target says is of no interest, that it ends is
      socket.resume()
      socket.on('close', () => {
        sockets.delete(socket)
        if (isOver || isOurs) return
        if (!isConnected) report.failed++
        else if (where === 'relay') report.refused.sockets++
        else report.refused.spliceSockets++
      })
      later(lifeMs, () => {
        if (socket.destroyed) return
        isOurs = true
        socket.destroy()
      })
      return socket
    },
    stop: () => {
      isOver = true
      for (const timer of timers) clearTimeout(timer)
      for (const socket of sockets) socket.destroy()
      for (const work of endings) work()
    }
  }
}
