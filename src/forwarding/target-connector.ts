/** Connects to a service's target: TCP or Unix socket, with a deadline, ready to be joined with a channel. */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { CarrierError, errorCode, errorMessage, LIMITS } from '../base/index.ts'
import { isLoopback } from './host-port.ts'
import { formatTarget } from './service-target.ts'
import type { ServiceTarget } from './types.ts'

/**
 * Opens a connection to `target`. The caller owns the socket; it stays paused until it is joined.
 *
 * @param signal carries the deadline; when it fires the attempt ends with its reason
 * @throws CarrierError ERR_TARGET_UNREACHABLE, or the reason of `signal` when that is not a timeout
 */
export async function connectTarget (target: ServiceTarget, signal: AbortSignal): Promise<Socket> {
  if (signal.aborted) throw reasonOf(signal, target)
  const socket = target.kind === 'unix'
    ? connect({ path: target.path, allowHalfOpen: true })
    : connect({ host: target.host, port: target.port, allowHalfOpen: true, noDelay: true, keepAlive: !isLoopback(target.host), keepAliveInitialDelay: LIMITS.socketKeepAliveMs })
  // whoever joins the socket hears of its failure; between two owners nobody needs to
  socket.on('error', () => {})
  await new Promise<void>((resolve, reject) => {
    const onConnect = (): void => { settle(resolve) }
    const onError = (err: Error): void => { settle(() => { reject(unreachable(target, err)) }) }
    const onAbort = (): void => {
      settle(() => { reject(reasonOf(signal, target)) })
      socket.destroy()
    }
    function settle (finish: () => void): void {
      socket.off('connect', onConnect)
      socket.off('error', onError)
      signal.removeEventListener('abort', onAbort)
      finish()
    }
    socket.once('connect', onConnect)
    socket.once('error', onError)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  return socket
}

/** A deadline that passed means that the target does not answer; any other reason stands for itself. */
function reasonOf (signal: AbortSignal, target: ServiceTarget): CarrierError {
  if (signal.reason instanceof CarrierError && errorCode(signal.reason) !== 'ERR_TIMEOUT') return signal.reason
  return unreachable(target, signal.reason)
}

function unreachable (target: ServiceTarget, cause: unknown): CarrierError {
  // an AggregateError (several addresses of one name) has no message of its own
  const reason = cause instanceof AggregateError ? cause.errors.map(errorMessage).join('; ') : errorMessage(cause)
  return new CarrierError('ERR_TARGET_UNREACHABLE', `the target ${formatTarget(target)} cannot be reached: ${reason}; start it, or give the service another target`, { cause })
}
