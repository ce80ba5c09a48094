/** The second listening port of a node that listens: friends' TLS links come in here, each with a ticket that was handed to its device. */
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { randomBytes } from 'node:crypto'
import { CarrierError, LIMITS, errorMessage } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { isLocalHost } from './path.ts'
import { LINK_PREFACE, createTicketDoor } from './ticket-door.ts'
import { createTicketTable } from './ticket-table.ts'
import type { CarrierNode, LinkSocketHandler, PeerLevel } from './types.ts'

/** What the link port needs. */
export interface LinkPortComponents {
  clock: Clock
  log: Logger
  levelOf: (device: Did) => PeerLevel
  /** Counts sockets by how they were received. */
  sockets: CounterMetric
}

/** The port, and tickets for it. */
export interface LinkPort extends Startable, Pick<CarrierNode, 'issueLinkTicket'> {
  setHandler: (handler: LinkSocketHandler) => void
  /** Listens where it is to listen now: new hosts on the same port, gone ones no more. Sockets that came in stay. */
  rebind: () => Promise<void>
  /** The bound port; undefined while it does not listen. */
  readonly port: number | undefined
}

/** A ticket that was not used yet. */
interface Issued { device: Did, ticket: Uint8Array }

/** Where to listen; no hosts: never. Port 0 takes any. */
export interface LinkPortInit { hosts: readonly string[], port: number }

/** Creates the port. A port that is taken is replaced by a free one: its number travels with the ticket. */
export function createLinkPort (components: LinkPortComponents, init: () => LinkPortInit): LinkPort {
  const { clock, log } = components
  // unused tickets by device, oldest first
  const issued = new Map<Did, Uint8Array[]>()
  const tickets = createTicketTable<Issued>({ random: (count) => new Uint8Array(randomBytes(count)) }, { ttlMs: LIMITS.linkTicketMs, maxCount: LIMITS.linkTicketCount, onVoid: forget })
  const door = createTicketDoor({
    clock,
    onRefused: (reason) => { components.sockets.add(1, { result: reason }) },
    onTicket: (socket, ticket) => receive(socket, ticket)
  }, { preface: LINK_PREFACE })
  /** By host. */
  const servers = new Map<string, Server>()
  let isStarted = false
  /** Changes of what listens, one after the other. */
  let last: Promise<void> = Promise.resolve()
  let port: number | undefined
  let handler: LinkSocketHandler | undefined

  function receive (socket: Socket, ticket: Uint8Array): boolean {
    const use = tickets.redeem(ticket, clock.monotonicMs())
    if (use === undefined) return false
    const { device } = use
    forget(use)
    // it may have been removed or blocked since the ticket was handed out
    if (handler === undefined || components.levelOf(device) !== 'friend') return false
    components.sockets.add(1, { result: 'taken' })
    handler(socket, device, isLocalHost(socket.remoteAddress ?? '') ? 'lan' : 'direct')
    return true
  }

  function forget ({ device, ticket }: Issued): void {
    const left = (issued.get(device) ?? []).filter((one) => one !== ticket)
    if (left.length === 0) issued.delete(device)
    else issued.set(device, left)
  }

  function issue (device: Did): Uint8Array {
    const nowMs = clock.monotonicMs()
    tickets.sweep(nowMs).forEach(forget)
    const own = issued.get(device) ?? []
    for (const old of own.splice(0, Math.max(0, own.length - LIMITS.linkTicketsPerDeviceCount + 1))) tickets.cancel(old)
    const use: Issued = { device, ticket: new Uint8Array(0) }
    use.ticket = tickets.issue(use, nowMs)
    issued.set(device, [...issued.get(device) ?? [], use.ticket])
    return use.ticket
  }

  async function listen (host: string, wantedPort: number): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.socketKeepAliveMs }, door.enter)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host, port: wantedPort, ipv6Only: host.includes(':') }, () => {
        server.removeListener('error', reject)
        // an accept that fails (no file left) ends nothing
        server.on('error', (err) => { log.warn('the link port could not take a connection', { reason: errorMessage(err) }) })
        resolve()
      })
    })
    return server
  }

  async function listenSomewhere (host: string, wantedPort: number): Promise<void> {
    let server: Server
    try {
      server = await listen(host, port ?? wantedPort)
    } catch (err) {
      if (port !== undefined || wantedPort === 0) {
        log.warn('the link port does not listen on one address of this machine', { host, reason: errorMessage(err) })
        return
      }
      log.warn(`port ${wantedPort} for direct links is in use; another one is taken`, { reason: errorMessage(err) })
      await listenSomewhere(host, 0)
      return
    }
    servers.set(host, server)
    port ??= (server.address() as AddressInfo | null)?.port
  }

  /** Sockets that were handed up are their owners'; only listeners are closed here. */
  function closeOthers (hosts: readonly string[]): void {
    for (const [host, server] of [...servers]) {
      if (hosts.includes(host)) continue
      servers.delete(host)
      server.close()
    }
    // a port that nothing holds is not ours any more
    if (servers.size === 0) port = undefined
  }

  async function bind (): Promise<void> {
    last = last.then(async () => {
      if (!isStarted) return
      const where = init()
      // the port is kept while it moves: tickets for it are on their way
      for (const host of where.hosts) if (isStarted && !servers.has(host)) await listenSomewhere(host, where.port)
      closeOthers(isStarted ? where.hosts : [])
    })
    await last
  }

  return {
    get port () { return port },
    setHandler: (given) => {
      if (handler !== undefined) throw new CarrierError('ERR_INTERNAL', 'links have a handler already')
      handler = given
    },
    issueLinkTicket: (device) => {
      if (port === undefined || handler === undefined) return undefined
      return { port, ticket: issue(device) }
    },
    rebind: bind,
    start: async () => {
      isStarted = true
      await bind()
    },
    stop: async () => {
      isStarted = false
      await last
      closeOthers([])
      door.closeAll()
      issued.clear()
    }
  }
}
