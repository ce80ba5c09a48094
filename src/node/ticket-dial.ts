/** The side that connects to a ticket port: preface and ticket first, then the socket is its caller's. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { CarrierError, LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'

/** Where to connect and what to say. */
export interface TicketDialInit { host: string, port: number, preface: Buffer, ticket: Uint8Array }

/**
 * Connects and says preface and ticket. The port answers nothing, so a wrong ticket shows later, as an end.
 * The socket is paused, with half-open ends allowed; the caller owns it from here on and listens to it before the next turn.
 *
 * @throws CarrierError ERR_PEER_OFFLINE when nothing takes the connection, ERR_TIMEOUT, or the signal's reason
 */
export async function dialTicketPort (clock: Clock, init: TicketDialInit, signal?: AbortSignal): Promise<Socket> {
  using deadline = startDeadline(clock, LIMITS.targetConnectTimeoutMs, 'the port did not take the connection in time: a firewall may drop it', signal)
  deadline.signal.throwIfAborted()
  return await new Promise<Socket>((resolve, reject) => {
    const socket = connect({ host: init.host, port: init.port, noDelay: true, keepAlive: true, keepAliveInitialDelay: LIMITS.socketKeepAliveMs, allowHalfOpen: true })
    socket.pause()
    // for good: a reset at any moment, also before its caller listens, must not end the process
    socket.on('error', () => {})

    function stop (): void {
      deadline.signal.removeEventListener('abort', onAbort)
      socket.removeListener('connect', onConnect)
      socket.removeListener('error', onError)
    }
    function onConnect (): void {
      stop()
      socket.write(Buffer.concat([init.preface, init.ticket]))
      resolve(socket)
    }
    function onError (err: Error): void {
      stop()
      reject(new CarrierError('ERR_PEER_OFFLINE', `the port does not take connections: ${errorMessage(err)}`, { cause: err }))
    }
    function onAbort (): void {
      stop()
      socket.destroy()
      reject(deadline.signal.reason as Error)
    }
    socket.on('connect', onConnect)
    socket.on('error', onError)
    deadline.signal.addEventListener('abort', onAbort, { once: true })
  })
}
