/**
 * Dials relays over WebSockets. The global WebSocket, which the stock transport dials with, takes neither a private
 * certificate authority nor a proxy, stops nothing at an abort, and cannot be made to wait when its reader does.
 */
import type { Socket } from 'node:net'
import { transportSymbol } from '@libp2p/interface'
import type { ComponentLogger, Connection, DialTransportOptions, Transport } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { WebSocket } from 'ws'
import { CarrierError, errorMessage, formatHostPort, LIMITS } from '../base/index.ts'
import type { Upstream, UpstreamTarget } from './upstream.ts'
import { upgradeOrAbort } from './upstream-connection.ts'
import { tcpTarget } from './upstream-tcp.ts'
import { WebSocketConnection } from './web-socket-connection.ts'

/** What an address says about a WebSocket. */
export interface WebSocketTarget extends UpstreamTarget {
  isTls: boolean
  /** The name that the server is called by: that of /sni, else the host. */
  name: string
  path: string
}

/** Transport factory for `transports` of libp2p: /ws, /wss, /tls/ws and /tls/sni/NAME/ws. It does not listen. */
export function webSocketDialer (upstream: Pick<Upstream, 'open' | 'secure'>): (components: { logger: ComponentLogger }) => Transport {
  return (components) => {
    const log = components.logger.forComponent('carrier:web-socket')

    async function dial (address: Multiaddr, options: DialTransportOptions): Promise<Connection> {
      const target = webSocketTarget(address)
      if (target === undefined) throw new CarrierError('ERR_INTERNAL', 'this address is not for WebSockets')
      const { signal } = options
      const socket = await upstream.open(target, signal)
      const below = target.isTls ? await upstream.secure(socket, target.name, signal) : socket
      const connection = await upgrade(below, target, signal, (webSocket) => new WebSocketConnection({ webSocket, remoteAddr: address, log }))
      return upgradeOrAbort(connection, options)
    }

    return {
      [Symbol.toStringTag]: 'carrier/web-socket',
      [transportSymbol]: true,
      dial,
      createListener: () => { throw new CarrierError('ERR_INTERNAL', 'nodes do not listen on WebSockets') },
      listenFilter: () => [],
      dialFilter: (addresses) => addresses.filter((address) => webSocketTarget(address) !== undefined)
    }
  }
}

/** Where a WebSocket address leads; undefined for any other address. Pure. */
export function webSocketTarget (address: Multiaddr): WebSocketTarget | undefined {
  const target = tcpTarget(address)
  if (target === undefined) return undefined
  const rest = address.getComponents().slice(2)
  const names = rest.map((part) => part.name).join('/')
  const match = /^(tls\/ws|tls\/sni\/ws|wss|ws)(\/http-path)?(\/p2p)?$/.exec(names)
  if (match === null) return undefined
  const valueOf = (name: string): string | undefined => rest.find((part) => part.name === name)?.value
  const path = valueOf('http-path')
  return { ...target, isTls: match[1] !== 'ws', name: valueOf('sni') ?? target.host, path: path === undefined ? '/' : `/${decodeURIComponent(path).replace(/^\/+/, '')}` }
}

/** Speaks HTTP until it is a WebSocket. The socket is destroyed unless that works. */
async function upgrade (socket: Socket, target: WebSocketTarget, signal: AbortSignal, own: (webSocket: WebSocket) => WebSocketConnection): Promise<WebSocketConnection> {
  const webSocket = new WebSocket(`${target.isTls ? 'wss' : 'ws'}://${formatHostPort({ host: target.name, port: target.port })}${target.path}`, {
    createConnection: () => socket,
    // what runs inside is encrypted: it cannot be made smaller
    perMessageDeflate: false,
    maxPayload: LIMITS.webSocketReadBytes
  })
  return new Promise((resolve, reject) => {
    const fail = (err: Error): void => {
      stop()
      webSocket.terminate()
      socket.destroy()
      reject(err)
    }
    const onAbort = (): void => { fail(signal.reason as Error) }
    const onError = (err: Error): void => { fail(new CarrierError('ERR_PROTOCOL', `${formatHostPort(target)} answers, but not as a WebSocket: ${errorMessage(err)}`, { cause: err })) }
    const onOpen = (): void => {
      stop()
      resolve(own(webSocket))
    }
    function stop (): void {
      signal.removeEventListener('abort', onAbort)
      webSocket.removeListener('error', onError)
      webSocket.removeListener('open', onOpen)
    }
    webSocket.on('error', () => {
      // for good: terminate() reports here too
    })
    webSocket.on('error', onError)
    webSocket.on('open', onOpen)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}
