/** What operators see of sessions. */
import type { CounterMetric, Metrics } from '../base/index.ts'

/** All metrics of the session layer. */
export interface SessionMetrics {
  opened: CounterMetric
  closed: CounterMetric
  handshakeRefused: CounterMetric
  violations: CounterMetric
  channelsOpened: CounterMetric
  channelsRefused: CounterMetric
  bytes: CounterMetric
}

/** Registers them. The three functions are asked when somebody reads the metrics. */
export function createSessionMetrics (metrics: Metrics, collect: { sessionCount: () => number, channelCount: () => number, creditBytes: () => number }): SessionMetrics {
  metrics.gauge('carrier_session_count', 'Live sessions', [], collect.sessionCount)
  metrics.gauge('carrier_session_channel_count', 'Open channels of all sessions', [], collect.channelCount)
  metrics.gauge('carrier_session_credit_bytes', 'Credit that is promised to peers or reserved for them', [], collect.creditBytes)
  return {
    opened: metrics.counter('carrier_session_opened_total', 'Sessions that became live'),
    closed: metrics.counter('carrier_session_closed_total', 'Sessions that ended, by error code', ['code']),
    handshakeRefused: metrics.counter('carrier_session_link_refused_total', 'Links that did not become a session, by error code', ['code']),
    violations: metrics.counter('carrier_session_violation_total', 'Sessions and links that a peer ended by breaking the protocol'),
    channelsOpened: metrics.counter('carrier_session_channel_opened_total', 'Channels opened, by the side that opened', ['side']),
    channelsRefused: metrics.counter('carrier_session_channel_refused_total', 'Inbound channels that were refused, by error code', ['code']),
    bytes: metrics.counter('carrier_session_bytes_total', 'Bytes on links, frames included', ['direction'])
  }
}
