/** The data port of a relay: legs of splices come here with their ticket, are paired, and become a splice. PROTOCOL.md "Splices". */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { CarrierError, LIMITS, encodeAddress, errorMessage } from '../base/index.ts'
import type { Clock, Logger, Startable, Timer } from '../base/index.ts'
import { SPLICE_PREFACE, createTicketDoor, createTicketTable } from '../node/index.ts'
import type { HealthAddress } from './health-server.ts'

/** The two ends of a splice. */
export type LegName = 'caller' | 'called'

/** Why a pair came to nothing; also the label of the metric. */
export type PairFailure = 'expired' | 'unpaired' | 'lost' | 'displaced' | 'cancelled'

/** What becomes of a pair, exactly one of both. Sockets are paused and past their ticket. */
export interface PairHandler {
  onJoined: (sockets: Record<LegName, Socket>) => void
  onFailed: (reason: PairFailure) => void
}

/** A pair that waits for its legs: one ticket each. */
export interface SplicePair {
  tickets: Record<LegName, Uint8Array>
  /** Gives it up. Idempotent, and without effect when it is over. */
  cancel: () => void
}

/** What the port needs. */
export interface SplicePortComponents {
  clock: Clock
  log: Logger
  /** A socket was closed without a word. */
  onRefused: (reason: string) => void
}

/** Where to listen. */
export interface SplicePortInit {
  addresses: readonly HealthAddress[]
  /** True when the port was chosen by default: a free one is taken in its place when it is in use. */
  mayMove: boolean
}

/** The port. */
export interface SplicePort extends Startable {
  /** As bound; undefined while it does not listen. */
  readonly port: number | undefined
  openPair: (handler: PairHandler) => SplicePair
  /** A ticket with which a socket is told where it comes from. */
  openObservation: () => Uint8Array
  /** Pairs whose legs have not both come, and sockets without a ticket. */
  readonly pairCount: number
  readonly waitingCount: number
}

/** A pair inside the port. */
interface Pair { sockets: Partial<Record<LegName, Socket>>, tickets: Record<LegName, Uint8Array>, handler: PairHandler, timer: Timer, forget: Array<() => void> }

