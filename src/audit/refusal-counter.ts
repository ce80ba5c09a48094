/** Keeps floods of refusals from filling the log: what is stored singly, what is only counted. Pure: the caller says when a minute ends. */
import { LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuditEntry } from './types.ts'

/** What one minute brought. */
export interface RefusalCounter {
  /** True when this refusal of a friend still gets an entry of its own; false when it was counted. */
  admit: (device: Did) => boolean
  /** Counts a stranger and keeps its key as a sample while there is room. */
  countStranger: (peerId: string) => void
  /** The entries that sum up what was counted. */
  summary: () => AuditEntry[]
  /** Begins the next minute; call it when the summary is durable. */
  reset: () => void
}

/** Limits of a {@link RefusalCounter}. */
export interface RefusalCounterInit {
  singlesPerMinute?: number
  deviceCount?: number
  sampleCount?: number
}

const MAX_SAMPLE_CHARACTERS = 128

/** Makes a counter for minutes that follow each other. */
export function createRefusalCounter (init: RefusalCounterInit = {}): RefusalCounter {
  const singlesPerMinute = init.singlesPerMinute ?? LIMITS.auditRefusalsPerMinute
  const deviceCount = init.deviceCount ?? LIMITS.friendCount
  const sampleCount = init.sampleCount ?? LIMITS.auditStrangerSampleCount
  const refusals = new Map<Did, number>()
  const strangerKeys = new Set<string>()
  let strangers = 0
  let overflowing = 0

  return {
    admit: (device) => {
      const known = refusals.get(device)
      if (known === undefined && refusals.size >= deviceCount) {
        // more devices than there can be friends: counted together
        overflowing++
        return false
      }
      refusals.set(device, (known ?? 0) + 1)
      return (known ?? 0) < singlesPerMinute
    },
    countStranger: (peerId) => {
      strangers++
      if (strangerKeys.size < sampleCount) strangerKeys.add(peerId.slice(0, MAX_SAMPLE_CHARACTERS))
    },
    summary: () => {
      const entries: AuditEntry[] = []
      for (const [device, count] of refusals) {
        if (count > singlesPerMinute) entries.push({ event: 'conn.deny', decision: 'deny', direction: 'in', device, why: 'ERR_LIMIT', count: count - singlesPerMinute })
      }
      if (overflowing > 0) entries.push({ event: 'conn.deny', decision: 'deny', direction: 'in', why: 'ERR_LIMIT', count: overflowing })
      if (strangers > 0) entries.push({ event: 'strangers', decision: 'deny', direction: 'in', count: strangers, sample: [...strangerKeys] })
      return entries
    },
    reset: () => {
      refusals.clear()
      strangerKeys.clear()
      strangers = 0
      overflowing = 0
    }
  }
}
