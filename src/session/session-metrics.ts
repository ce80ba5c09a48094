/** What operators see of sessions. */
import type { CounterMetric, HistogramMetric, Metrics } from '../base/index.ts'

/** All metrics of the session layer. */
export interface SessionMetrics {
  opened: CounterMetric
  closed: CounterMetric
  handshakeRefused: CounterMetric
  violations: CounterMetric
  channelsOpened: CounterMetric
  channelsRefused: CounterMetric
  bytes: CounterMetric
  linksOpened: CounterMetric
  linksLost: CounterMetric
  linkFailures: CounterMetric
  switches: CounterMetric
  resumes: CounterMetric
  stall: HistogramMetric
  auths: CounterMetric
}

/** Registers them. The three functions are asked when somebody reads the metrics. */
export function createSessionMetrics (metrics: Metrics, collect: { sessionCount: () => number, channelCount: () => number, creditBytes: () => number, lostCount: () => number }): SessionMetrics {
  metrics.gauge('carrier_session_count', 'Live sessions', [], collect.sessionCount)
  metrics.gauge('carrier_session_channel_count', 'Open channels of all sessions', [], collect.channelCount)
  metrics.gauge('carrier_session_credit_bytes', 'Credit that is promised to peers or reserved for them', [], collect.creditBytes)
  metrics.gauge('carrier_session_resuming_count', 'Sessions without a link that wait for one', [], collect.lostCount)
  return {
    opened: metrics.counter('carrier_session_opened_total', 'Sessions that became live'),
    closed: metrics.counter('carrier_session_closed_total', 'Sessions that ended, by error code', ['code']),
    handshakeRefused: metrics.counter('carrier_session_link_refused_total', 'Links that did not become a session, by error code', ['code']),
    violations: metrics.counter('carrier_session_violation_total', 'Sessions and links that a peer ended by breaking the protocol'),
    channelsOpened: metrics.counter('carrier_session_channel_opened_total', 'Channels opened, by the side that opened', ['side']),
    channelsRefused: metrics.counter('carrier_session_channel_refused_total', 'Inbound channels that were refused, by error code', ['code']),
    bytes: metrics.counter('carrier_session_bytes_total', 'Bytes on links, frames included', ['direction']),
    linksOpened: metrics.counter('carrier_session_link_opened_total', 'Links that joined a session, by kind', ['link']),
    linksLost: metrics.counter('carrier_session_link_lost_total', 'Links that were lost while they carried a session, by kind', ['link']),
    linkFailures: metrics.counter('carrier_session_link_failed_total', 'Attempts to open a splice or direct link that failed, by kind and error code', ['link', 'code']),
    switches: metrics.counter('carrier_session_switched_total', 'Planned moves of a session to another link', ['from', 'to']),
    resumes: metrics.counter('carrier_session_resumed_total', 'Sessions that went on after a loss, by the kind of the new link', ['link']),
    stall: metrics.histogram('carrier_session_stall_seconds', 'Time from the loss of a link to the resume', [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60]),
    auths: metrics.counter('carrier_session_auth_total', 'Auth exchanges inside of sessions, by result: ok, or the error code with which the session ended', ['result'])
  }
}
