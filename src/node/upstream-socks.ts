/** Asks a SOCKS5 proxy for a connection: RFC 1928, user name and password by RFC 1929. Names are resolved by the proxy. */
import { isIP } from 'node:net'
import type { Socket } from 'node:net'
import { CarrierError, formatHostPort } from '../base/index.ts'
import type { Endpoint, ProxyCredentials } from './upstream-proxy.ts'
import { createAnswerReader } from './upstream-reader.ts'
import type { AnswerReader } from './upstream-reader.ts'

const VERSION = 5
const NO_AUTHENTICATION = 0
const USER_AND_PASSWORD = 2
const CONNECT = 1
const [IPV4, NAME, IPV6] = [1, 3, 4]

/** What the proxy may answer to the request, in words. */
const REPLIES: Readonly<Record<number, string>> = {
  1: 'it failed to connect to',
  2: 'it does not allow connections to',
  3: 'it has no network to reach',
  4: 'it cannot reach',
  5: 'the connection was refused by',
  6: 'it got no answer from',
  7: 'it makes no connections, so not to',
  8: 'it does not know the kind of address of'
}

/**
 * Asks for a connection to `target`; afterwards the socket is that connection. The caller bounds the time by destroying the socket.
 *
 * @throws CarrierError ERR_PROXY with a clause that continues "the proxy … : "
 */
export async function connectThroughSocks (socket: Socket, target: Endpoint, credentials: ProxyCredentials | undefined): Promise<void> {
  const address = encodeAddress(target.host)
  const reader = createAnswerReader(socket)
  try {
    const methods = credentials === undefined ? [NO_AUTHENTICATION] : [NO_AUTHENTICATION, USER_AND_PASSWORD]
    socket.write(Buffer.from([VERSION, methods.length, ...methods]))
    const [version, method] = await reader.exactly(2)
    if (version !== VERSION) throw new CarrierError('ERR_PROXY', 'what answers there is no SOCKS5 proxy; check host, port and scheme')
    if (method === USER_AND_PASSWORD && credentials !== undefined) await authenticate(socket, reader, credentials)
    else if (method !== NO_AUTHENTICATION) throw new CarrierError('ERR_PROXY', credentials === undefined ? 'it wants a user name and password; put USER:PASSWORD into a file and name it as proxy_credentials_file in [network] of carrier.toml' : 'it accepts no user name and password')
    socket.write(Buffer.concat([Buffer.from([VERSION, CONNECT, 0]), address, Buffer.from([target.port >> 8, target.port & 0xff])]))
    const [replyVersion, reply = 0, , kind] = await reader.exactly(4)
    if (replyVersion !== VERSION) throw notSocks()
    if (reply !== 0) throw new CarrierError('ERR_PROXY', `${REPLIES[reply] ?? 'it refuses the connection to'} ${formatHostPort(target)} (SOCKS reply ${reply})`, { detail: { reply } })
    // where the proxy's own end is: of no use, but it has to be read
    if (kind === IPV4) await reader.exactly(4 + 2)
    else if (kind === IPV6) await reader.exactly(16 + 2)
    else if (kind === NAME) await reader.exactly(((await reader.exactly(1))[0] ?? 0) + 2)
    else throw notSocks()
  } finally {
    reader.release()
  }
}

async function authenticate (socket: Socket, reader: AnswerReader, { user, password }: ProxyCredentials): Promise<void> {
  const [userBytes, passwordBytes] = [Buffer.from(user), Buffer.from(password)]
  socket.write(Buffer.concat([Buffer.from([1, userBytes.length]), userBytes, Buffer.from([passwordBytes.length]), passwordBytes]))
  const [, status] = await reader.exactly(2)
  if (status !== 0) throw new CarrierError('ERR_PROXY', 'it does not accept the user name and password')
}

/** Kind and bytes of an address, as the request carries them. */
function encodeAddress (host: string): Buffer {
  const family = isIP(host)
  if (family === 4) return Buffer.from([IPV4, ...host.split('.').map(Number)])
  if (family === 6) return Buffer.from([IPV6, ...ipv6Bytes(host)])
  const name = Buffer.from(host)
  if (name.length > 255) throw new CarrierError('ERR_PROXY', 'the name of the relay is longer than 255 bytes')
  return Buffer.concat([Buffer.from([NAME, name.length]), name])
}

function ipv6Bytes (host: string): number[] {
  // in the canonical form there are groups only, no dotted tail
  const [head = '', tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::')
  const groups = (text: string): number[] => text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const [left, right] = [groups(head), groups(tail ?? '')]
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right]
  return all.flatMap((group) => [group >> 8, group & 0xff])
}

function notSocks (): CarrierError {
  return new CarrierError('ERR_PROXY', 'its answer is no SOCKS5')
}
