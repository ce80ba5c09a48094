/** What each identity uses of the relay right now: the counters on which caps, and later quotas, are decided. */

/** Counters of one identity. */
export interface PeerUsage {
  /** Hop streams whose request has not been answered. */
  pendingHandshakes: number
  /** Circuits that it opened, and circuits that lead to it. */
  callerCircuits: number
  calledCircuits: number
}

/** A table that holds an entry only while something is in use, so it is bounded by what it counts. */
export interface UsageTable {
  get: (peer: string) => Readonly<PeerUsage>
  /** Adds `amount` (negative to give back) and drops an entry that is all zero. */
  add: (peer: string, counter: keyof PeerUsage, amount: number) => void
  /** Identities that use something. */
  readonly size: number
}

/** Creates an empty table. */
export function createUsageTable (): UsageTable {
  const table = new Map<string, PeerUsage>()
  return {
    get: (peer) => table.get(peer) ?? UNUSED,
    add: (peer, counter, amount) => {
      const usage = table.get(peer) ?? { ...UNUSED }
      usage[counter] += amount
      if (usage.pendingHandshakes === 0 && usage.callerCircuits === 0 && usage.calledCircuits === 0) table.delete(peer)
      else table.set(peer, usage)
    },
    get size () { return table.size }
  }
}

const UNUSED: Readonly<PeerUsage> = Object.freeze({ pendingHandshakes: 0, callerCircuits: 0, calledCircuits: 0 })
