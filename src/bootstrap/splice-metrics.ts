/** What the splice server counts. Labels are result and reason words, never a peer. */
import type { CounterMetric, Metrics } from '../base/index.ts'

/** Counters of the splice server. */
export interface SpliceMetrics {
  requests: CounterMetric
  failedPairs: CounterMetric
  refusedSockets: CounterMetric
  joined: CounterMetric
  ended: CounterMetric
  bytes: CounterMetric
}

/** Where the gauges read. */
export interface SpliceGauges { splices: () => number, bufferedBytes: () => number, bufferBytes: () => number, pairs: () => number, waiting: () => number }

/** Registers the splice server's metrics. */
export function createSpliceMetrics (metrics: Metrics, gauges: SpliceGauges): SpliceMetrics {
  metrics.gauge('carrier_relay_splices_count', 'Splices running now.', [], gauges.splices)
  metrics.gauge('carrier_relay_splice_buffered_bytes', 'Bytes of splices that wait in the relay now.', [], gauges.bufferedBytes)
  metrics.gauge('carrier_relay_splice_buffer_bytes', 'Large read buffers that splices hold now.', [], gauges.bufferBytes)
  metrics.gauge('carrier_relay_splice_pairs_count', 'Splices whose legs have not both come.', [], gauges.pairs)
  metrics.gauge('carrier_relay_splice_waiting_sockets_count', 'Sockets at the splice port that have not shown a ticket.', [], gauges.waiting)
  return {
    requests: metrics.counter('carrier_relay_splice_requests_total', 'Requests for splices by answer.', ['result']),
    failedPairs: metrics.counter('carrier_relay_failed_splice_pairs_total', 'Splices whose legs did not both come, by reason.', ['reason']),
    refusedSockets: metrics.counter('carrier_relay_refused_splice_sockets_total', 'Sockets at the splice port that were closed without a word, by reason.', ['reason']),
    joined: metrics.counter('carrier_relay_splices_total', 'Splices by how they copy.', ['copy']),
    ended: metrics.counter('carrier_relay_ended_splices_total', 'Splices by how they ended.', ['reason']),
    bytes: metrics.counter('carrier_relay_spliced_bytes_total', 'Bytes forwarded by splices, both directions.')
  }
}
