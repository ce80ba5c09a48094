/** Links over raw connections: TLS 1.3 from end to end, on splices and direct TCP. PROTOCOL.md "TLS links". */
import { CarrierError, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Link } from './link.ts'
import { startTls } from './tls-handshake.ts'
import type { TlsLinkInit } from './tls-link-init.ts'
import { createTlsPipe } from './tls-pipe.ts'

/**
 * Makes a link of a connected socket. Resolves when the other end has proven the key of `device`; before that no byte of it is
 * looked at and none is sent. The link of the controller must wait with its first bytes for those of the other end, whose proof
 * it alone has seen by then. When it fails the socket is destroyed.
 *
 * @throws CarrierError ERR_PROTOCOL (no such TLS, or a wrong certificate), ERR_TIMEOUT, ERR_LINK_LOST, ERR_CANCELLED or the CarrierError that `signal` gives as its reason
 */
export async function openTlsLink (components: { clock: Clock }, init: TlsLinkInit): Promise<Link> {
  const { clock } = components
  const { socket, signal, kind, path, relayPeerId } = init
  // an error after the end of the socket is of no interest, but without a listener it would end the process
  socket.on('error', ignoreError)
  using deadline = startDeadline(clock, LIMITS.linkTlsTimeoutMs, 'the TLS handshake with the peer took too long', signal)
  return await new Promise<Link>((resolve, reject) => {
    let giveUp = (): void => { socket.destroy() }
    const stop = (): void => {
      giveUp()
      reject(toCarrierError(deadline.signal.reason, 'ERR_CANCELLED'))
    }
    const settled = (): void => { deadline.signal.removeEventListener('abort', stop) }
    if (deadline.signal.aborted) { stop(); return }
    if (socket.destroyed || socket.pending) {
      giveUp()
      reject(new CarrierError('ERR_LINK_LOST', 'the connection to the peer ended before TLS began'))
      return
    }
    deadline.signal.addEventListener('abort', stop, { once: true })
    socket.setNoDelay(true)
    socket.setKeepAlive(true, KEEP_ALIVE_MS)
    giveUp = startTls({ clock }, init, {
      onSecure: (tls) => {
        settled()
        resolve(createTlsPipe({ clock }, { tls, socket, kind, path, relayPeerId }))
      },
      onFailed: (err) => {
        settled()
        reject(err)
      }
    })
  })
}

/** Pings of the session find a dead link sooner; this is for connections that are forgotten by what is in between. */
const KEEP_ALIVE_MS = 30_000

function ignoreError (): void {
  // what matters of it arrives at the TLS socket
}
