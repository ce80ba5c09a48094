/** A relay's word that it leaves: told to every device with a reservation before anything is cut, so that they move in time. PROTOCOL.md "Splices". */
import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { LIMITS, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger } from '../base/index.ts'
import { SPLICE_PROTOCOL, encodeDrain } from '../node/index.ts'
import { isRelayed } from './call-peer.ts'
import { sendMessage } from './message-stream.ts'

/** What telling uses. */
export interface DrainNoticeComponents {
  node: Pick<Libp2p, 'getConnections'>
  clock: Clock
  log: Logger
  /** Counts by result: `told` or `failed`. */
  notices: CounterMetric
}

/**
 * Tells each of the peers once, in their order, that the relay ends what is left after `withinMs`. Bounded in time
 * (LIMITS.relayDrainNoticeMs) and in number at a time; one that does not answer soon keeps its try, but no other waits for it any more.
 * A peer that cannot be told is left out: it sees the end of its connection later. Never rejects.
 */
export async function tellDrain ({ node, clock, log, notices }: DrainNoticeComponents, peers: readonly PeerId[], withinMs: number): Promise<void> {
  using deadline = startDeadline(clock, LIMITS.relayDrainNoticeMs, 'the time to tell devices that the relay drains is over')
  const message = encodeDrain(withinMs)
  const waiting = peers.values()
  const tries: Array<Promise<void>> = []

  async function tell (connection: Connection): Promise<void> {
    const stream = await connection.newStream(SPLICE_PROTOCOL, { signal: deadline.signal, maxOutboundStreams: LIMITS.relaySpliceTicketsPerCalledCount, runOnLimitedConnection: false })
    try {
      sendMessage(stream, message)
      await stream.close({ signal: deadline.signal })
    } catch (err) {
      stream.abort(err instanceof Error ? err : new Error(errorMessage(err)))
      throw err
    }
  }

  async function tryToTell (connection: Connection): Promise<void> {
    try {
      await tell(connection)
      notices.add(1, { result: 'told' })
    } catch (err) {
      // stock peers do not know the protocol, and a lost one needs no word
      notices.add(1, { result: 'failed' })
      log.debug('a device could not be told that the relay drains', { reason: errorMessage(err) })
    }
  }

  /** Workers take from one iterator. */
  async function work (): Promise<void> {
    for (const peerId of waiting) {
      if (deadline.signal.aborted) return
      // the newest: one that died unnoticed is what its peer has replaced
      const connection = node.getConnections(peerId).findLast((candidate) => candidate.status === 'open' && !isRelayed(candidate))
      if (connection === undefined) continue
      const telling = tryToTell(connection)
      tries.push(telling)
      // keys cost nothing: peers that never answer must not keep the word from the others
      const turn = Promise.withResolvers<void>()
      const timer = clock.setTimer(turn.resolve, LIMITS.relayDrainNoticePeerMs)
      await Promise.race([telling, turn.promise])
      timer.cancel()
    }
  }

  await Promise.all(Array.from({ length: Math.min(LIMITS.relayDrainNoticeCount, peers.length) }, work))
  await Promise.all(tries)
}
