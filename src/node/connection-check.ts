/** Asks open connections at once whether they still live: after a change of the network most are dead and do not know it. */
import type { Connection } from '@libp2p/interface'
import { CarrierError, networkPatienceMs } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'

/** What the check uses. */
export interface ConnectionCheckComponents {
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  ping: (connection: Connection, signal: AbortSignal) => Promise<number>
}

/** Asks a connection; one that does not answer within three of its round trips, LIMITS.networkCheckMs at most, is ended. Asked again meanwhile, it is asked once. */
export type ConnectionCheck = (connection: Connection, rttMs: number | undefined) => void

/** A process that stood still finds the end of the wait before the answer, which is still to be read. */
const LAST_CHANCE_MS = 100

/** Creates the check. */
export function createConnectionCheck ({ clock, log, tasks, ping }: ConnectionCheckComponents): ConnectionCheck {
  const asked = new Set<Connection>()

  async function ask (connection: Connection, patienceMs: number, signal: AbortSignal): Promise<void> {
    const ending = new AbortController()
    const end = (): void => { ending.abort(new CarrierError('ERR_TIMEOUT', 'no answer after the network changed')) }
    let timer = clock.setTimer(() => { timer = clock.setTimer(end, LAST_CHANCE_MS) }, patienceMs)
    signal.addEventListener('abort', end, { once: true })
    try {
      await ping(connection, ending.signal)
    } catch (err) {
      // a refusal is an answer too
      if (signal.aborted || !ending.signal.aborted || connection.status !== 'open') return
      log.info('connection did not survive the change of the network', { peer: connection.remotePeer.toString() })
      connection.abort(new CarrierError('ERR_LINK_LOST', 'the connection did not survive the change of the network', { cause: err }))
    } finally {
      timer.cancel()
      signal.removeEventListener('abort', end)
    }
  }

  return (connection, rttMs) => {
    if (asked.has(connection) || connection.status !== 'open') return
    asked.add(connection)
    tasks().run('connection-check', async (signal) => {
      try {
        await ask(connection, networkPatienceMs(rttMs), signal)
      } finally {
        asked.delete(connection)
      }
    })
  }
}
