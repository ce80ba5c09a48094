/** What each identity uses of the relay right now: the counters on which caps, and later quotas, are decided. */

/** Counters of one identity. */
export interface PeerUsage {
  /** Streams whose request has not been answered. */
  pendingHandshakes: number
  /** Circuits and splices that it opened, and those that lead to it. */
  callerCircuits: number
  calledCircuits: number
  /** Of these, splices whose legs have not both come yet. */
  callerTickets: number
  calledTickets: number
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
      if (isUnused(usage)) table.delete(peer)
      else table.set(peer, usage)
    },
    get size () { return table.size }
  }
}

/** True when nothing is in use. */
export function isUnused (usage: Readonly<PeerUsage>): boolean {
  return Object.values(usage).every((count) => count === 0)
}

const UNUSED: Readonly<PeerUsage> = Object.freeze({ pendingHandshakes: 0, callerCircuits: 0, calledCircuits: 0, callerTickets: 0, calledTickets: 0 })
