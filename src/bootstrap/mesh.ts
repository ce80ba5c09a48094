/** Keeps connections to the other bootstrap nodes that the operator listed, for ever: DHT servers know each other through them. */
import type { Libp2p } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS, backoffMs, createTaskOwner, errorMessage, sleep, startDeadline } from '../base/index.ts'
import type { Clock, Logger, Startable } from '../base/index.ts'

/** What the mesh uses. */
export interface MeshComponents { node: Pick<Libp2p, 'dial'>, clock: Clock, log: Logger, random: () => number }

/** The PeerId at the end of a multiaddr, as text. */
export function peerIdOfAddress (address: string): string {
  return address.slice(address.lastIndexOf('/') + 1)
}

/** Creates the mesh; `start` needs a started host. `peers` are multiaddrs with their PeerId. */
export function createMesh ({ node, clock, log, random }: MeshComponents, init: { peers: readonly string[] }): Startable {
  const tasks = createTaskOwner(log)

  async function hold (peer: string, signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      try {
        using deadline = startDeadline(clock, LIMITS.dialTimeoutMs, 'the bootstrap node did not answer', signal)
        // an existing connection is given back as it is
        await node.dial(multiaddr(peer), { signal: deadline.signal })
        failures = 0
      } catch (err) {
        if (failures === 0 && !signal.aborted) log.warn('another bootstrap node is not reachable; it is tried again for ever', { reason: errorMessage(err) })
        failures++
      }
      await sleep(clock, failures === 0 ? CHECK_MS : backoffMs(RETRY, failures - 1, random), signal)
    }
  }

  return {
    start: async () => { for (const peer of init.peers) tasks.run('mesh', async (signal) => { await hold(peer, signal) }) },
    stop: tasks.stop
  }
}

const CHECK_MS = 10_000
const RETRY = { firstMs: 1_000, maxMs: 30_000, factor: 2 }
