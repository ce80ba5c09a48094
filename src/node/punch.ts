/**
 * TCP hole punching: two friends behind routers connect to each other at the same time, each from a fresh local port without a
 * listener, to the address under which relays see the other's port. Who is at the other end is proven afterwards, by TLS.
 * DESIGN section 4; PROTOCOL.md "Punching".
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { ADDRESS_BYTES, CarrierError, LIMITS, abortable, decodeAddress, errorMessage, sleep, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, HostAndPort, Logger, Timer } from '../base/index.ts'
import type { Interfaces } from './listen-addresses.ts'
import { natMapping, ownCandidates, usableCandidates } from './punch-candidates.ts'
import { SPLICE_PREFACE } from './ticket-door.ts'
import type { OnPunched, PunchPort } from './types.ts'
import { isLocalHost, isUnicastHost } from './path.ts'

/** What punching needs. */
export interface PuncherComponents {
  clock: Clock
  log: Logger
  /** In [0, 1). */
  random: () => number
  /** Relays that are connected and say where they see us. */
  observers: () => string[]
  /** A ticket with which the relay answers where a socket comes from. @throws CarrierError */
  askObserve: (relayPeerId: string, signal: AbortSignal) => Promise<HostAndPort & { ticket: Uint8Array }>
  relayHosts: () => string[]
  /** False for addresses that only a proxy may connect to. */
  mayDialDirectly: (host: string) => boolean
  interfaces: () => Interfaces
}

/** Makes ports ready. */
export interface Puncher {
  /** True when some relay can tell where we are seen. A look-up. */
  canPunch: () => boolean
  /** @throws CarrierError ERR_NOT_AVAILABLE when no relay told where we are seen, or the signal's reason */
  prepare: (signal: AbortSignal) => Promise<PunchPort>
}

