/** What operators can watch of the friend list. */
import type { CounterMetric, Metrics } from '../base/index.ts'
import type { Directory } from './directory.ts'
import type { NospamGuard } from './nospam-guard.ts'
import type { FriendStore } from './store.ts'

/** Counters that the parts of the friend list add to. */
export interface FriendMetrics {
  messages: CounterMetric
  deliveries: CounterMetric
  droppedRequests: CounterMetric
}

/** Registers the metrics. */
export function createFriendMetrics (metrics: Metrics, sources: { directory: Directory, store: FriendStore, guard: NospamGuard }): FriendMetrics {
  const { directory, store, guard } = sources
  const countFriends = (state: 'friend' | 'requested'): number => directory.list().filter((friend) => friend.state === state).length
  metrics.gauge('carrier_friends_friend_count', 'Friends that both sides agreed on', [], () => countFriends('friend'))
  metrics.gauge('carrier_friends_asked_count', 'Own friend requests without an answer yet', [], () => countFriends('requested'))
  metrics.gauge('carrier_friends_request_count', 'Friend requests of others that are kept, ignored ones included', [], () => store.requests().length)
  metrics.gauge('carrier_friends_blocked_count', 'Blocked DIDs', [], () => directory.blocked().length)
  metrics.gauge('carrier_friends_outbox_count', 'Notices to other owners that are not delivered yet', [], () => store.outboxOwners().length)
  metrics.gauge('carrier_friends_guarded_peer_count', 'Non-friends whose requests are counted against the daily quota', [], () => guard.peerCount)
  return {
    messages: metrics.counter('carrier_friends_messages_received_total', 'Friend messages that were received, by kind and result', ['kind', 'result']),
    deliveries: metrics.counter('carrier_friends_deliveries_total', 'Attempts to deliver a notice, by kind and result', ['kind', 'result']),
    droppedRequests: metrics.counter('carrier_friends_requests_dropped_total', 'Friend requests of non-friends without effect, by reason', ['reason'])
  }
}