/** Creates the port; its owner starts it before tickets are asked for. */
export function createSplicePort (components: SplicePortComponents, init: SplicePortInit): SplicePort {
  const { clock, log } = components
  // in the order of their making
  const pairs = new Set<Pair>()
  /** Tickets of a table of their own: they must not push out those of splices. */
  const observeTickets = createTicketTable<'observe'>({ random: (count) => new Uint8Array(randomBytes(count)) }, { ttlMs: LIMITS.spliceTicketMs, maxCount: LIMITS.relayObserveCount })
  const tickets = createTicketTable<{ pair: Pair, leg: LegName }>({ random: (count) => new Uint8Array(randomBytes(count)) }, { ttlMs: LIMITS.spliceTicketMs, maxCount: 2 * LIMITS.relaySpliceTicketCount })
  /** Sockets that were told where they come from. */
  const observed = new Set<Socket>()
  const door = createTicketDoor({ clock, onRefused: components.onRefused, onTicket: receive }, { preface: SPLICE_PREFACE })
  let servers: Server[] = []
  let isStopped = false
  let port: number | undefined

  /** Takes the pair out of everything; what is left of it is given to its handler by the caller. */
  function close (pair: Pair): boolean {
    if (!pairs.delete(pair)) return false
    pair.timer.cancel()
    for (const forget of pair.forget) forget()
    tickets.cancel(pair.tickets.caller)
    tickets.cancel(pair.tickets.called)
    return true
  }

  function fail (pair: Pair, reason: PairFailure): void {
    if (!close(pair)) return
    for (const socket of Object.values(pair.sockets)) socket.destroy()
    pair.handler.onFailed(reason)
  }

  function receive (socket: Socket, ticket: Uint8Array): boolean {
    const nowMs = clock.monotonicMs()
    const use = tickets.redeem(ticket, nowMs)
    if (use === undefined) return observeTickets.redeem(ticket, nowMs) !== undefined && observe(socket)
    const { pair, leg } = use
    pair.sockets[leg] = socket
    const { caller, called } = pair.sockets
    if (caller !== undefined && called !== undefined) {
      close(pair)
      pair.handler.onJoined({ caller, called })
      return true
    }
    const onClose = (): void => { fail(pair, 'lost') }
    // its end is told by 'close'
    const onError = (): void => {}
    socket.on('error', onError)
    socket.on('close', onClose)
    pair.forget.push(() => {
      socket.removeListener('close', onClose)
      // whoever has the socket listens by then; a closed one may still fail
      if (!socket.destroyed) queueMicrotask(() => { socket.removeListener('error', onError) })
    })
    pair.timer.cancel()
    pair.timer = clock.setTimer(() => { fail(pair, 'unpaired') }, LIMITS.splicePairMs)
    return true
  }

  /**
   * Says where the socket comes from. Its end is the caller's: as long as it is open, the router in between keeps the
   * mapping.
   */
  function observe (socket: Socket): boolean {
    const { remoteAddress, remotePort } = socket
    if (remoteAddress === undefined || remotePort === undefined || observed.size >= LIMITS.relayObserveCount) return false
    const timer = clock.setTimer(() => { socket.destroy() }, LIMITS.relayObserveMs)
    observed.add(socket)
    socket.on('close', () => {
      timer.cancel()
      observed.delete(socket)
    })
    // nothing is expected but the end
    socket.on('data', () => { socket.destroy() })
    socket.on('end', () => { socket.destroy() })
    socket.resume()
    socket.write(encodeAddress({ host: remoteAddress, port: remotePort }))
    return true
  }

  async function listen (address: HealthAddress): Promise<void> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.socketKeepAliveMs }, door.enter)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: address.host, port: address.port, ipv6Only: address.host.includes(':'), backlog: LIMITS.relayAcceptBacklogCount }, () => {
        server.removeListener('error', reject)
        // an accept that fails (no file left) ends nothing
        server.on('error', (err) => { log.warn('the splice port could not take a connection', { reason: errorMessage(err) }) })
        resolve()
      })
    })
    if (isStopped) {
      server.close()
      return
    }
    servers.push(server)
    port ??= (server.address() as AddressInfo).port
  }

  /** All addresses on one port; with port 0 the first one chooses it. */
  async function listenAll (wantedPort: number | undefined): Promise<void> {
    for (const { host, port: configured } of init.addresses) {
      const mayChoose = port === undefined
      try {
        await listen({ host, port: port ?? wantedPort ?? configured })
      } catch (err) {
        const reason = errorMessage(err)
        if (mayChoose && init.mayMove && wantedPort === undefined && reason.includes('EADDRINUSE')) {
          log.warn(`port ${configured} for splices is in use; another one is taken: choose one with --splice`)
          await listen({ host, port: 0 })
          continue
        }
        throw new CarrierError('ERR_PORT_IN_USE', `splices cannot be taken at ${host} port ${port ?? configured}: ${reason}; choose another address with --splice, or --splice off`, { cause: err })
      }
    }
  }

  return {
    get port () { return port },
    get pairCount () { return pairs.size },
    get waitingCount () { return door.waitingCount },
    openPair: (handler) => {
      for (const oldest of pairs) {
        if (pairs.size < LIMITS.relaySpliceTicketCount) break
        fail(oldest, 'displaced')
      }
      const nowMs = clock.monotonicMs()
      const none = new Uint8Array(0)
      const pair: Pair = { sockets: {}, tickets: { caller: none, called: none }, handler, timer: clock.setTimer(() => { fail(pair, 'expired') }, LIMITS.spliceTicketMs), forget: [] }
      pair.tickets = { caller: tickets.issue({ pair, leg: 'caller' }, nowMs), called: tickets.issue({ pair, leg: 'called' }, nowMs) }
      pairs.add(pair)
      return { tickets: pair.tickets, cancel: () => { fail(pair, 'cancelled') } }
    },
    openObservation: () => observeTickets.issue('observe', clock.monotonicMs()),
    start: async () => {
      isStopped = false
      await listenAll(undefined)
      log.info('taking splices', { port })
    },
    stop: async () => {
      isStopped = true
      const closing = servers
      servers = []
      port = undefined
      for (const server of closing) server.close()
      door.closeAll()
      for (const socket of observed) socket.destroy()
      for (const pair of [...pairs]) fail(pair, 'cancelled')
    }
  }
}
