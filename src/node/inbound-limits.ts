/** How many connections others may hold: strangers few and briefly, friends many. Pure bookkeeping. */
import { LIMITS } from '../base/index.ts'
import type { PeerLevel } from './types.ts'

/** Why a connection was not let in; also the label of the metric. */
export type InboundRefusal = 'blocked' | 'stranger-limit' | 'stranger-key-limit' | 'peer-limit'

/** Verdict about one inbound connection. */
export type InboundVerdict = { allow: true } | { allow: false, reason: InboundRefusal }

/** Counts of open connections by device. */
export interface InboundLimits {
  /** May one more connection of this device come in? Changes nothing. */
  judge: (device: string, level: PeerLevel) => InboundVerdict
  /** A connection is open: it is counted until `remove`. */
  add: (connectionId: string, device: string, isStranger: boolean) => void
  /** A stranger proved to be a friend: it no longer takes a stranger's place. */
  promote: (connectionId: string) => void
  remove: (connectionId: string) => void
  strangerCount: () => number
}

/** Creates empty counts. */
export function createInboundLimits (): InboundLimits {
  const open = new Map<string, { device: string, isStranger: boolean }>()

  function count (matches: (entry: { device: string, isStranger: boolean }) => boolean): number {
    let total = 0
    for (const entry of open.values()) if (matches(entry)) total++
    return total
  }

  return {
    judge: (device, level) => {
      if (level === 'blocked') return { allow: false, reason: 'blocked' }
      const ofDevice = count((entry) => entry.device === device)
      if (level === 'friend') return ofDevice >= LIMITS.peerConnectionCount ? { allow: false, reason: 'peer-limit' } : { allow: true }
      if (ofDevice >= LIMITS.strangerConnectionPerKeyCount) return { allow: false, reason: 'stranger-key-limit' }
      if (count((entry) => entry.isStranger) >= LIMITS.strangerConnectionCount) return { allow: false, reason: 'stranger-limit' }
      return { allow: true }
    },
    add: (connectionId, device, isStranger) => { open.set(connectionId, { device, isStranger }) },
    promote: (connectionId) => {
      const entry = open.get(connectionId)
      if (entry !== undefined) entry.isStranger = false
    },
    remove: (connectionId) => { open.delete(connectionId) },
    strangerCount: () => count((entry) => entry.isStranger)
  }
}
