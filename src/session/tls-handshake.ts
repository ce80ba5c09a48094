/** The TLS handshake of a link and the proof of who is at its other end. */
import { constants } from 'node:crypto'
import type { Socket } from 'node:net'
import { connect, createServer } from 'node:tls'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import { CarrierError, LIMITS, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { verifyLinkCertificate } from '../identity/index.ts'
import type { Did, LinkCertificate } from '../identity/index.ts'
import type { TlsLinkInit } from './tls-link-init.ts'
import { cipherOrder } from './tls-ciphers.ts'

/** The only application protocol; another version of links gets another name. */
export const LINK_ALPN = 'carrier-link/1'

/** At most one of the two is called, once; none after the attempt was given up. */
export interface TlsVerdict { onSecure: (tls: TLSSocket) => void, onFailed: (err: CarrierError) => void }

/** Starts TLS on a connected socket and judges the other end. When it fails the socket is destroyed; the result gives up earlier. */
export function startTls (components: { clock: Clock }, init: Pick<TlsLinkInit, 'socket' | 'isController' | 'certificate' | 'device'>, verdict: TlsVerdict): () => void {
  const { clock } = components
  const { socket, isController, certificate, device } = init
  const options = tlsOptions(clock, certificate)
  let tls: TLSSocket | undefined
  let isDecided = false

  function giveUp (): void {
    isDecided = true
    socket.off('close', onClose)
    destroyTls(tls, socket)
  }

  function fail (err: unknown): void {
    if (isDecided) return
    giveUp()
    verdict.onFailed(handshakeError(err))
  }

  function onClose (): void {
    fail(new CarrierError('ERR_LINK_LOST', 'the connection to the peer was lost while TLS was set up'))
  }

  function judge (secured: TLSSocket): void {
    if (isDecided) return
    try {
      assertProven(secured, device, clock.now())
    } catch (err) {
      fail(err)
      return
    }
    isDecided = true
    socket.off('close', onClose)
    verdict.onSecure(secured)
  }

  function watch (found: TLSSocket): void {
    tls = found
    tls.on('error', fail)
  }

  socket.once('close', onClose)
  if (isController) {
    const client = connect({ ...options, socket, ALPNProtocols: [LINK_ALPN], rejectUnauthorized: false, checkServerIdentity: () => undefined })
    watch(client)
    client.once('secureConnect', () => { judge(client) })
    return giveUp
  }
  // a server that never listens: handing it a connection is the documented way to be a TLS server on a socket
  const server = createServer({ ...options, ALPNProtocols: [LINK_ALPN], requestCert: true, rejectUnauthorized: false, handshakeTimeout: 2 * LIMITS.linkTlsTimeoutMs })
  server.on('tlsClientError', (err, failed) => {
    watch(failed)
    fail(err)
  })
  server.on('secureConnection', (secured) => {
    watch(secured)
    judge(secured)
  })
  server.emit('connection', socket)
  return giveUp
}

/**
 * The only way to end a socket that carries TLS. node:tls frees OpenSSL's state at once when the raw socket was destroyed before the
 * TLS socket, and the events of a handshake, with all promises that go on from them, run on OpenSSL's stack: a peer with
 * a wrong certificate would end the process. So TLS goes first; once the raw socket is destroyed node:tls follows by itself.
 */
export function destroyTls (tls: TLSSocket | undefined, socket: Socket): void {
  if (socket.destroyed) return
  if (tls === undefined) socket.destroy()
  else tls.destroy()
}

/** What was agreed on besides keys. */
export interface TlsAgreement { protocol: string | null, alpn: string | false | null, isSessionReused: boolean }

/** Refuses everything but a full TLS 1.3 handshake for links. Pure. @throws CarrierError ERR_PROTOCOL */
export function assertAgreement ({ protocol, alpn, isSessionReused }: TlsAgreement): void {
  if (protocol !== 'TLSv1.3') throw new CarrierError('ERR_PROTOCOL', `the peer speaks ${protocol ?? 'no TLS'} instead of TLSv1.3`)
  if (alpn !== LINK_ALPN) throw new CarrierError('ERR_PROTOCOL', `the peer did not agree to ${LINK_ALPN}`)
  if (isSessionReused) throw new CarrierError('ERR_PROTOCOL', 'the peer resumed an earlier TLS session; links never do')
}

function assertProven (tls: TLSSocket, device: Did, nowMs: number): void {
  assertAgreement({ protocol: tls.getProtocol(), alpn: tls.alpnProtocol, isSessionReused: tls.isSessionReused() })
  const certificate = tls.getPeerX509Certificate()
  if (certificate === undefined) throw new CarrierError('ERR_PROTOCOL', 'the peer showed no certificate')
  verifyLinkCertificate(certificate.raw, device, nowMs)
}

function tlsOptions (clock: Clock, certificate: LinkCertificate): SecureContextOptions {
  return {
    key: certificate.keyPem,
    cert: certificate.certificatePem,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: cipherOrder(clock),
    // the server's order, but ChaCha20 where the client prefers it: the end whose AES is slow decides
    honorCipherOrder: true,
    // no tickets that could be resumed: what would be sent instead names a session that nobody keeps
    secureOptions: constants.SSL_OP_PRIORITIZE_CHACHA | constants.SSL_OP_NO_TICKET,
    // certificates of links have no other kind of key
    sigalgs: 'ecdsa_secp256r1_sha256'
  }
}

/** A short sentence for what OpenSSL or the kernel said; their own texts name files of the build. */
function handshakeError (err: unknown): CarrierError {
  if (err instanceof CarrierError) return err
  const code = errorCodeText(err)
  if (code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')) return new CarrierError('ERR_PROTOCOL', `the TLS handshake with the peer failed: ${code}`, { cause: err })
  return toCarrierError(err, 'ERR_LINK_LOST', `the connection to the peer was lost while TLS was set up: ${code}`)
}

/** The code of an error of Node, or an empty text. */
export function errorCodeText (err: unknown): string {
  return typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string' ? err.code : ''
}
