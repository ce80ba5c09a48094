/** What the hop server counts. Labels are status and reason words, never a peer. */
import type { CounterMetric, Metrics } from '../base/index.ts'

/** Counters of the hop server. */
export interface HopMetrics {
  reservationRequests: CounterMetric
  connectRequests: CounterMetric
  failedHandshakes: CounterMetric
  refusedHandshakes: CounterMetric
  endedCircuits: CounterMetric
  quotaRefusals: CounterMetric
  bytes: CounterMetric
}

/** Where the gauges read. */
export interface HopGauges { reservations: () => number, circuits: () => number, bufferedBytes: () => number, pendingHandshakes: () => number }

/** Registers the hop server's metrics. */
export function createHopMetrics (metrics: Metrics, gauges: HopGauges): HopMetrics {
  metrics.gauge('carrier_relay_reservations_count', 'Reservations held now.', [], gauges.reservations)
  metrics.gauge('carrier_relay_circuits_count', 'Circuits running now.', [], gauges.circuits)
  metrics.gauge('carrier_relay_buffered_bytes', 'Bytes of circuits that wait in the relay now.', [], gauges.bufferedBytes)
  metrics.gauge('carrier_relay_pending_handshakes_count', 'Hop streams whose request is not answered yet.', [], gauges.pendingHandshakes)
  return {
    reservationRequests: metrics.counter('carrier_relay_reservation_requests_total', 'RESERVE requests by answered status.', ['status']),
    connectRequests: metrics.counter('carrier_relay_connect_requests_total', 'CONNECT requests by answered status.', ['status']),
    failedHandshakes: metrics.counter('carrier_relay_failed_handshakes_total', 'Hop streams reset because their request was malformed, late or lost.'),
    refusedHandshakes: metrics.counter('carrier_relay_refused_handshakes_total', 'Hop streams reset because too many were waiting.'),
    endedCircuits: metrics.counter('carrier_relay_ended_circuits_total', 'Circuits by how they ended.', ['reason']),
    quotaRefusals: metrics.counter('carrier_relay_quota_refusals_total', 'Reservations, circuits and splices refused because a quota is used up, by quota and whose it is.', ['quota', 'class']),
    bytes: metrics.counter('carrier_relay_forwarded_bytes_total', 'Bytes forwarded by circuits, both directions.')
  }
}
