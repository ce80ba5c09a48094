/**
 * Which of the listed relays hold our reservations, and in which order relays are dialled through. Pure.
 *
 * A relay costs its round trip, more when it is nearly full and more when it lost us of late. What is chosen stays chosen
 * until another one is clearly better, so equals never take turns.
 */

/** What is known of one relay. */
export interface RelayFacts {
  peerId: string
  /** It is one of the chosen now. */
  isChosen: boolean
  /** `unknown`: no attempt has ended yet. `down`: the last one failed, or the reservation was lost. */
  health: 'unknown' | 'up' | 'down'
  /** Smoothed round trip, milliseconds. */
  rttMs: number | undefined
  /** How full it says it is. */
  loadPermille: number | undefined
  /** Reservations lost within LIMITS.relayLossMemoryMs. */
  lossCount: number
  /** It said that it will stop. */
  isDraining: boolean
  /** It takes reservations and does not forward. */
  isLying: boolean
}

/** Below this load a relay is as good as an empty one. */
const BUSY_PERMILLE = 500
/** Counts with every round trip: between relays next door other things matter. */
const BASE_MS = 20
/** So much cheaper, and by so many milliseconds, is another one to take the place of a chosen one. */
const KEPT_SHARE = 0.7
const KEPT_MS = 10
/** A relay whose round trip nobody has measured, when it is not chosen. */
const UNMEASURED_MS = 10_000

/** What using the relay costs, in milliseconds of a round trip. */
export function relayCostMs (facts: Pick<RelayFacts, 'rttMs' | 'loadPermille' | 'lossCount'>): number {
  const over = Math.max(0, (facts.loadPermille ?? 0) - BUSY_PERMILLE) / (1000 - BUSY_PERMILLE)
  return ((facts.rttMs ?? UNMEASURED_MS) + BASE_MS) * (1 + 4 * over * over) * (1 + 0.5 * facts.lossCount)
}

/** The `wantedCount` best, in the order of the list where they are equals. */
export function chooseRelays (relays: readonly RelayFacts[], wantedCount: number): ReadonlySet<string> {
  const ranked = relays
    .map((facts) => ({ facts, rank: rankOf(facts), costMs: facts.isChosen ? keptCostMs(facts) : relayCostMs(facts) }))
    // the sort is stable: equals stay in the order of the list
    .sort((one, other) => one.rank - other.rank || one.costMs - other.costMs)
  return new Set(ranked.slice(0, wantedCount).map(({ facts }) => facts.peerId))
}

/** All relays, the one to dial through first at the front: those with a reservation, then the cheaper ones; small differences do not count. */
export function dialOrder<Facts extends RelayFacts & { isReserved: boolean }> (relays: readonly Facts[]): Facts[] {
  const step = (facts: Facts): number => Math.round(2 * Math.log2(relayCostMs(facts) / BASE_MS))
  return [...relays].sort((one, other) => rankOf(one) - rankOf(other) || Number(other.isReserved) - Number(one.isReserved) || step(one) - step(other))
}

/** Worse in kind, whatever it costs. */
function rankOf (facts: RelayFacts): number {
  if (facts.isLying) return 3
  if (facts.health === 'down') return 2
  return facts.isDraining ? 1 : 0
}

/** A chosen one of which nothing is known yet keeps its place. */
function keptCostMs (facts: RelayFacts): number {
  return facts.rttMs === undefined ? 0 : Math.max(0, relayCostMs(facts) * KEPT_SHARE - KEPT_MS)
}
