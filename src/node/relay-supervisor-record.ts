/** What the supervisor keeps of each relay, and what follows from it. */
import type { Listener } from '@libp2p/interface'
import { backoffMs, LIMITS } from '../base/index.ts'
import { addressesOf } from './relay-address.ts'
import type { RelayAddress } from './relay-address.ts'
import type { RelayFacts } from './relay-choice.ts'
import type { RelayFailure } from './relay-plan.ts'
import { describeQuota } from './relay-quota.ts'
import type { UsedUpQuota } from './relay-quota-messages.ts'
import { createRelayTrust } from './relay-probe.ts'
import type { SeenRelay } from './relay-supervisor-look.ts'
import type { RelayStatus } from './types.ts'

/** The reason that is shown while a relay drains. */
export const DRAINING = 'the relay is about to stop'

/** The reason of a relay that stands by: given up of our own accord, another relay is better. */
export const RELEASED = 'other relays are nearer or less busy; it is taken when one of them is lost'

/** Two times that differ by less are one: a relay tells the rest of the day, which travels for a while. */
const SAME_TIME_MS = 60_000

/** Losses that are remembered; more make it no worse. */
const LOSS_COUNT = 8

/** Mutable record of one relay. */
export interface KeptRelay extends SeenRelay {
  /** The one of its addresses at which it was reached last. */
  reachedAt: RelayAddress | undefined
  listener: Listener | undefined
  /** What is done now; `abort` ends a pause or an attempt early. */
  turn: { kind: 'attempt' | 'pause', sinceMs: number, abort: () => void } | undefined
  /** While it holds a reservation: gives it up. */
  release: (() => void) | undefined
  /** Attempts since the relay was lost or the network changed. */
  attemptCount: number
  downSinceMs: number
  /** When the network changed and the next attempt still has to come; a loss that follows has no pause. */
  changedAtMs: number | undefined
  health: RelayFacts['health']
  /** It answers and holds no reservation for us: until `untilMs` it counts as down, however well it is measured. */
  refusal: { untilMs: number, count: number, failure: RelayFailure } | undefined
  /** When reservations were lost of late. */
  lostAtMs: number[]
  /** Until when it drains. */
  drainsUntilMs: number | undefined
  trust: SeenRelay['trust']
}

/** A relay of which nothing is known. */
export function createKeptRelay (relay: RelayAddress): KeptRelay {
  return {
    relay,
    reachedAt: undefined,
    status: { peerId: relay.peerId, address: relay.text, state: 'connecting', rttMs: undefined, loadPermille: undefined, isChosen: false, reason: 'no attempt yet' },
    listener: undefined,
    turn: undefined,
    release: undefined,
    attemptCount: 0,
    downSinceMs: 0,
    changedAtMs: undefined,
    health: 'unknown',
    refusal: undefined,
    lostAtMs: [],
    drainsUntilMs: undefined,
    trust: createRelayTrust(),
    lyingSinceMs: 0,
    usedUp: undefined
  }
}

/** At which addresses it is worth a try: the one that answers, or all while none does. */
export function usefulAddresses (item: Pick<KeptRelay, 'relay' | 'reachedAt' | 'health'>): RelayAddress[] {
  return item.reachedAt !== undefined && item.health === 'up' ? [item.reachedAt] : addressesOf(item.relay)
}

/** What the choice is made from. */
export function factsOf (item: KeptRelay, nowMs: number): RelayFacts & { isReserved: boolean, addresses: readonly RelayAddress[] } {
  return {
    addresses: usefulAddresses(item),
    peerId: item.relay.peerId,
    isChosen: item.status.isChosen,
    isReserved: item.status.state === 'reserved',
    health: isRefusing(item, nowMs) ? 'down' : item.health,
    rttMs: item.status.rttMs,
    loadPermille: item.status.loadPermille,
    lossCount: item.lostAtMs.filter((atMs) => nowMs - atMs < LIMITS.relayLossMemoryMs).length,
    // with nothing left to send today it is as good as one that stops
    isDraining: item.drainsUntilMs !== undefined || isSpent(item, nowMs),
    isLying: item.trust.lie !== undefined
  }
}

/** State and reason of a relay that holds a reservation. */
export function stateWhileReserved (item: KeptRelay): Pick<RelayStatus, 'state' | 'reason'> {
  if (item.trust.lie !== undefined) return { state: 'unreachable', reason: item.trust.lie }
  return { state: 'reserved', reason: item.drainsUntilMs === undefined ? item.usedUp?.words : DRAINING }
}

/** Notes what the relay says of our quota of circuits there; undefined: nothing is used up. Times: monotonic and wall clock, ms. */
export function noteUsedUp (item: KeptRelay, quota: UsedUpQuota | undefined, nowMs: number, wallMs: number): void {
  if (quota === undefined) {
    item.usedUp = undefined
    return
  }
  const known = item.usedUp
  const untilMs = nowMs + quota.retryMs
  // the same again: its words stay, or each look would be news
  const words = known?.quota === quota.quota && Math.abs(known.untilMs - untilMs) < SAME_TIME_MS ? known.words : describeQuota(quota, wallMs)
  item.usedUp = { quota: quota.quota, untilMs, words }
}

/** True while circuits over it are refused for a long time: what we may send there in a day is used up. */
export function isSpent (item: KeptRelay, nowMs: number): boolean {
  return item.usedUp?.quota === 'bytes_per_day' && nowMs < item.usedUp.untilMs
}

/** The reservation was lost. */
export function noteDown (item: KeptRelay, nowMs: number): void {
  item.health = 'down'
  // a relay that said goodbye has not failed us
  if (item.drainsUntilMs === undefined) item.lostAtMs = [...item.lostAtMs.filter((atMs) => nowMs - atMs < LIMITS.relayLossMemoryMs), nowMs].slice(-LOSS_COUNT)
}

/** It took no reservation, or dropped it at once. What answers is measured as well as any other relay: only this keeps us from asking it again and again. */
export function noteRefusal (item: KeptRelay, failure: RelayFailure, nowMs: number, random: () => number): void {
  const count = item.refusal?.count ?? 0
  item.refusal = { untilMs: nowMs + backoffMs({ firstMs: LIMITS.relayRefusalFirstMs, maxMs: LIMITS.relayRefusalMaxMs, factor: 2 }, count, random), count: count + 1, failure }
}

/** True while it counts as down although it answers. */
export function isRefusing (item: KeptRelay, nowMs: number): boolean {
  return item.status.state !== 'reserved' && item.refusal !== undefined && nowMs < item.refusal.untilMs
}

/** State and reason of a relay that was just measured and holds no reservation. */
export function stateWhileMeasured (item: KeptRelay, nowMs: number): Pick<RelayStatus, 'state' | 'reason'> {
  if (item.trust.lie !== undefined) return { state: 'unreachable', reason: item.trust.lie }
  return item.refusal !== undefined && isRefusing(item, nowMs) ? item.refusal.failure : { state: 'standby', reason: RELEASED }
}
