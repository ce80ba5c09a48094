/**
 * Room for one more connection at a relay that has as many as it may: those that use nothing make room, of the source that has most
 * of them first, so that keys which cost nothing cannot hold all places.
 */
import type { Connection, PeerId } from '@libp2p/interface'
import type { Clock } from '../base/index.ts'
import { closeSoon, sourcePrefix } from '../node/index.ts'

/** What is looked at. */
export interface ConnectionRoomComponents {
  node: {
    getConnections: () => Array<Pick<Connection, 'remotePeer' | 'remoteAddr' | 'timeline' | 'close' | 'abort'>>
    addEventListener: (type: 'connection:close', listener: () => void) => void
  }
  clock: Pick<Clock, 'now' | 'monotonicMs'>
  /** True while the peer holds or makes something at the relay. */
  isInUse: (peerId: PeerId) => boolean
  maxConnections: () => number
  /** Connections were closed to make room. */
  onEvicted: (count: number) => void
}

/** Gives the question whether there is room for one more, which makes room where it can. */
export function createConnectionRoom ({ node, clock, isInUse, maxConnections, onEvicted }: ConnectionRoomComponents): () => boolean {
  // those that are being closed count no more; they are gone from the node's list a moment later
  const leaving = new WeakSet<object>()
  // a look at all connections is not cheap: in vain it is taken again after a moment, or when one has gone
  let fullUntilMs = -Infinity
  node.addEventListener('connection:close', () => { fullUntilMs = -Infinity })

  return () => {
    if (clock.monotonicMs() < fullUntilMs) return false
    const connections = node.getConnections()
    if (connections.length < maxConnections()) return true
    const staying = connections.filter((connection) => !leaving.has(connection))
    if (staying.length < maxConnections()) return true
    const bySource = new Map<string, typeof staying>()
    for (const connection of staying) {
      // who has just come has had no time to ask for anything
      if (clock.now() - connection.timeline.open < YOUNG_MS || isInUse(connection.remotePeer)) continue
      const source = sourcePrefix(connection.remoteAddr.getComponents()[0]?.value)
      const same = bySource.get(source)
      if (same === undefined) bySource.set(source, [connection])
      else same.push(connection)
    }
    const [largest = []] = [...bySource.values()].sort((a, b) => b.length - a.length)
    if (largest.length === 0) {
      fullUntilMs = clock.monotonicMs() + FULL_MS
      return false
    }
    // several at once, for the same reason; the oldest
    const evicted = largest.sort((a, b) => a.timeline.open - b.timeline.open).slice(0, Math.max(1, Math.ceil(maxConnections() / 128)))
    for (const connection of evicted) {
      leaving.add(connection)
      closeSoon(connection)
    }
    onEvicted(evicted.length)
    return true
  }
}

const YOUNG_MS = 3_000
const FULL_MS = 250