/** Creates the puncher. */
export function createPuncher (components: PuncherComponents, init: { mayUseLan: boolean, mayUseLoopback: boolean }): Puncher {
  const { clock, log } = components

  async function prepare (signal: AbortSignal): Promise<PunchPort> {
    const relays = components.observers().slice(0, LIMITS.punchObserverCount)
    let failure: unknown = new CarrierError('ERR_NOT_AVAILABLE', 'no relay that could tell where this node is seen')
    for (let attempt = 0; attempt < LIMITS.punchPortAttempts; attempt++) {
      const localPort = FIRST_PORT + Math.floor(components.random() * PORT_COUNT)
      const results = await observeAll(relays, localPort, signal)
      const seen = results.flatMap((result) => result.status === 'fulfilled' ? [result.value] : [])
      if (signal.aborted) {
        for (const { socket } of seen) socket.destroy()
        throw signal.reason
      }
      if (seen.length > 0) return createPort(localPort, seen)
      failure = results.find((result) => result.status === 'rejected')?.reason ?? failure
      if (!/EADDRINUSE|EADDRNOTAVAIL/.test(errorMessage(failure))) break
    }
    throw new CarrierError('ERR_NOT_AVAILABLE', `no relay told where this node is seen: ${errorMessage(failure)}`, { cause: failure })
  }

  /**
   * Asks all relays at once. Where a router keeps the port for one destination it most likely does for all: the word of a second
   * relay is good to have, but not worth the second that one lost packet costs.
   */
  async function observeAll (relays: readonly string[], localPort: number, signal: AbortSignal): Promise<Array<PromiseSettledResult<Seen>>> {
    const enough = new AbortController()
    const either = AbortSignal.any([signal, enough.signal])
    const finish = (): void => { enough.abort(new CarrierError('ERR_CANCELLED', 'another relay said where this node is seen')) }
    let timer: Timer | undefined
    try {
      return await Promise.allSettled(relays.map(async (relay) => {
        const seen = await observe(relay, localPort, either)
        if (seen.address.port === localPort) timer ??= clock.setTimer(finish, LIMITS.punchObserveGraceMs)
        return seen
      }))
    } finally {
      timer?.cancel()
    }
  }

  /** Asks one relay from `localPort`; the socket stays open, so that the router in between keeps its mapping. */
  async function observe (relay: string, localPort: number, parent: AbortSignal): Promise<Seen> {
    using deadline = startDeadline(clock, LIMITS.punchObserveMs, 'the relay did not say where it sees this node', parent)
    const { host, port, ticket } = await abortable(components.askObserve(relay, deadline.signal), deadline.signal)
    const socket = connect({ host, port, localPort, noDelay: true })
    // for good: a reset at any moment must not end the process
    socket.on('error', () => {})
    try {
      const address = await readAddress(socket, ticket, deadline.signal)
      if (!isUnicastHost(address.host) || (isLocalHost(address.host) && !init.mayUseLan && !init.mayUseLoopback)) throw new CarrierError('ERR_PROTOCOL', 'the relay says that it sees this node at an address that nobody can reach')
      // nothing more is expected
      socket.on('data', () => { socket.destroy() })
      return { address, socket }
    } catch (err) {
      socket.destroy()
      throw err
    }
  }

  function createPort (localPort: number, seen: readonly Seen[]): PunchPort {
    const closing = new AbortController()
    const observed = seen.map(({ address }) => address)

    /** One candidate: a fresh attempt each time, because a reset or the silence of a router says nothing about the next. */
    async function knock (target: HostAndPort, rttMs: number, onSocket: OnPunched, signal: AbortSignal): Promise<void> {
      for (let count = 0; count < LIMITS.punchSynCount && !signal.aborted; count++) {
        const startedMs = clock.monotonicMs()
        const socket = await tryOnce(target, signal)
        // somebody else may have been there, or the other end had just given this attempt up
        if (socket !== undefined && await onSocket(socket)) return
        // two ends with one rhythm would miss each other again and again: what counts is that both are on their way at once
        const periodMs = Math.min(LIMITS.punchRetryMaxGapMs, Math.max(LIMITS.punchRetryMs, rttMs)) * (1 + 2 * components.random())
        const restMs = periodMs - (clock.monotonicMs() - startedMs)
        if (restMs > 0) await sleep(clock, restMs, signal).catch(() => { /* the loop sees that it is over */ })
      }
    }

    async function tryOnce (target: HostAndPort, signal: AbortSignal): Promise<Socket | undefined> {
      return new Promise((resolve) => {
        const socket = connect({ host: target.host, port: target.port, localPort, noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.socketKeepAliveMs, allowHalfOpen: true })
        socket.pause()
        // for good: a reset at any moment must not end the process
        socket.on('error', (err) => {
          log.debug('a punch was answered', { reason: errorMessage(err) })
          give()
        })
        const timer = clock.setTimer(give, LIMITS.punchTryMs)
        signal.addEventListener('abort', give, { once: true })
        function settle (): void {
          timer.cancel()
          signal.removeEventListener('abort', give)
        }
        function give (): void {
          settle()
          socket.destroy()
          resolve(undefined)
        }
        socket.once('connect', () => {
          settle()
          resolve(socket)
        })
        if (signal.aborted) give()
      })
    }

    return {
      candidates: ownCandidates(observed, localPort, { interfaces: components.interfaces(), mayUseLan: init.mayUseLan }),
      mapping: natMapping(observed, localPort),
      observed,
      connect: async (offered, rttMs, onSocket, signal) => {
        const usable = usableCandidates(offered, { relayHosts: components.relayHosts(), interfaces: components.interfaces(), ...init }).filter(({ host }) => components.mayDialDirectly(host))
        const either = AbortSignal.any([signal, closing.signal])
        await Promise.all(usable.map(async (target) => knock(target, rttMs, onSocket, either)))
      },
      close: () => {
        closing.abort()
        for (const { socket } of seen) socket.destroy()
      }
    }
  }

  return { canPunch: () => components.observers().length > 0, prepare }
}

/** What one relay saw, and the socket that it saw. */
interface Seen { address: HostAndPort, socket: Socket }

/** Ports that systems seldom use for connections of their own. */
const FIRST_PORT = 20_000
const PORT_COUNT = 12_000

/** Shows the ticket and reads the one address that the relay answers with. */
async function readAddress (socket: Socket, ticket: Uint8Array, signal: AbortSignal): Promise<HostAndPort> {
  return new Promise<HostAndPort>((resolve, reject) => {
    let received = Buffer.alloc(0)
    function settle (): void {
      signal.removeEventListener('abort', onAbort)
      socket.off('data', onData)
      socket.off('error', fail)
      socket.off('close', onClose)
    }
    function fail (err: unknown): void {
      settle()
      reject(toCarrierError(err, 'ERR_PEER_OFFLINE'))
    }
    function onAbort (): void { fail(signal.reason) }
    function onClose (): void { fail(new CarrierError('ERR_LINK_LOST', 'the relay ended the connection')) }
    function onData (chunk: Buffer): void {
      received = Buffer.concat([received, chunk.subarray(0, ADDRESS_BYTES - received.length)])
      if (received.length < ADDRESS_BYTES) return
      try {
        const address = decodeAddress(new Uint8Array(received))
        settle()
        resolve(address)
      } catch (err) {
        fail(err)
      }
    }
    socket.once('connect', () => { socket.write(Buffer.concat([SPLICE_PREFACE, ticket])) })
    socket.on('data', onData)
    socket.on('error', fail)
    socket.on('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}
