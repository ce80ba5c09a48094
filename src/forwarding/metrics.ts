/** What forwarding counts. Labels are results and directions, never names of people or services. */
import type { CounterMetric, GaugeMetric, Metrics } from '../base/index.ts'

/** The metrics of both halves. */
export interface ForwardingMetrics {
  serviceConnections: CounterMetric
  serviceConnectionsOpen: GaugeMetric
  serviceProbes: CounterMetric
  serviceLists: CounterMetric
  serviceBytes: CounterMetric
  forwardConnections: CounterMetric
  forwardConnectionsOpen: GaugeMetric
  forwardProbes: CounterMetric
  forwardDials: CounterMetric
  forwardBytes: CounterMetric
}

/** Registers them. */
export function createForwardingMetrics (metrics: Metrics, collect: { services: () => number, forwards: () => number, activeForwards: () => number }): ForwardingMetrics {
  metrics.gauge('carrier_service_count', 'Services offered', [], collect.services)
  metrics.gauge('carrier_forward_count', 'Forwards', [], collect.forwards)
  metrics.gauge('carrier_forward_active_count', 'Forwards that are proven to work end to end', [], collect.activeForwards)
  return {
    serviceConnections: metrics.counter('carrier_service_connections_total', 'Connections that friends asked for, by result', ['result']),
    serviceConnectionsOpen: metrics.gauge('carrier_service_connections_open_count', 'Connections of friends to services now'),
    serviceProbes: metrics.counter('carrier_service_probes_total', 'Probes that friends sent, by result', ['result']),
    serviceLists: metrics.counter('carrier_service_lists_total', 'Times that friends asked what they may dial, by result', ['result']),
    serviceBytes: metrics.counter('carrier_service_bytes_total', 'Bytes between friends and services; in is from the friend', ['direction']),
    forwardConnections: metrics.counter('carrier_forward_connections_total', 'Local connections to forwards, by result', ['result']),
    forwardConnectionsOpen: metrics.gauge('carrier_forward_connections_open_count', 'Local connections to forwards now'),
    forwardProbes: metrics.counter('carrier_forward_probes_total', 'Probes of forwards, by result', ['result']),
    forwardDials: metrics.counter('carrier_forward_dials_total', 'Pipes opened without a forward'),
    forwardBytes: metrics.counter('carrier_forward_bytes_total', 'Bytes through forwards; in is from the friend', ['direction'])
  }
}
