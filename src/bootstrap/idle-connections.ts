/** Closes connections that use nothing of the relay for a while, so that idle strangers cannot hold all places (I8). */
import type { Connection, PeerId } from '@libp2p/interface'
import { LIMITS, createTaskOwner, sleep } from '../base/index.ts'
import type { Clock, Logger, Metrics, Startable } from '../base/index.ts'
import { closeSoon } from '../node/index.ts'

/** What the sweep uses. */
export interface IdleConnectionsComponents {
  node: { getConnections: () => Array<Pick<Connection, 'remotePeer' | 'close' | 'abort'>> }
  clock: Clock
  log: Logger
  metrics: Metrics
  /** True while the peer holds or makes something here: a reservation, a circuit, a request, a place among the DHT servers. */
  isInUse: (peerId: PeerId) => boolean
}

/** Creates the sweep; its owner starts and stops it. */
export function createIdleConnections ({ node, clock, log, metrics, isInUse }: IdleConnectionsComponents): Startable {
  const tasks = createTaskOwner(log)
  const closed = metrics.counter('carrier_relay_closed_idle_connections_total', 'Connections closed because their peer used nothing of the relay.')
  // when a connection was last seen in use; it counts as used when it is first seen
  const usedAtMs = new WeakMap<object, number>()

  async function sweep (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(clock, LIMITS.relayIdleConnectionMs / 4, signal)
      const nowMs = clock.monotonicMs()
      for (const connection of node.getConnections()) {
        const lastMs = usedAtMs.get(connection)
        if (lastMs === undefined || isInUse(connection.remotePeer)) usedAtMs.set(connection, nowMs)
        else if (nowMs - lastMs >= LIMITS.relayIdleConnectionMs) {
          closed.add()
          closeSoon(connection)
        }
      }
    }
  }

  return { start: async () => { tasks.run('idle connections', sweep) }, stop: tasks.stop }
}
