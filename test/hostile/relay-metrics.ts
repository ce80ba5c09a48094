/** What a relay counted of its refusals, read from /metrics as an operator does. */
import type { Refusals } from './ground.ts'

/** As the attackers count them, so that both can be compared. */
export type RelayRefusals = Refusals

/** What each kind of refusal is counted by. */
const COUNTED_BY: Record<keyof RelayRefusals, readonly RegExp[]> = {
  sockets: [/^carrier_relay_refused_connections_total/],
  spliceSockets: [/^carrier_relay_refused_splice_sockets_total/, /^carrier_relay_failed_splice_pairs_total/],
  muxers: [/^carrier_relay_broken_connections_total/],
  reservations: [/^carrier_relay_reservation_requests_total\{status="(?!OK")/]
}

/** Reads the metrics of the relay whose health listener is at HOST:PORT. `pending`: connections that have no proven key yet. */
export async function sumMetrics (health: string): Promise<{ refusals: RelayRefusals, pending: number }> {
  const lines = (await (await fetch(`http://${health}/metrics`)).text()).split('\n')
  const sum = (patterns: readonly RegExp[]): number => {
    return lines.filter((line) => patterns.some((pattern) => pattern.test(line))).reduce((total, line) => total + Number(line.split(' ').at(-1)), 0)
  }
  return {
    refusals: { sockets: sum(COUNTED_BY.sockets), spliceSockets: sum(COUNTED_BY.spliceSockets), muxers: sum(COUNTED_BY.muxers), reservations: sum(COUNTED_BY.reservations) },
    pending: sum([/^carrier_relay_pending_connections_count /])
  }
}
