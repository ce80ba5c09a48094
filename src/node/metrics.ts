/** Metrics of the node; names are listed in ARCHITECTURE.md. */
import type { CounterMetric, GaugeMetric, Metrics } from '../base/index.ts'

/** All metrics of this folder. */
export interface NodeMetrics {
  /** Inbound connections and streams that were turned away, by reason. */
  refusals: CounterMetric
  /** Auth handshakes by result (ok or an ERR_ code). */
  auths: CounterMetric
  /** Attempts to reach a device, by result. */
  dials: CounterMetric
  /** Attempts to reserve at a relay, by result. */
  relayAttempts: CounterMetric
  /** Circuits to ourselves through a relay, by what they showed. */
  relayProbes: CounterMetric
  /** Streams handed to handlers and opened by us. */
  streams: CounterMetric
  openStreams: GaugeMetric
  /** Legs of splices: opened by us, accepted from others, refused, or an ERR_ code. */
  splices: CounterMetric
  /** Sockets at the link port: taken, or why they were closed. */
  linkSockets: CounterMetric
  /** Attempts to map the ports at the router: ok, or failed. */
  portMaps: CounterMetric
  /** Queries and answers on the local network, by what came of them. */
  lanQueries: CounterMetric
}

/** Live counts for gauges. */
export interface NodeGauges { connections: () => number, strangers: () => number, reserved: () => number, leaving: () => number, loadPermille: () => number }

/** Registers the metrics. */
export function createNodeMetrics (metrics: Metrics, gauges: NodeGauges): NodeMetrics {
  metrics.gauge('carrier_node_authenticated_connections', 'Open connections that passed auth.', [], gauges.connections)
  metrics.gauge('carrier_node_stranger_connections', 'Open inbound connections of devices that are no friends.', [], gauges.strangers)
  metrics.gauge('carrier_node_reserved_relays', 'Relays that hold a reservation of this node.', [], gauges.reserved)
  metrics.gauge('carrier_node_leaving_relays', 'Relays that said that they stop, or that do not forward.', [], gauges.leaving)
  metrics.gauge('carrier_node_relay_load_permille', 'Load of the fullest relay that holds a reservation of this node, as it says.', [], gauges.loadPermille)
  return {
    refusals: metrics.counter('carrier_node_refusals_total', 'Connections and streams that were refused.', ['reason']),
    auths: metrics.counter('carrier_node_auth_total', 'Auth handshakes.', ['result']),
    dials: metrics.counter('carrier_node_dials_total', 'Attempts to reach a device.', ['result']),
    relayAttempts: metrics.counter('carrier_node_relay_attempts_total', 'Attempts to reserve at a relay.', ['result']),
    relayProbes: metrics.counter('carrier_node_relay_probes_total', 'Circuits of this node to itself, by what they showed of the relay.', ['result']),
    streams: metrics.counter('carrier_node_streams_total', 'Carrier streams.', ['direction']),
    openStreams: metrics.gauge('carrier_node_open_streams', 'Carrier streams that are open now.'),
    splices: metrics.counter('carrier_node_splices_total', 'Splice legs by result.', ['result']),
    linkSockets: metrics.counter('carrier_node_link_sockets_total', 'Sockets that came to the link port, by result.', ['result']),
    portMaps: metrics.counter('carrier_node_port_maps_total', 'Attempts to map the ports at the router, by result.', ['result']),
    lanQueries: metrics.counter('carrier_node_lan_queries_total', 'Queries for friends and answers on the local network, by what came of them.', ['result'])
  }
}
