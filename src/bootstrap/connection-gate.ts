/**
 * New connections at a relay before anybody has proven a key: bounded per source prefix and in all, and every refusal counted.
 * Their handshakes begin in turn, see handshake-turns.ts. When too many are in their handshake, the source that has most of them loses its oldest: who fills the places pays for it.
 */
import type { Socket } from 'node:net'
import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface'
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Clock, CounterMetric, Metrics, Timer } from '../base/index.ts'
import { sourcePrefix } from '../node/index.ts'
import { createHandshakeTurns } from './handshake-turns.ts'
import { createKnownSources } from './known-sources.ts'

/** Bounds of new connections. */
export interface ConnectionBounds {
  /** New ones per source prefix and second. */
  perSourcePerSecond: number
  /** In their handshake at once. */
  maxPending: number
  /** Handshakes begun in a second; absent: those of LIMITS. */
  handshakesPerSecond?: number
}

/** What the gate uses. */
export interface ConnectionGateComponents {
  clock: Clock
  metrics: Metrics
  bounds: () => ConnectionBounds
  /** False when there are as many connections as may be, and all are in use. */
  hasRoom: () => boolean
}

/** The gate. */
export interface ConnectionGate {
  gater: Pick<ConnectionGater, 'denyInboundConnection' | 'denyInboundUpgradedConnection'>
  /** Takes a socket that a WebSocket listener has just accepted: libp2p hears of it only after the HTTP upgrade, and waits for that without end. */
  enterSocket: (socket: Socket) => void
  readonly pendingCount: number
}

/** One connection in its handshake. */
interface Pending { key: string, source: string, abort: () => void, timer?: Timer, isTaken: boolean, giveUp?: () => void }

