/** Where relays see one local port of ours, and the open sockets that keep the router's mapping. PROTOCOL.md "Where am I seen". */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { ADDRESS_BYTES, abortable, CarrierError, decodeAddress, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, HostAndPort, Timer } from '../base/index.ts'
import { isLocalHost, isUnicastHost } from './path.ts'
import { SPLICE_PREFACE } from './ticket-door.ts'

/** What one relay saw, and the socket that it saw; whoever has it closes the socket. */
export interface Seen { address: HostAndPort, socket: Socket }

/** What the questions need. */
export interface ObserveComponents {
  clock: Clock
  /** A ticket with which the relay answers where a socket comes from. @throws CarrierError */
  askObserve: (relayPeerId: string, signal: AbortSignal) => Promise<HostAndPort & { ticket: Uint8Array }>
  /** An address of the local network may be the answer. */
  mayBeLocal: boolean
}

/**
 * Asks all relays at once, from `localPort`. Where a router keeps the port for one destination it most likely does for all: the
 * word of a second relay is good to have, but not worth the second that one lost packet costs.
 */
export async function observeAll (components: ObserveComponents, relays: readonly string[], localPort: number, signal: AbortSignal): Promise<Array<PromiseSettledResult<Seen>>> {
  const enough = new AbortController()
  const either = AbortSignal.any([signal, enough.signal])
  const finish = (): void => { enough.abort(new CarrierError('ERR_CANCELLED', 'another relay said where this node is seen')) }
  let timer: Timer | undefined
  try {
    return await Promise.allSettled(relays.map(async (relay) => {
      const seen = await observe(components, relay, localPort, either)
      if (seen.address.port === localPort) timer ??= components.clock.setTimer(finish, LIMITS.punchObserveGraceMs)
      return seen
    }))
  } finally {
    timer?.cancel()
  }
}

/** Asks one relay; the socket stays open, so that the router in between keeps its mapping. */
async function observe ({ clock, askObserve, mayBeLocal }: ObserveComponents, relay: string, localPort: number, parent: AbortSignal): Promise<Seen> {
  using deadline = startDeadline(clock, LIMITS.punchObserveMs, 'the relay did not say where it sees this node', parent)
  const { host, port, ticket } = await abortable(askObserve(relay, deadline.signal), deadline.signal)
  const socket = connect({ host, port, localPort, noDelay: true })
  // for good: a reset at any moment must not end the process
  socket.on('error', () => {})
  try {
    const address = await readAddress(socket, ticket, deadline.signal)
    if (!isUnicastHost(address.host) || (isLocalHost(address.host) && !mayBeLocal)) throw new CarrierError('ERR_PROTOCOL', 'the relay says that it sees this node at an address that nobody can reach')
    // nothing more is expected
    socket.on('data', () => { socket.destroy() })
    return { address, socket }
  } catch (err) {
    socket.destroy()
    throw err
  }
}

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
