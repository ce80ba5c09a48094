/**
 * Connections that are encrypted one round trip sooner: the choice of Noise and its first message travel together. What is
 * spoken is what libp2p's own upgrade speaks, and a connection on which Noise does not prove the expected key comes to nothing as there.
 */
import type { Connection, ConnectionEncrypter, MultiaddrConnection, SecureConnectionOptions, SecuredConnection, StreamMuxerFactory, Upgrader } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { CarrierError, errorMessage } from '../base/index.ts'
import { selectAtOnce } from './eager-select.ts'

/** For transports: outbound connections to a key that their address names; all others are upgraded as always. */
export function eagerUpgrader (upgrader: Upgrader): Upgrader {
  async function upgradeOutbound (connection: MultiaddrConnection, options: Parameters<Upgrader['upgradeOutbound']>[1]): Promise<Connection> {
    const [encrypter] = upgrader.getConnectionEncrypters().values()
    const expected = connection.remoteAddr.getComponents().findLast(({ name }) => name === 'p2p')?.value
    if (encrypter === undefined || expected === undefined || options.initiator === false) return upgrader.upgradeOutbound(connection, options)
    const secured = await secure(connection, encrypter, { signal: options.signal, remotePeer: peerIdFromString(expected) })
    if (secured.remotePeer.toString() !== expected) throw new CarrierError('ERR_LINK_LOST', 'another key answers: it does not match expected')
    const factory = secured.streamMuxer ?? chosenAtOnce(upgrader)
    return upgrader.upgradeOutbound(connection, {
      ...options,
      // done above; the muxer runs on what Noise made of the connection, never on the connection itself
      skipEncryption: true,
      remotePeer: secured.remotePeer,
      muxerFactory: { protocol: factory.protocol, createStreamMuxer: () => factory.createStreamMuxer(secured.connection) }
    })
  }

  return {
    upgradeOutbound,
    upgradeInbound: async (connection, options) => upgrader.upgradeInbound(connection, options),
    createInboundAbortSignal: (signal) => upgrader.createInboundAbortSignal(signal),
    getStreamMuxers: () => upgrader.getStreamMuxers(),
    getConnectionEncrypters: () => upgrader.getConnectionEncrypters()
  }
}

/** @throws CarrierError ERR_LINK_LOST with the reason as its cause, when the other end does not prove the expected key */
async function secure (connection: MultiaddrConnection, encrypter: ConnectionEncrypter, options: SecureConnectionOptions): Promise<SecuredConnection> {
  try {
    selectAtOnce(connection, encrypter.protocol)
    return await encrypter.secureOutbound(connection, options)
  } catch (err) {
    throw new CarrierError('ERR_LINK_LOST', `the connection could not be encrypted: ${errorMessage(err)}`, { cause: err })
  }
}

/** The only muxer that we have, for another end that did not name its muxers inside of Noise. */
function chosenAtOnce (upgrader: Upgrader): StreamMuxerFactory {
  const [factory] = upgrader.getStreamMuxers().values()
  if (factory === undefined) throw new CarrierError('ERR_INTERNAL', 'there is no muxer to choose')
  return {
    protocol: factory.protocol,
    createStreamMuxer: (connection) => {
      selectAtOnce(connection, factory.protocol)
      return factory.createStreamMuxer(connection)
    }
  }
}
