/** What an operator sees of the audit log. */
import type { CounterMetric, HistogramMetric, Metrics } from '../base/index.ts'

/** The metrics of one audit log. */
export interface AuditMetrics {
  entries: CounterMetric
  failed: CounterMetric
  summarised: CounterMetric
  strangers: CounterMetric
  commitSeconds: HistogramMetric
}

/** Registers the metrics; `lastSeq` is asked when they are read. */
export function createAuditMetrics (metrics: Metrics, lastSeq: () => number): AuditMetrics {
  metrics.gauge('carrier_audit_stored_entries', 'Entries in the audit log.', [], lastSeq)
  return {
    entries: metrics.counter('carrier_audit_entries_total', 'Entries made durable since the start, by event.', ['event']),
    failed: metrics.counter('carrier_audit_failed_entries_total', 'Entries that could not be written; what they stood for was refused.'),
    summarised: metrics.counter('carrier_audit_summarised_refusals_total', 'Refusals of friends that were counted in a summary instead of stored singly.'),
    strangers: metrics.counter('carrier_audit_stranger_refusals_total', 'Refusals of strangers, stored in one entry a minute.'),
    commitSeconds: metrics.histogram('carrier_audit_commit_seconds', 'Time of one durable commit.', [0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2])
  }
}
