/** Asks a peer that holds a reservation whether it takes a circuit (circuit v2 §stop) or a splice. */
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import { readMessage, sendMessage } from './message-stream.ts'

/** What a call uses. */
export interface CallPeerComponents { node: Pick<Libp2p, 'getConnections'>, clock: Clock, log: Logger }

/** Whom to ask what, and how to read the answer. */
export interface CallPeerOptions {
  peerId: PeerId
  protocol: string
  /** The question, without its length. */
  question: Uint8Array
  /** True for a yes. @throws CarrierError ERR_PROTOCOL for what is no answer */
  readAnswer: (bytes: Uint8Array) => boolean
  maxAnswerBytes: number
  /** How many streams of this protocol one connection may carry. */
  maxStreams: number
}

/**
 * Opens a stream on one of the called peer's connections and gives it, paused, once the peer has said yes.
 * Undefined when it refused or no connection answered. The caller owns the stream.
 */
export async function callPeer ({ node, clock, log }: CallPeerComponents, options: CallPeerOptions, signal: AbortSignal): Promise<Stream | undefined> {
  const usable = node.getConnections(options.peerId).filter((connection) => connection.status === 'open' && !isRelayed(connection))
  // newest first: a connection that died unnoticed is the one that its peer has replaced
  const ordered = usable.toReversed().slice(0, MAX_CONNECTIONS_TRIED)
  for (const connection of ordered) {
    // a connection that died unnoticed must not use up the time of the others
    using attempt = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs / (ordered.length + 1), 'the called peer did not answer', signal)
    let stream: Stream | undefined
    try {
      stream = await connection.newStream(options.protocol, { signal: attempt.signal, maxOutboundStreams: options.maxStreams, runOnLimitedConnection: false })
      sendMessage(stream, options.question)
      if (options.readAnswer(await readMessage(stream, options.maxAnswerBytes, attempt.signal))) return stream
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
