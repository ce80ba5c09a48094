/** Why a session is not on a better link, in words for people. Pure. */
import type { LinkKind, PathReason } from './types.ts'

/** What is known of one session. */
export interface PathFacts {
  link: LinkKind
  isController: boolean
  /** A better link is opened for sessions in use only. */
  isInUse: boolean
  hasFeature: (feature: 'direct' | 'punch') => boolean
  canDial: boolean
  canPunch: boolean
  /** The relay of the session offers splices; undefined when none carries it. */
  canSplice: boolean | undefined
  /** What is being opened now. */
  isOpening: (way: PathReason['way']) => boolean
  /** What came of the last attempts; times are milliseconds from now. */
  lastFailure: Partial<Record<PathReason['way'], string | undefined>>
  nextTryMs: (way: PathReason['way']) => number
}

/** One reason for each way that would be better than the link in use; none when there is no better one. */
export function pathReasons (facts: PathFacts): PathReason[] {
  if (facts.link === 'direct') return []
  const reasons: PathReason[] = [dialReason(facts), punchReason(facts)]
  if (facts.link === 'stream') reasons.push(spliceReason(facts))
  return reasons
}

function dialReason (facts: PathFacts): PathReason {
  const reason = impossible('dial')
  if (!facts.hasFeature('direct')) return reason('the release of the other side cannot')
  if (!facts.canDial) return reason('neither side has an address that the other could dial: a node listens on nothing unless it is told to (--listen)')
  return attempted(facts, 'dial')
}

function punchReason (facts: PathFacts): PathReason {
  const reason = impossible('punch')
  if (!facts.hasFeature('punch')) return reason('the release of the other side cannot')
  if (!facts.canPunch) return reason('not from here: it is switched off (punch = false), or no relay tells where this node is seen (no data port at it, a proxy in between, or it is on this machine)')
  if (!facts.isController) return reason('the other side makes the attempts; ask there')
  return attempted(facts, 'punch')
}

function spliceReason (facts: PathFacts): PathReason {
  const reason = impossible('splice')
  if (facts.canSplice === undefined) return reason('no relay carries the session')
  if (!facts.canSplice) return reason('the relay offers no splices, or its data port cannot be reached')
  if (!facts.isController) return reason('the other side makes the attempts; ask there')
  return attempted(facts, 'splice')
}

function impossible (way: PathReason['way']): (text: string) => PathReason {
  return (text) => ({ way, state: 'impossible', text, nextTryMs: undefined })
}

function attempted (facts: PathFacts, way: PathReason['way']): PathReason {
  const reason = (state: PathReason['state'], text: string, nextTryMs?: number): PathReason => ({ way, state, text, nextTryMs })
  if (facts.isOpening(way)) return reason('trying', 'it is being tried now')
  const failure = facts.lastFailure[way]
  if (failure !== undefined) return reason('failed', failure, facts.isInUse ? Math.max(0, facts.nextTryMs(way)) : undefined)
  return reason('untried', facts.isInUse ? 'it has not been tried yet' : 'nobody uses the session: a better way is opened when somebody does')
}
