/** When to try a relay again and why it failed, in plain words. Pure. */
import { backoffMs, CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import type { RelayStatus } from './types.ts'

/** Delay before the next attempt: quick at first, ≤ 2 s for the first two minutes of an outage, then ≤ 10 s; jitter included. */
export function relayRetryMs (failure: { attempt: number, downForMs: number }, random: () => number): number {
  const capMs = failure.downForMs < LIMITS.relayRetryLongAfterMs ? LIMITS.relayRetryMaxMs : LIMITS.relayRetryLongMs
  // the jitter of ±25 % stays below the cap
  return backoffMs({ firstMs: LIMITS.relayRetryFirstMs, maxMs: capMs / 1.25, factor: 1.5 }, failure.attempt, random)
}

/** State and reason for `carrier status`. */
export interface RelayFailure { state: Extract<RelayStatus['state'], 'unreachable' | 'refused'>, reason: string }

/** What a failed attempt means. `refused`: it answers but does not take us. */
export function explainRelayFailure (err: unknown): RelayFailure {
  const upstream = flatten(err).find((one) => one instanceof CarrierError && (one.code === 'ERR_PROXY' || one.code === 'ERR_CERTIFICATE'))
  if (upstream !== undefined) return { state: 'unreachable', reason: errorMessage(upstream) }
  // what the relay itself said when it was asked, see relay-quota.ts
  const told = flatten(err).find((one) => one instanceof CarrierError && (one.code === 'ERR_QUOTA' || one.code === 'ERR_LIMIT'))
  if (told !== undefined) return { state: 'refused', reason: errorMessage(told) }
  const text = flatten(err).map((one) => `${nameOf(one)} ${errorMessage(one)}`).join('; ')
  for (const { pattern, state, reason } of FAILURES) if (pattern.test(text)) return { state, reason }
  return { state: 'unreachable', reason: `it could not be reached: ${errorMessage(err)}` }
}

const FAILURES: ReadonlyArray<RelayFailure & { pattern: RegExp }> = [
  { pattern: /RESERVATION_REFUSED|RESOURCE_LIMIT_EXCEEDED/, state: 'refused', reason: 'the relay is full, a quota of this device is used up there, or it does not accept this device; ask its operator' },
  { pattern: /PERMISSION_DENIED/, state: 'refused', reason: 'the relay does not accept this device; ask its operator' },
  { pattern: /UnsupportedProtocolError/, state: 'refused', reason: 'the node at this address is no relay' },
  { pattern: /does not match expected|UnexpectedPeerError|identity key/i, state: 'refused', reason: 'another key answers at this address; check the /p2p/ part of the relay address' },
  { pattern: /ECONNREFUSED/, state: 'unreachable', reason: 'nothing listens at its address (connection refused)' },
  { pattern: /ENOTFOUND|EAI_AGAIN/, state: 'unreachable', reason: 'its name does not resolve; check the address and the network' },
  { pattern: /ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL/, state: 'unreachable', reason: 'there is no route to it; check the network' },
  { pattern: /DialDeniedError|NoValidAddressesError/, state: 'unreachable', reason: 'its address has no transport that this node can use' },
  { pattern: /TimeoutError|AbortError|ERR_TIMEOUT|ETIMEDOUT|timed out|aborted|no answer/i, state: 'unreachable', reason: 'no answer; check the address, the network and firewalls' },
  { pattern: /ECONNRESET|EncryptionFailed|closed|reset|lost/i, state: 'unreachable', reason: 'the connection broke while it was set up' }
]

function nameOf (err: unknown): string {
  return err instanceof Error ? `${err.name} ${'code' in err ? String(err.code) : ''}` : ''
}

function flatten (err: unknown): unknown[] {
  const inner = err instanceof AggregateError ? err.errors.flatMap(flatten) : []
  const cause = err instanceof Error && err.cause !== undefined ? flatten(err.cause) : []
  return [err, ...inner, ...cause]
}
