/** Opens the sockets to relays: directly, or through the proxy; in the clear, or in TLS. */
import { connect, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls, createSecureContext, getCACertificates } from 'node:tls'
import type { SecureContext } from 'node:tls'
import { CarrierError, errorMessage, formatHostPort, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { connectThroughHttp } from './upstream-http.ts'
import { describeProxy, usesProxy } from './upstream-proxy.ts'
import type { Endpoint, UpstreamProxy } from './upstream-proxy.ts'
import { connectThroughSocks } from './upstream-socks.ts'

/** How the outside is reached. */
export interface UpstreamInit {
  /** Absent: everything is dialled directly. */
  proxy?: UpstreamProxy
  /** Certificates (PEM) that are trusted besides those of Node and of the system, for wss and https proxies. Whoever the relay is, Noise proves inside. */
  extraCertificates?: string
}

/** A place to connect to. */
export interface UpstreamTarget extends Endpoint {
  /** Only addresses of this family, when the host is a name that goes past the proxy. */
  family?: 4 | 6
}

/** Opens sockets. */
export interface Upstream {
  /**
   * A connected socket, through the proxy where one is to be used. The caller owns it; the signal acts until then.
   *
   * @throws CarrierError ERR_PROXY; the socket's error where no proxy is used; the signal's reason
   */
  open: (target: UpstreamTarget, signal: AbortSignal) => Promise<Socket>
  /** TLS inside a socket, which it takes over. `host` is what the certificate must be for. @throws CarrierError ERR_CERTIFICATE, or as `open` */
  secure: (socket: Socket, host: string, signal: AbortSignal) => Promise<Socket>
  /** True where a dial goes through the proxy. */
  isProxied: (target: Endpoint) => boolean
  /** False where only the proxy may connect: nothing may be tried at this IP address without it. */
  mayDialDirectly: (host: string, port?: number) => boolean
}

/** Creates the opener. @throws CarrierError ERR_CONFIG when the extra certificates cannot be read */
export function createUpstream (clock: Clock, init: UpstreamInit): Upstream {
  const { proxy } = init
  let context: SecureContext | undefined

  /** Made on first use: it reads some hundred certificates. */
  function trust (): SecureContext {
    context ??= createSecureContext({ ca: [...new Set([...getCACertificates('default'), ...systemCertificates()]), ...(init.extraCertificates === undefined ? [] : [init.extraCertificates])] })
    return context
  }

  async function secure (socket: Socket, host: string, signal: AbortSignal): Promise<Socket> {
    try {
      return await settle(signal, () => {
        // the name of an address is not sent (RFC 6066), but the certificate must be for it
        const secured = connectTls({ socket, host, ...(isIP(host) === 0 ? { servername: host } : {}), secureContext: trust(), ALPNProtocols: ['http/1.1'] })
        return { socket: secured, readyEvent: 'secureConnect' }
      })
    } catch (err) {
      socket.destroy()
      throw explainTls(err, host)
    }
  }

  async function openThroughProxy (by: UpstreamProxy, target: Endpoint, parent: AbortSignal): Promise<Socket> {
    using deadline = startDeadline(clock, LIMITS.proxyHandshakeMs, 'it does not answer; check its address and the network', parent)
    const { signal } = deadline
    let socket: Socket | undefined
    try {
      socket = await openDirectly(by, signal)
      if (by.kind === 'https') socket = await secure(socket, by.host, signal)
      const asked = socket
      const onAbort = (): void => { asked.destroy() }
      signal.addEventListener('abort', onAbort, { once: true })
      try {
        await (by.kind === 'socks5' ? connectThroughSocks : connectThroughHttp)(asked, target, by.credentials)
      } finally {
        signal.removeEventListener('abort', onAbort)
      }
      signal.throwIfAborted()
      return asked
    } catch (err) {
      socket?.destroy()
      parent.throwIfAborted()
      const reason: unknown = signal.aborted ? signal.reason : err
      throw new CarrierError('ERR_PROXY', `the proxy ${describeProxy(by)}: ${reason instanceof CarrierError ? reason.message : `it cannot be reached: ${errorMessage(reason)}`}`, { cause: err, ...(err instanceof CarrierError && err.detail !== undefined ? { detail: err.detail } : {}) })
    }
  }

  if (init.extraCertificates !== undefined) checkCertificates(init.extraCertificates)
  return {
    open: async (target, signal) => usesProxy(proxy, target) ? openThroughProxy(proxy, target, signal) : openDirectly(target, signal),
    secure,
    isProxied: (target) => usesProxy(proxy, target),
    mayDialDirectly: (host, port = 0) => !usesProxy(proxy, { host, port })
  }
}

/** Names are resolved to both families, which race (RFC 8305). */
async function openDirectly (target: UpstreamTarget, signal: AbortSignal): Promise<Socket> {
  return settle(signal, () => ({
    socket: connect({
      host: target.host,
      port: target.port,
      family: target.family ?? 0,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: LIMITS.dialStaggerMs,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: LIMITS.socketKeepAliveMs
    }),
    readyEvent: 'connect'
  }))
}

/** Gives the socket when it is ready; destroyed at once by the signal. */
async function settle (signal: AbortSignal, begin: () => { socket: Socket, readyEvent: 'connect' | 'secureConnect' }): Promise<Socket> {
  signal.throwIfAborted()
  const { socket, readyEvent } = begin()
  return new Promise<Socket>((resolve, reject) => {
    // for good: a reset between two owners must not end the process
    socket.on('error', () => {})
    function stop (): void {
      signal.removeEventListener('abort', onAbort)
      socket.removeListener(readyEvent, onReady)
      socket.removeListener('error', onFailure)
      socket.removeListener('close', onClose)
    }
    function onReady (): void {
      stop()
      resolve(socket)
    }
    function onFailure (err: Error): void {
      stop()
      socket.destroy()
      reject(err)
    }
    function onClose (): void { onFailure(new CarrierError('ERR_LINK_LOST', 'the connection closed while it was set up')) }
    function onAbort (): void { onFailure(signal.reason as Error) }
    socket.on(readyEvent, onReady)
    socket.on('error', onFailure)
    socket.on('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** Certificates of the operating system: companies put their own there. None where Node cannot read them. */
function systemCertificates (): string[] {
  try {
    return getCACertificates('system')
  } catch {
    // a system without a store is no reason not to use the others
    return []
  }
}

function checkCertificates (pem: string): void {
  try {
    if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new CarrierError('ERR_CONFIG', 'there is no certificate in it')
    createSecureContext({ ca: pem })
  } catch (err) {
    throw new CarrierError('ERR_CONFIG', `the extra certificates (ca_file) cannot be read as PEM: ${errorMessage(err)}`, { cause: err })
  }
}

const CERTIFICATE_ERRORS = /^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|ERR_TLS_CERT_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|ERROR_IN_CERT_)/

/** Says what to do about a certificate; other errors stay as they are. */
function explainTls (err: unknown, host: string): unknown {
  const code = err instanceof Error && 'code' in err ? String(err.code) : ''
  if (!CERTIFICATE_ERRORS.test(code)) return err
  const what = code === 'ERR_TLS_CERT_ALTNAME_INVALID'
    ? 'is for another name; use the name that stands in it'
    : code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID'
      ? 'is not valid at this time; check the clock, or ask the operator to renew it'
      : 'is signed by nobody whom this machine trusts; if it is a private authority, name its certificate as ca_file in [network] of carrier.toml'
  return new CarrierError('ERR_CERTIFICATE', `the TLS certificate of ${describeHost(host)} ${what} (${code})`, { cause: err })
}

function describeHost (host: string): string {
  return formatHostPort({ host, port: 0 }).replace(/:0$/, '')
}
