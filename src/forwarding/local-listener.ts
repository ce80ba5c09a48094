/** The local socket of a forward: binds, hands out connections that keep half-close, says clearly why it cannot. */
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { CarrierError, errorMessage, formatHostPort, LIMITS } from '../base/index.ts'
import { isLoopback } from './host-port.ts'
import type { HostPort } from './host-port.ts'

/** What the owner of a listener is told. */
export interface LocalListenerInit {
  onConnection: (socket: Socket) => void
  /** The listener broke after it was bound; bind it again. */
  onFailure: (err: CarrierError) => void
}

/** A listener that can be bound again after it failed. */
export interface LocalListener {
  /**
   * Binds; gives the address with the real port.
   *
   * @throws CarrierError ERR_PORT_IN_USE, ERR_INVALID_ARGUMENT (no such address here, no permission)
   */
  bind: (address: HostPort) => Promise<HostPort>
  /** Where it listens now. */
  address: () => HostPort | undefined
  /** Stops listening at once; connections that were handed out are not touched. Idempotent. */
  close: () => void
}

/** Creates an unbound listener. */
export function createLocalListener (init: LocalListenerInit): LocalListener {
  let server: Server | undefined
  let bound: HostPort | undefined

  function close (): void {
    server?.close()
    server = undefined
    bound = undefined
  }

  return {
    bind: async (address) => {
      close()
      // programs of this machine need no probes: the kernel tells when they go
      const candidate = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: !isLoopback(address.host), keepAliveInitialDelay: LIMITS.socketKeepAliveMs })
      server = candidate
      candidate.on('connection', init.onConnection)
      await new Promise<void>((resolve, reject) => {
        candidate.once('error', (err) => { reject(explain(err, address)) })
        candidate.listen({ host: address.host, port: address.port, exclusive: true }, resolve)
      }).catch((err: unknown) => {
        if (server === candidate) close()
        throw err
      })
      if (server !== candidate) {
        candidate.close()
        throw new CarrierError('ERR_CLOSED', 'the forward was closed while it was being bound')
      }
      candidate.removeAllListeners('error')
      candidate.on('error', (err) => {
        if (server !== candidate) return
        close()
        init.onFailure(explain(err, address))
      })
      const found = candidate.address()
      bound = { host: address.host, port: typeof found === 'object' && found !== null ? found.port : address.port }
      return bound
    },
    address: () => bound,
    close
  }
}

function explain (err: Error & { code?: string }, address: HostPort): CarrierError {
  const where = formatHostPort(address)
  switch (err.code) {
    case 'EADDRINUSE':
      return portInUse(address, 'another program')
    case 'EACCES':
      return new CarrierError('ERR_INVALID_ARGUMENT', `this process may not listen on ${where}; choose a port above 1023`, { cause: err })
    case 'EADDRNOTAVAIL':
      return new CarrierError('ERR_INVALID_ARGUMENT', `${address.host} is no address of this machine; use 127.0.0.1, or one of its own`, { cause: err })
    default:
      return new CarrierError('ERR_INTERNAL', `cannot listen on ${where}: ${errorMessage(err)}`, { cause: err })
  }
}

/** The error for a port that is taken; names it and what to do. */
export function portInUse (address: HostPort, by: string): CarrierError {
  return new CarrierError('ERR_PORT_IN_USE',
    `port ${address.port} on ${address.host} is used by ${by}; choose another port (0 picks a free one), or see "carrier forward list"`,
    { detail: { port: address.port, host: address.host } })
}
