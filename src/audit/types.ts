/** The door types of audit/: one durable record for every access and every refusal of a friend (invariant I6). */
import type { Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'

/** Names of audit events in this release; the body's members are listed in PROTOCOL.md (spelling is frozen). */
export type AuditEvent = 'node.start' | 'node.stop' | 'friend.request' | 'friend.accept' | 'friend.reject' | 'friend.remove' | 'friend.block' |
  'grant.issue' | 'grant.revoke' | 'conn.open' | 'conn.close' | 'conn.deny' | 'strangers'

/** Facts of one entry; absent members are left out of the body. */
export interface AuditEntry {
  event: AuditEvent
  /** Session id, 16 bytes. */
  sessionId?: Uint8Array
  direction?: 'in' | 'out'
  device?: Did
  owner?: Did
  service?: string
  decision?: 'allow' | 'deny'
  /** Machine-readable reason, for example an ERR_ code of the real cause (never shown to the peer). */
  why?: string
  path?: string
  relayPeerId?: string
  bytesIn?: number
  bytesOut?: number
  durationMs?: number
  count?: number
  sample?: string[]
}

/** One stored entry as read back. */
export interface StoredAuditEntry extends AuditEntry { seq: number, at: number }

/** The log. */
export interface AuditLog extends Startable {
  /**
   * Makes the entry durable (fsync) before it resolves. Await it before serving: failure means refusal.
   *
   * @throws CarrierError ERR_AUDIT when it cannot be written
   */
  record: (entry: AuditEntry) => Promise<void>
  /** A friend's refusal: stored singly up to LIMITS.auditRefusalsPerMinute per DID, then counted. Never throws. */
  recordRefusal: (entry: AuditEntry & { device: Did }) => void
  /** A stranger's refusal: one bulk entry a minute with a count and a few sampled keys. Never throws. */
  countStranger: (peerId: string) => void
  /** Newest first. */
  list: (options?: { limit?: number, beforeSeq?: number }) => StoredAuditEntry[]
}
