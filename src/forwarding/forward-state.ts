/** The states of a forward and what moves it: pure. "Active" is said only with a proof that is newer than the last failure. */
import type { ErrorCode } from '../base/index.ts'

/** Where a forward stands. */
export type ForwardState =
  | { kind: 'connecting' }
  | { kind: 'active', provenAt: number }
  | { kind: 'offline' | 'refused' | 'target-down' | 'error', reason: string }

/** What happens to a forward. */
export type ForwardEvent =
  /** The listener is bound again after it could not be. */
  | { kind: 'listening' }
  /** Nothing can work until somebody acts: the port is taken, the friend is not in the list. */
  | { kind: 'blocked', reason: string }
  /** A probe or a connection got through; `at` is epoch ms. */
  | { kind: 'proven', at: number }
  /** A probe, or opening a session or connection, failed. */
  | { kind: 'failed', code: ErrorCode, reason: string }
  /** The session that carried it is gone. */
  | { kind: 'lost' }

/** Where it begins. */
export const INITIAL_STATE: ForwardState = { kind: 'connecting' }

/** The state after `event`. */
export function nextForwardState (state: ForwardState, event: ForwardEvent): ForwardState {
  switch (event.kind) {
    case 'blocked': return { kind: 'error', reason: event.reason }
    case 'listening': return state.kind === 'error' ? { kind: 'connecting' } : state
    // a forward that cannot listen is in error whatever else works
    case 'proven': return state.kind === 'error' ? state : { kind: 'active', provenAt: event.at }
    case 'lost': return state.kind === 'active' || state.kind === 'target-down' ? { kind: 'connecting' } : state
    case 'failed': return state.kind === 'error' ? state : failed(event.code, event.reason)
  }
}

/** True for codes that say something about the forward, and not only about the one connection that they ended. */
export function concernsForward (code: ErrorCode): boolean {
  return code === 'ERR_NOT_AVAILABLE' || code === 'ERR_REVOKED' || code === 'ERR_TARGET_UNREACHABLE' || code === 'ERR_INTERNAL' || code === 'ERR_UNSUPPORTED_VERSION'
}

/** How long the next probe waits: a growing delay, slower where only a person on the other side can change it. */
export type RetryPace = 'none' | 'now' | 'normal' | 'slow'

/** The pace of probes in a state. */
export function retryPace (state: ForwardState): RetryPace {
  switch (state.kind) {
    case 'active': return 'none'
    case 'connecting': return 'now'
    case 'refused': return 'slow'
    case 'offline':
    case 'target-down':
    case 'error': return 'normal'
  }
}

function failed (code: ErrorCode, reason: string): ForwardState {
  switch (code) {
    case 'ERR_NOT_AVAILABLE':
    case 'ERR_REVOKED':
      return { kind: 'refused', reason }
    case 'ERR_TARGET_UNREACHABLE':
    case 'ERR_INTERNAL':
    case 'ERR_LIMIT':
    case 'ERR_PROTOCOL':
    case 'ERR_UNSUPPORTED_VERSION':
      return { kind: 'target-down', reason }
    default:
      return { kind: 'offline', reason }
  }
}
