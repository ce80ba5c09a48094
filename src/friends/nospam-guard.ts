/** Quotas against guessing address secrets and against floods of requests. Pure book-keeping in memory, bounded by its own global quotas. */
import { LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** Why a request of a non-friend has no effect; never told to the peer. */
export type RequestRefusal = 'wrong-nospam' | 'peer-quota' | 'hour-quota'

/** Whether a request of a non-friend may have an effect. */
export type RequestVerdict = { isAdmitted: true } | { isAdmitted: false, reason: RequestRefusal }

/** Counts requests per peer and day, and all together per hour. */
export interface NospamGuard {
  /** Judges and counts one request. `isRight`: its nospam belongs to an address that is not revoked. */
  judge: (peer: Did, isRight: boolean, nowMs: number) => RequestVerdict
  /** Peers that are remembered, for the metric. */
  readonly peerCount: number
}

interface Tally { startedAt: number, wrong: number, right: number }

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** Creates a guard. A restart forgets the counts: no peer can cause one. */
export function createNospamGuard (): NospamGuard {
  const peers = new Map<Did, Tally>()
  let hour: Tally = { startedAt: 0, wrong: 0, right: 0 }

  function tallyOf (peer: Did, nowMs: number): Tally {
    const known = peers.get(peer)
    return known === undefined || isOver(known, DAY_MS, nowMs) ? { startedAt: nowMs, wrong: 0, right: 0 } : known
  }

  function forgetOld (nowMs: number): void {
    for (const [peer, tally] of peers) {
      if (isOver(tally, DAY_MS, nowMs)) peers.delete(peer)
    }
  }

  return {
    judge: (peer, isRight, nowMs) => {
      if (isOver(hour, HOUR_MS, nowMs)) {
        hour = { startedAt: nowMs, wrong: 0, right: 0 }
        forgetOld(nowMs)
      }
      // what is refused by a quota is not counted, so the map holds at most what the hourly quotas admit in a day
      if (hour.wrong >= LIMITS.wrongNospamGlobalPerHour) return { isAdmitted: false, reason: 'hour-quota' }
      const tally = tallyOf(peer, nowMs)
      if (tally.wrong >= LIMITS.wrongNospamPerDay || tally.right >= LIMITS.requestsPerPeerPerDay) return { isAdmitted: false, reason: 'peer-quota' }
      if (isRight && hour.right >= LIMITS.newRequestsPerHour) return { isAdmitted: false, reason: 'hour-quota' }
      const kind = isRight ? 'right' : 'wrong'
      tally[kind]++
      hour[kind]++
      peers.set(peer, tally)
      return isRight ? { isAdmitted: true } : { isAdmitted: false, reason: 'wrong-nospam' }
    },
    get peerCount () { return peers.size }
  }
}

/** Also over when the clock went back before its start. */
function isOver (tally: Tally, lengthMs: number, nowMs: number): boolean {
  return nowMs >= tally.startedAt + lengthMs || nowMs < tally.startedAt
}
