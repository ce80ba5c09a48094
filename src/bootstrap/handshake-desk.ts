/** Requests on streams that wait for an answer: bounded in number, per peer and in time, whichever protocol they came on. */
import type { Connection, Stream } from '@libp2p/interface'
import { CarrierError, LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import type { UsageTable } from './peer-usage.ts'
import { peerKey } from './reservation-table.ts'

/** What the desk uses. */
export interface HandshakeDeskComponents {
  clock: Clock
  log: Logger
  usage: UsageTable
  onFailed: () => void
  onRefused: () => void
}

/** One desk for all protocols of the relay. */
export interface HandshakeDesk {
  /** Runs `answer` for one request; when it fails, is late or the stream goes, the stream is reset. Never rejects. */
  run: (stream: Stream, connection: Connection, parent: AbortSignal, answer: (signal: AbortSignal) => Promise<void>) => Promise<void>
  /** Requests that wait now. */
  readonly size: number
}

/** Creates an empty desk. */
export function createHandshakeDesk (components: HandshakeDeskComponents): HandshakeDesk {
  const { clock, log, usage } = components
  // in the order of their arrival
  const pending = new Set<Stream>()

  function turnAway (stream: Stream): void {
    pending.delete(stream)
    components.onRefused()
    stream.abort(new CarrierError('ERR_LIMIT', 'too many requests wait for an answer'))
  }

  return {
    run: async (stream, connection, parent, answer) => {
      const peer = peerKey(connection.remotePeer.toMultihash().bytes)
      if (usage.get(peer).pendingHandshakes >= LIMITS.relayPendingHandshakesPerPeerCount) {
        turnAway(stream)
        return
      }
      // identities cost nothing: who fills all places with requests that never end loses them, honest ones are through in two round trips
      const [oldest] = pending
      if (pending.size >= LIMITS.relayPendingHandshakeCount && oldest !== undefined) turnAway(oldest)
      pending.add(stream)
      usage.add(peer, 'pendingHandshakes', 1)
      const gone = new AbortController()
      const onClose = (): void => { gone.abort(new CarrierError('ERR_LINK_LOST', 'the stream is gone')) }
      stream.addEventListener('close', onClose)
      using deadline = startDeadline(clock, LIMITS.relayHandshakeTimeoutMs, 'the request was not completed in time', AbortSignal.any([parent, gone.signal]))
      try {
        await answer(deadline.signal)
      } catch (err) {
        components.onFailed()
        log.debug('a request failed; its stream is reset', { reason: errorMessage(err) })
        stream.abort(err instanceof Error ? err : new CarrierError('ERR_INTERNAL', 'the request failed'))
      } finally {
        stream.removeEventListener('close', onClose)
        pending.delete(stream)
        usage.add(peer, 'pendingHandshakes', -1)
      }
    },
    get size () { return pending.size }
  }
}
