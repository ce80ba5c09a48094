/**
 * Audit entries of the friend list. A change and its entry are committed together in one transaction; the entry then
 * moves to the audit log, after a crash at the next start. So no change goes unrecorded and no command waits for the log.
 */
import type { AuditEntry, AuditLog } from '../audit/index.ts'
import type { Clock, Database, Logger, Row, TaskOwner, Timer } from '../base/index.ts'
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** What the queue works with. */
export interface AuditQueueComponents {
  database: Database
  audit: Pick<AuditLog, 'record'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
}

/** One entry of a change. */
export interface FriendAuditEntry {
  event: AuditEntry['event'] & `friend.${string}`
  direction: 'in' | 'out'
  decision?: 'allow' | 'deny'
  why?: string
}

/** The queue between the tables and the audit log. */
export interface AuditQueue {
  /** Adds an entry; call inside the transaction of its change. */
  add: (did: Did, entry: FriendAuditEntry) => void
  /** @throws CarrierError ERR_AUDIT when the log has not taken entries for so long that no new relation may be made */
  assertRoom: () => void
  /** Moves entries to the log in the background; also after a failure, later. */
  drain: () => void
  stop: () => void
}

const RETRY_MS = 5_000

/** Creates the queue; `stop` before the task owner stops. */
export function createAuditQueue (components: AuditQueueComponents): AuditQueue {
  const { database, audit, clock, log, tasks } = components
  let isDraining = false
  let retryTimer: Timer | undefined

  function next (): Row | undefined {
    return database.get('SELECT * FROM friend_audit ORDER BY seq LIMIT 1')
  }

  function drain (): void {
    if (isDraining || tasks.signal.aborted) return
    isDraining = true
    retryTimer?.cancel()
    tasks.run('friend audit', async (signal) => {
      try {
        for (let row = next(); row !== undefined && !signal.aborted; row = next()) {
          await audit.record(toEntry(row))
          database.run('DELETE FROM friend_audit WHERE seq = ?', row['seq'])
        }
      } catch (err) {
        log.error('a change of the friend list could not be recorded in the audit log; it is tried again', { err })
        if (!signal.aborted) retryTimer = clock.setTimer(drain, RETRY_MS)
      } finally {
        isDraining = false
      }
    })
  }

  return {
    add: (did, entry) => {
      database.run('INSERT INTO friend_audit (event, direction, decision, why, did) VALUES (?, ?, ?, ?, ?)', entry.event, entry.direction, entry.decision, entry.why, did)
    },
    assertRoom: () => {
      const count = Number(database.get('SELECT count(*) AS count FROM friend_audit')?.['count'])
      if (count < LIMITS.friendAuditBacklogCount) return
      throw new CarrierError('ERR_AUDIT', `the audit log has not taken the last ${count} changes of the friend list, so no new one is made; see the daemon's log for the reason (often a full disk)`)
    },
    drain,
    stop: () => { retryTimer?.cancel() }
  }
}

function toEntry (row: Row): AuditEntry {
  const did = row['did'] as Did
  const { decision, why } = row as { decision?: 'allow' | 'deny', why?: string }
  return {
    event: row['event'] as FriendAuditEntry['event'],
    direction: row['direction'] as 'in' | 'out',
    device: did,
    owner: did,
    ...(decision === undefined ? {} : { decision }),
    ...(why === undefined ? {} : { why })
  }
}
