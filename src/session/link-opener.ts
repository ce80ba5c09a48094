/** Raw connections to links: TLS between the two ends, whoever connected and whatever is in between. */
import type { Socket } from 'node:net'
import type { Clock } from '../base/index.ts'
import { createLinkCertificate, publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity, LinkCertificate } from '../identity/index.ts'
import type { CarrierNode, Path } from '../node/index.ts'
import type { Link } from './link.ts'
import type { openTlsLink as OpenTlsLinkFunction } from './tls-link.ts'
import type { LinkKind } from './types.ts'

type OpenTlsLink = typeof OpenTlsLinkFunction

/** What links need of the node. */
export type LinkNode = Pick<CarrierNode, 'openSplice' | 'handleSplices' | 'canSplice' | 'issueLinkTicket' | 'dialLink' | 'handleLinkSockets' | 'canDialLink' | 'canPunch' | 'preparePunch' | 'isLeavingRelay' | 'canAvoidRelay'>

/** How a raw connection came about. */
export interface SocketWay { kind: Exclude<LinkKind, 'stream'>, path: Path, relayPeerId: string | undefined }

/** Opens links that are not streams. Each resolves with a link whose other end has proven the key of `device`. */
export interface LinkOpener {
  /** A link will be opened soon: loads the code and makes the certificate, while everybody waits for the network. */
  makeReady: () => void
  /** @throws CarrierError as CarrierNode.openSplice, and ERR_LINK_LOST or ERR_PROTOCOL when TLS fails */
  splice: (device: Did, relayPeerId: string, signal: AbortSignal) => Promise<Link>
  /** @throws CarrierError as CarrierNode.dialLink, and as above */
  direct: (device: Did, link: { port: number, ticket: Uint8Array }, signal: AbortSignal) => Promise<Link>
  /** Owns `socket` from now on. @throws CarrierError as above */
  secure: (socket: Socket, device: Did, way: SocketWay, signal: AbortSignal) => Promise<Link>
}

/** Creates the opener. The certificate is made with the first link, or shortly before it: a node that has none never pays for it. */
export function createLinkOpener (components: { node: Pick<LinkNode, 'openSplice' | 'dialLink'>, identity: Pick<Identity, 'publicKey' | 'sign'>, clock: Clock }): LinkOpener {
  const { node, identity, clock } = components
  let certificate: Promise<LinkCertificate> | undefined

  /** The TLS code and its certificate library load with the first link as well. */
  async function load (): Promise<{ openTlsLink: OpenTlsLink, certificate: LinkCertificate }> {
    const { openTlsLink } = await import('./tls-link.ts')
    certificate ??= createLinkCertificate(identity).catch((err: unknown) => {
      certificate = undefined
      throw err
    })
    return { openTlsLink, certificate: await certificate }
  }

  async function secure (socket: Socket, device: Did, way: SocketWay, signal: AbortSignal): Promise<Link> {
    // a reset while the code below loads must not end the process; openTlsLink sees that the socket is gone
    socket.on('error', () => {})
    try {
      const made = await load()
      const isController = Buffer.compare(identity.publicKey, publicKeyFromDid(device)) < 0
      return await made.openTlsLink({ clock }, { socket, isController, certificate: made.certificate, device, ...way, signal })
    } catch (err) {
      socket.destroy()
      throw err
    }
  }

  return {
    makeReady: () => { load().catch(() => { /* whoever needs it tries again and hears why not */ }) },
    secure,
    splice: async (device, relayPeerId, signal) => {
      const socket = await node.openSplice(device, relayPeerId, { signal })
      return secure(socket, device, { kind: 'splice', path: 'spliced', relayPeerId }, signal)
    },
    direct: async (device, link, signal) => {
      const { socket, path } = await node.dialLink(device, link, { signal })
      return secure(socket, device, { kind: 'direct', path, relayPeerId: undefined }, signal)
    }
  }
}
