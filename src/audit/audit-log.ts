/**
 * The audit log (invariant I6). Entries of one turn of the event loop share one durable transaction, so 500 connections
 * that open at once cost one fsync, not 500.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { CarrierError, errorMessage, LIMITS, toCarrierError } from '../base/index.ts'
import type { Clock, Logger, Metrics, Timer } from '../base/index.ts'
import { createAuditMetrics } from './audit-metrics.ts'
import { openAuditStore } from './audit-store.ts'
import type { AuditStore } from './audit-store.ts'
import { commitBody, encodeBody, encodeLeaf, SALT_BYTES } from './entry-codec.ts'
import { createRefusalCounter } from './refusal-counter.ts'
import type { AuditEntry, AuditEvent, AuditLog } from './types.ts'

/** Name of the log's file inside the data directory. */
export const AUDIT_FILE_NAME = 'audit.db'

/** What the log works with. */
export interface AuditLogComponents { clock: Clock, log: Logger, metrics: Metrics }

/** Where the log lies. */
export interface AuditLogInit {
  /** The data directory; exists, and its state lock is held. */
  directory: string
}

const SUMMARY_INTERVAL_MS = 60_000
const DEFAULT_LIST_COUNT = 100
const SALT_STOCK = 64

/** An entry whose bytes are ready but for its number. */
interface PreparedEntry { event: AuditEvent, at: number, salt: Uint8Array, body: Uint8Array }

interface PendingEntry extends PreparedEntry { resolve: () => void, reject: (err: CarrierError) => void }

/** Makes the log; `start` opens its file and throws ERR_DATABASE_CORRUPT or ERR_DATABASE_NEWER when it cannot be used. */
export function createAuditLog (components: AuditLogComponents, init: AuditLogInit): AuditLog {
  const { clock, log } = components
  const path = join(init.directory, AUDIT_FILE_NAME)
  const refusals = createRefusalCounter()
  const counters = createAuditMetrics(components.metrics, () => lastSeq)
  let store: AuditStore | undefined
  let lastSeq = 0
  let isFailing = false
  let pending: PendingEntry[] = []
  /** A commit at the end of this turn is planned. */
  let isFlushPlanned = false
  let lazyTimer: Timer | undefined
  let timer: Timer | undefined
  let salts: Uint8Array = new Uint8Array(0)

  /** Many at once: a call for each costs more than the bytes. */
  function nextSalt (): Uint8Array {
    if (salts.length === 0) salts = new Uint8Array(randomBytes(SALT_STOCK * SALT_BYTES))
    const salt = salts.slice(0, SALT_BYTES)
    salts = salts.subarray(SALT_BYTES)
    return salt
  }

  function prepare (entry: AuditEntry): PreparedEntry {
    let body: Uint8Array
    try {
      body = encodeBody(entry)
    } catch (err) {
      throw auditError(`the entry ${entry.event} cannot be encoded: ${errorMessage(err)}`, err)
    }
    if (body.length > LIMITS.auditBodyBytes) throw auditError(`the entry ${entry.event} has ${body.length} bytes, more than ${LIMITS.auditBodyBytes}`)
    return { event: entry.event, at: Math.floor(clock.now()), salt: nextSalt(), body }
  }

  /** Makes all of `entries` durable, or none and throws ERR_AUDIT. */
  function commit (entries: readonly PreparedEntry[]): void {
    const startedMs = clock.monotonicMs()
    try {
      if (store === undefined) throw new CarrierError('ERR_CLOSED', 'it is closed')
      store.append(entries.map((entry, index) => {
        const seq = lastSeq + 1 + index
        const leaf = encodeLeaf({ seq, at: entry.at, event: entry.event, bodyHash: commitBody(entry.salt, entry.body) })
        return { seq, leaf, salt: entry.salt, body: entry.body }
      }))
    } catch (err) {
      counters.failed.add(entries.length)
      // once per outage: a flood of refusals must not become a flood of log lines
      if (!isFailing) log.error('the audit log cannot be written; accesses are refused until it can', { path, reason: errorMessage(err) })
      isFailing = true
      throw auditError(errorMessage(err), err)
    }
    if (isFailing) log.info('the audit log can be written again', { path })
    isFailing = false
    lastSeq += entries.length
    counters.commitSeconds.observe((clock.monotonicMs() - startedMs) / 1000)
    for (const entry of entries) counters.entries.add(1, { event: entry.event })
  }

  function flush (): void {
    isFlushPlanned = false
    lazyTimer?.cancel()
    lazyTimer = undefined
    const batch = pending
    pending = []
    if (batch.length === 0) return
    try {
      commit(batch)
    } catch (err) {
      for (const entry of batch) entry.reject(toCarrierError(err, 'ERR_AUDIT'))
      return
    }
    for (const entry of batch) entry.resolve()
  }

  async function record (entry: AuditEntry): Promise<void> {
    if (store === undefined) throw auditError('it is closed')
    if (pending.length >= LIMITS.auditPendingCount) {
      counters.failed.add()
      throw auditError(`${LIMITS.auditPendingCount} entries are waiting already`)
    }
    const prepared = prepare(entry)
    await new Promise<void>((resolve, reject) => {
      pending.push({ ...prepared, resolve, reject })
      if (isFlushPlanned) return
      if (entry.event === 'conn.close') {
        // nobody waits for it: the next entry that somebody waits for brings it along
        lazyTimer ??= clock.setTimer(flush, LIMITS.auditCloseDelayMs)
        return
      }
      // the end of this turn of the event loop: what arrives until then shares the transaction
      isFlushPlanned = true
      setImmediate(flush)
    })
  }

  /** Writes what was only counted; what cannot be written stays counted for the next try. */
  function writeSummary (): void {
    try {
      const entries = refusals.summary()
      if (entries.length > 0) commit(entries.map(prepare))
      refusals.reset()
    } catch (err) {
      log.debug('the summary of refusals waits for the audit log', { reason: errorMessage(err) })
    }
  }

  function tick (): void {
    writeSummary()
    timer = clock.setTimer(tick, SUMMARY_INTERVAL_MS)
  }

  return {
    record,
    recordRefusal: (entry) => {
      if (!refusals.admit(entry.device)) {
        counters.summarised.add()
        return
      }
      record(entry).catch((err: unknown) => {
        // the peer was refused anyway; commit has counted the loss and told the operator
        log.debug('a refusal could not be recorded', { reason: errorMessage(err) })
      })
    },
    countStranger: (peerId) => {
      refusals.countStranger(peerId)
      counters.strangers.add()
    },
    list: (options = {}) => {
      if (store === undefined) throw auditError('it is closed')
      const limit = Math.min(Math.max(0, options.limit ?? DEFAULT_LIST_COUNT), LIMITS.auditListCount)
      return store.list(limit, options.beforeSeq)
    },
    start: async () => {
      if (store !== undefined) return
      store = openAuditStore(path)
      lastSeq = store.lastSeq()
      timer = clock.setTimer(tick, SUMMARY_INTERVAL_MS)
    },
    stop: async () => {
      if (store === undefined) return
      timer?.cancel()
      flush()
      writeSummary()
      store.close()
      store = undefined
    }
  }
}

function auditError (reason: string, cause?: unknown): CarrierError {
  return new CarrierError('ERR_AUDIT', `the audit log cannot be written: ${reason}; nothing is served that cannot be recorded: check the disk of the data directory`,
    cause === undefined ? {} : { cause })
}