/** Creates the gate. */
export function createConnectionGate ({ clock, metrics, bounds, hasRoom }: ConnectionGateComponents): ConnectionGate {
  const refused: CounterMetric = metrics.counter('carrier_relay_refused_connections_total', 'New connections closed before their handshake was done, by reason.', ['reason'])
  metrics.gauge('carrier_relay_pending_connections_count', 'Connections in their handshake now.', [], () => pending.size)
  // by transport and by remote address and port, in the order of their arrival. One end may have these in common at several listeners:
  // the second one is refused, else it could take over the time limit of the first
  const pending = new Map<string, Pending>()
  const bySource = new Map<string, Set<string>>()
  const known = createKnownSources(clock)
  const turns = createHandshakeTurns({ clock, perSecond: () => bounds().handshakesPerSecond ?? LIMITS.relayHandshakesPerSecondCount, isKnown: known.has })
  metrics.gauge('carrier_relay_waiting_handshakes_count', 'Connections that wait until it is the turn of their handshake.', [], () => turns.waitingCount)
  let second = { startedAtMs: clock.monotonicMs(), counts: new Map<string, number>() }

  function takeSecond (source: string): boolean {
    const nowMs = clock.monotonicMs()
    if (nowMs - second.startedAtMs >= 1000) second = { startedAtMs: nowMs, counts: new Map() }
    const count = (second.counts.get(source) ?? 0) + 1
    second.counts.set(source, count)
    return count <= bounds().perSourcePerSecond
  }

  function forget (entry: Pending | undefined): entry is Pending {
    // after its end the key may be that of another one
    if (entry === undefined || pending.get(entry.key) !== entry) return false
    pending.delete(entry.key)
    entry.timer?.cancel()
    entry.giveUp?.()
    const same = bySource.get(entry.source)
    same?.delete(entry.key)
    if (same?.size === 0) bySource.delete(entry.source)
    return true
  }

  function evict (): void {
    let largest: Set<string> | undefined
    for (const same of bySource.values()) if (same.size > (largest?.size ?? 0)) largest = same
    const [oldest] = largest ?? []
    const entry = oldest === undefined ? undefined : pending.get(oldest)
    if (!forget(entry)) return
    refused.add(1, { reason: 'pending' })
    entry.abort()
  }

  /** Its place; undefined when its source is too fast, or all places are in use. */
  function enter (transport: Transport, host: string, port: number | string, abort: () => void): Pending | undefined {
    const source = sourcePrefix(host)
    const key = keyOf(transport, host, port)
    if (!takeSecond(source)) {
      refused.add(1, { reason: 'rate' })
      return undefined
    }
    if (pending.has(key)) {
      refused.add(1, { reason: 'same_port' })
      return undefined
    }
    if (!hasRoom()) {
      refused.add(1, { reason: 'full' })
      return undefined
    }
    while (pending.size >= bounds().maxPending) evict()
    const entry: Pending = { key, source, abort, isTaken: false }
    pending.set(key, entry)
    const same = bySource.get(source) ?? new Set()
    bySource.set(source, same)
    same.add(key)
    return entry
  }

  /** It went before a key was proven: late, malformed, or given up. */
  function leave (entry: Pending): void {
    // who waited for a turn has got nothing yet
    const reason = entry.giveUp === undefined ? 'handshake' : 'turn'
    if (forget(entry)) refused.add(1, { reason })
  }

  /** What the gater says: the connection goes on, now or when it is its turn. */
  function goOn (entry: Pending, connection: MultiaddrConnection): boolean | Promise<boolean> {
    const turn = turns.take(entry.source)
    if (turn === undefined) return false
    entry.giveUp = turn.cancel
    // nobody reads it yet, and who has not heard anything has little to say
    const { maxReadBufferLength } = connection
    connection.maxReadBufferLength = LIMITS.relayWaitingHandshakeBytes
    return turn.whenDue.then((isDue) => {
      delete entry.giveUp
      connection.maxReadBufferLength = maxReadBufferLength
      return !isDue
    })
  }

  function placeOf (connection: MultiaddrConnection): { transport: Transport, host: string, port: string } {
    const [host, port, ...rest] = connection.remoteAddr.getComponents()
    return { transport: rest.some(({ name }) => name === 'ws' || name === 'wss') ? 'ws' : 'tcp', host: host?.value ?? '', port: port?.value ?? '' }
  }

  return {
    get pendingCount () { return pending.size },
    enterSocket: (socket) => {
      const { remoteAddress, remotePort } = socket
      const entry = remoteAddress === undefined || remotePort === undefined ? undefined : enter('ws', remoteAddress, remotePort, () => { socket.destroy() })
      if (entry === undefined) {
        socket.destroy()
        return
      }
      entry.timer = clock.setTimer(() => { socket.destroy() }, LIMITS.relayUpgradeTimeoutMs)
      socket.once('close', () => { leave(entry) })
    },
    gater: {
      denyInboundConnection: (connection) => {
        const { transport, host, port } = placeOf(connection)
        const accepted = pending.get(keyOf(transport, host, port))
        const abort = (): void => { connection.abort(new CarrierError('ERR_LIMIT', 'too many connections of this source are in their handshake')) }
        if (accepted !== undefined && !accepted.isTaken) {
          // a WebSocket that was counted as a socket; libp2p has a time for the rest
          accepted.timer?.cancel()
          accepted.isTaken = true
          accepted.abort = abort
          return goOn(accepted, connection)
        }
        const entry = enter(transport, host, port, abort)
        if (entry === undefined) return true
        entry.isTaken = true
        connection.addEventListener('close', () => { leave(entry) }, { once: true })
        return goOn(entry, connection)
      },
      denyInboundUpgradedConnection: (_peer, connection) => {
        const { transport, host, port } = placeOf(connection)
        forget(pending.get(keyOf(transport, host, port)))
        connection.addEventListener('close', known.add(sourcePrefix(host)), { once: true })
        return false
      }
    }
  }
}

/** What a listener takes; libp2p tells no more of it. */
type Transport = 'tcp' | 'ws'

/** IPv4 is written in one way, however the socket was opened. */
function keyOf (transport: Transport, host: string, port: number | string): string {
  return `${transport} ${host.replace(/^::ffff:(?=\d+\.)/i, '')} ${port}`
}

/** What holds where nothing is configured. */
export const CONNECTION_DEFAULTS: Required<ConnectionBounds> = { perSourcePerSecond: LIMITS.relayConnectionsPerSecondCount, maxPending: LIMITS.relayPendingConnectionCount, handshakesPerSecond: LIMITS.relayHandshakesPerSecondCount }
