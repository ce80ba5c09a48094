/** Noise, with a note of who was proven on each connection: the muxer above needs to know for whom it makes streams. */
import { noise } from '@chainsafe/libp2p-noise'
import type { ConnectionEncrypter, MessageStream, PeerId } from '@libp2p/interface'
import { createNoiseCrypto } from './noise-crypto.ts'

/** The encrypter for libp2p and the look-up for the muxer. */
export interface SecureChannel {
  /** For `connectionEncrypters`. */
  encrypter: (components: Parameters<ReturnType<typeof noise>>[0]) => ConnectionEncrypter
  /** The peer whose key was proven on an encrypted connection. */
  peerOf: (connection: MessageStream) => PeerId | undefined
}

/** Wraps stock Noise; nothing of its protocol changes. */
export function createSecureChannel (): SecureChannel {
  const peers = new WeakMap<MessageStream, PeerId>()
  const crypto = createNoiseCrypto()
  return {
    peerOf: (connection) => peers.get(connection),
    encrypter: (components) => {
      const inner = noise({ crypto })(components) as ConnectionEncrypter
      return {
        protocol: inner.protocol,
        secureInbound: async (connection, options) => {
          const secured = await inner.secureInbound(connection, options)
          peers.set(secured.connection, secured.remotePeer)
          return secured
        },
        secureOutbound: async (connection, options) => {
          const secured = await inner.secureOutbound(connection, options)
          peers.set(secured.connection, secured.remotePeer)
          return secured
        }
      }
    }
  }
}
