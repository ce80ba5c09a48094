/** Keeps libp2p's peer store from growing with everybody who ever passed by (I8). */
import type { Libp2p, PeerId } from '@libp2p/interface'
import { createTaskOwner, LIMITS, sleep } from '../base/index.ts'
import type { Clock, Logger, Startable } from '../base/index.ts'

/** What the sweep uses. */
export interface PeerSweepComponents {
  node: () => Pick<Libp2p, 'peerId' | 'getConnections'> & { peerStore: Pick<Libp2p['peerStore'], 'all' | 'delete'> }
  clock: Clock
  log: Logger
  /** Peers that stay without a connection. */
  isKept: (peer: PeerId) => boolean
}

/**
 * Creates the sweep; its owner starts and stops it. Forgetting a peer when it disconnects is not enough: what identify
 * learned of one that left quickly is written afterwards, and libp2p would keep it for hours.
 */
export function createPeerSweep ({ node, clock, log, isKept }: PeerSweepComponents): Startable {
  let tasks = createTaskOwner(log)

  async function sweep (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(clock, LIMITS.peerStoreSweepMs, signal)
      const host = node()
      for (const { id } of await host.peerStore.all()) {
        if (signal.aborted) return
        if (!id.equals(host.peerId) && !isKept(id) && host.getConnections(id).length === 0) await host.peerStore.delete(id)
      }
    }
  }

  return {
    start: async () => {
      tasks = createTaskOwner(log)
      tasks.run('peer-sweep', sweep)
    },
    stop: async () => { await tasks.stop() }
  }
}
