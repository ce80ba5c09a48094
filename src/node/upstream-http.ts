/** Asks an HTTP proxy for a tunnel: CONNECT, RFC 9110 section 9.3.6. */
import type { Socket } from 'node:net'
import { CarrierError, formatHostPort, LIMITS } from '../base/index.ts'
import type { Endpoint, ProxyCredentials } from './upstream-proxy.ts'
import { createAnswerReader } from './upstream-reader.ts'

const START = 'HTTP/1.'

/**
 * Asks for a tunnel to `target`; afterwards the socket is the tunnel. The caller bounds the time by destroying the socket.
 *
 * @throws CarrierError ERR_PROXY with a clause that continues "the proxy … : "
 */
export async function connectThroughHttp (socket: Socket, target: Endpoint, credentials: ProxyCredentials | undefined): Promise<void> {
  const name = formatHostPort(target)
  const authorization = credentials === undefined ? '' : `Proxy-Authorization: Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}\r\n`
  const reader = createAnswerReader(socket)
  try {
    socket.write(`CONNECT ${name} HTTP/1.1\r\nHost: ${name}\r\n${authorization}\r\n`)
    const head = await reader.until(endOfHead, LIMITS.proxyAnswerBytes)
    const status = /^HTTP\/1\.[01] (\d{3})(?:[ \r\n])/.exec(head.toString('latin1'))?.[1]
    if (status === undefined) throw notHttp()
    if (!status.startsWith('2')) throw new CarrierError('ERR_PROXY', explain(status, name, credentials !== undefined), { detail: { status: Number(status) } })
  } finally {
    reader.release()
  }
}

/** How many bytes the head of the answer has, once all of it is there. @throws when it cannot become HTTP */
function endOfHead (bytes: Buffer): number | undefined {
  const text = bytes.toString('latin1')
  if (!text.startsWith(START.slice(0, text.length))) throw notHttp()
  const end = /\r?\n\r?\n/.exec(text)
  return end === null ? undefined : end.index + end[0].length
}

function notHttp (): CarrierError {
  return new CarrierError('ERR_PROXY', 'what answers there is no HTTP proxy; check host, port and scheme')
}

function explain (status: string, target: string, hasCredentials: boolean): string {
  if (status === '407') return hasCredentials ? 'it does not accept the user name and password (407)' : 'it wants a user name and password (407); put USER:PASSWORD into a file and name it as proxy_credentials_file in [network] of carrier.toml'
  if (status === '403') return `it does not allow connections to ${target} (403); ask its operator, or use a relay on port 443`
  if (status === '405' || status === '501') return `it makes no tunnels (${status}); it may be a web server`
  if (['502', '503', '504'].includes(status)) return `it cannot reach ${target} (${status})`
  return `it refuses the connection to ${target} (${status})`
}
