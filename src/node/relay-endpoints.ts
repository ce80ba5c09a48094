/**
 * At which IP address each listed relay was really reached: a splice goes there and nowhere else (I10).
 * An address that is a name says nothing about it, so the socket below is asked after the relay's key was proven on it.
 */
import { isIP } from 'node:net'
import type { ConnectionEncrypter, MultiaddrConnection, PeerId } from '@libp2p/interface'
import type { PeerDirectory } from './peer-directory.ts'
import type { SecureChannel } from './secure-channel.ts'

/** The addresses. */
export interface RelayEndpoints {
  /** Wraps an encrypter: notes the address of every connection that we made to a relay, after its handshake. */
  observe: (encrypter: SecureChannel['encrypter']) => SecureChannel['encrypter']
  /** IP address of the newest connection to the relay; undefined when it cannot be known (WebSocket over a name). */
  ipOf: (relayPeerId: string) => string | undefined
  /** A relay that is not listed is not used any more. */
  forget: (relayPeerId: string) => void
}

/** Creates an empty table; it holds relays only. `mayDialDirectly` is false for addresses that only a proxy may connect to: they are unknown here. */
export function createRelayEndpoints (peers: Pick<PeerDirectory, 'isRelay'>, mayDialDirectly: (host: string) => boolean = () => true): RelayEndpoints {
  const ips = new Map<string, string | undefined>()

  function note (peer: PeerId, below: object): void {
    if (peers.isRelay(peer)) ips.set(peer.toString(), remoteIpOf(below))
  }

  return {
    ipOf: (relayPeerId) => {
      const ip = ips.get(relayPeerId)
      return ip !== undefined && mayDialDirectly(ip) ? ip : undefined
    },
    forget: (relayPeerId) => { ips.delete(relayPeerId) },
    observe: (create) => (components) => {
      const inner: ConnectionEncrypter = create(components)
      return {
        protocol: inner.protocol,
        secureInbound: inner.secureInbound.bind(inner),
        secureOutbound: async (connection, options) => {
          const secured = await inner.secureOutbound(connection, options)
          note(secured.remotePeer, connection)
          return secured
        }
      }
    }
  }
}

/** The remote IP address of what Noise ran on. */
function remoteIpOf (below: Partial<MultiaddrConnection> & { socket?: unknown }): string | undefined {
  const components = below.remoteAddr?.getComponents() ?? []
  if (components.some((part) => part.name === 'p2p-circuit')) return undefined
  const [first] = components
  if ((first?.name === 'ip4' || first?.name === 'ip6') && first.value !== undefined) return first.value
  // libp2p's TCP connection keeps its socket in a member of this name; where it does not, there is no splice over this relay
  const socket = below.socket
  if (typeof socket !== 'object' || socket === null || !('remoteAddress' in socket)) return undefined
  const { remoteAddress } = socket
  return typeof remoteAddress === 'string' && isIP(remoteAddress) !== 0 ? remoteAddress : undefined
}
