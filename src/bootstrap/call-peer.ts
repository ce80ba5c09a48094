/** The relay's side of a STOP: asks the called peer whether it takes a circuit. Circuit v2 §stop. */
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import { STATUS, STOP_PROTOCOL, decodeStopStatus, encodeStopConnect } from './hop-messages.ts'
import type { CircuitLimits } from './hop-messages.ts'
import { readMessage, sendMessage } from './message-stream.ts'

/** What a call uses. */
export interface CallPeerComponents { node: Pick<Libp2p, 'getConnections'>, clock: Clock, log: Logger }

/** Whom to call, for whom, and what is announced. */
export interface CallPeerOptions {
  peerId: PeerId
  /** Multihash of the caller. */
  callerId: Uint8Array
  limits: CircuitLimits | undefined
  /** How many stop streams one connection may carry. */
  maxStreams: number
}

/**
 * Opens a stop stream on one of the called peer's connections and gives it, paused, once the peer has said OK.
 * Undefined when it refused or no connection answered. The caller owns the stream.
 */
export async function callPeer ({ node, clock, log }: CallPeerComponents, options: CallPeerOptions, signal: AbortSignal): Promise<Stream | undefined> {
  const { peerId, callerId, limits, maxStreams } = options
  const usable = node.getConnections(peerId).filter((connection) => connection.status === 'open' && !isRelayed(connection))
  // newest first: a connection that died unnoticed is the one that its peer has replaced
  const ordered = usable.toReversed().slice(0, MAX_CONNECTIONS_TRIED)
  for (const connection of ordered) {
    // a connection that died unnoticed must not use up the time of the others
    using attempt = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs / (ordered.length + 1), 'the called peer did not answer', signal)
    let stream: Stream | undefined
    try {
      stream = await connection.newStream(STOP_PROTOCOL, { signal: attempt.signal, maxOutboundStreams: maxStreams, runOnLimitedConnection: false })
      sendMessage(stream, encodeStopConnect(callerId, limits))
      const status = decodeStopStatus(await readMessage(stream, LIMITS.relayMessageBytes, attempt.signal))
      if (status === STATUS.OK) return stream
      await stream.close({ signal: attempt.signal })
      return undefined
    } catch (err) {
      stream?.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', 'the called peer could not be asked'))
      signal.throwIfAborted()
      log.debug('a called peer could not be asked on one of its connections; the next is tried', { reason: errorMessage(err) })
    }
  }
  return undefined
}

/** True for a connection that is itself a circuit; circuits over circuits are refused: circuit v2 §hop. */
export function isRelayed (connection: Connection): boolean {
  return connection.remoteAddr.toString().includes('/p2p-circuit')
}

// a peer has one connection, for a moment two when its network changed
const MAX_CONNECTIONS_TRIED = 3
