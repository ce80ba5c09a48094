/** Which link should carry a session, which ones are of no use, and which one to open next. Pure. */
import { LIMITS } from '../base/index.ts'
import type { LinkKind } from './types.ts'

/** What a link is, as far as it matters here. */
export interface LinkFacts { readonly kind: LinkKind, readonly relayPeerId: string | undefined }

/** One of the session's links. `wear`: how much its keys have served, of what they may; 0 when absent. */
export interface HeldLink { readonly link: LinkFacts, readonly wear?: number }

/** What decides. */
export interface LinkChoiceFacts<Held extends HeldLink> {
  /** Oldest first. */
  links: readonly Held[]
  /** The one in use. */
  sending: Held
  /** Nobody used the session for long. */
  isIdle: boolean
  /** The relay stops soon, or does not forward. */
  isLeaving: (relayPeerId: string) => boolean
}

/** How a link is opened. `stream`: there is none. `spare`: a stream over another relay than that of the link in use. */
export type LinkWay = 'stream' | 'spare' | 'dial' | 'splice'

/** The better, the higher. */
const RANK: Readonly<Record<LinkKind, number>> = { stream: 1, splice: 2, direct: 3 }
/** Whatever it is, a link that stays is better. */
const LEAVING_RANK = -3
/** A fresh link of the same kind is better than one whose keys have served their time; at twice as many bytes any other one is. */
const WORN_RANK = -0.5
/** From here on a fresh link may join beside it: the other end may count a little faster. */
const AGEING = 0.75

function wearOf (held: HeldLink): number {
  return held.wear ?? 0
}

/** True when the keys of the link serve for a good while yet: another one like it is of no use. */
export function servesOn (held: HeldLink): boolean {
  return wearOf(held) < AGEING
}

/** True when the link runs over a relay that is leaving. */
export function isLeavingLink ({ link }: HeldLink, isLeaving: LinkChoiceFacts<HeldLink>['isLeaving']): boolean {
  return link.relayPeerId !== undefined && isLeaving(link.relayPeerId)
}

/** The link that should carry the session; the one in use unless another one is better. */
export function bestLink<Held extends HeldLink> ({ links, sending, isIdle, isLeaving }: LinkChoiceFacts<Held>): Held {
  const rank = (held: Held): number => (isIdle && held.link.kind === 'stream' ? RANK.direct + 1 : RANK[held.link.kind]) + (isLeavingLink(held, isLeaving) || wearOf(held) >= 2 ? LEAVING_RANK : wearOf(held) >= 1 ? WORN_RANK : 0)
  let best = sending
  for (const held of links) if (rank(held) > rank(best)) best = held
  // an idle session without a stream that stays has nothing to go back to
  return best
}

/** Links that are closed while `sending`, the best one, is in use. A spare stream is kept: over another relay, if there is one. */
export function uselessLinks<Held extends HeldLink> ({ links, sending, isIdle, isLeaving }: LinkChoiceFacts<Held>): Held[] {
  if (isLeavingLink(sending, isLeaving)) return []
  const others = links.filter((held) => held !== sending)
  const streams = others.filter(({ link }) => link.kind === 'stream')
  const value = (held: Held): number => Number(!isLeavingLink(held, isLeaving)) * 2 + Number(held.link.relayPeerId !== sending.link.relayPeerId)
  let spare: Held | undefined
  for (const held of streams) if (spare === undefined || value(held) > value(spare)) spare = held
  // a session that moved to another stream waits for nothing, and an idle one gains nothing by a second
  if (spare !== undefined && sending.link.kind === 'stream' && (isIdle || isLeavingLink(spare, isLeaving))) spare = undefined
  return others.filter((held) => held !== spare)
}

/** True when one more link like this is of no use beside those that there are: the same kind over the same relay, or too many. */
export function isSecondLink (links: readonly HeldLink[], link: LinkFacts): boolean {
  const alike = links.filter((held) => held.link.kind === link.kind && servesOn(held))
  return alike.length >= LIMITS.sessionLinksPerKindCount || alike.some((held) => held.link.relayPeerId === link.relayPeerId)
}

/** What a session lacks, besides. */
export interface NextLinkFacts<Held extends HeldLink> extends Omit<LinkChoiceFacts<Held>, 'isIdle'> {
  isController: boolean
  isInUse: boolean
  /** Some channel would stand still when the link in use is lost. */
  hasChannels: boolean
  /** The friend has a link port that we can reach. */
  mayDial: boolean
  canSplice: (relayPeerId: string) => boolean
  /** Another relay could carry what this one carries. */
  canAvoid: (relayPeerId: string) => boolean
}

/** Ways to what would be better, the most urgent first. */
export function nextWays<Held extends HeldLink> (facts: NextLinkFacts<Held>): LinkWay[] {
  const { links, isLeaving, isController, isInUse } = facts
  const staying = links.filter((held) => !isLeavingLink(held, isLeaving))
  const ways: LinkWay[] = []
  // everything runs over what stops soon: whoever sees it first moves, also a session that nobody uses
  if (staying.length === 0 && avoidedRelays(facts).every(facts.canAvoid)) ways.push('spare')
  if (!isInUse) return ways
  // the stream comes first: without it the loss of the link in use takes the whole way of a dial
  if (isController && !links.some(({ link }) => link.kind === 'stream')) ways.push('stream')
  const has = (kind: LinkKind, maxWear: number): boolean => staying.some((held) => held.link.kind === kind && wearOf(held) < maxWear)
  if (!has('direct', 1)) {
    if (facts.mayDial) ways.push('dial')
    // what is worn serves until there is another direct one
    if (isController && !has('direct', 2) && !has('splice', 1) && spliceRelay(facts) !== undefined) ways.push('splice')
  }
  if (isController && facts.hasChannels && !ways.includes('spare') && lacksSpare(facts)) ways.push('spare')
  return ways
}

/** The relay at which a splice would be opened: that of the link in use, else of another link. */
export function spliceRelay ({ links, sending, isLeaving, canSplice }: Pick<NextLinkFacts<HeldLink>, 'links' | 'sending' | 'isLeaving' | 'canSplice'>): string | undefined {
  return [sending, ...links].map(({ link }) => link.relayPeerId).find((relayPeerId) => relayPeerId !== undefined && !isLeaving(relayPeerId) && canSplice(relayPeerId))
}

/** Relays that a spare stream has to avoid. */
export function avoidedRelays ({ links, sending, isLeaving }: Pick<NextLinkFacts<HeldLink>, 'links' | 'sending' | 'isLeaving'>): string[] {
  const leaving = links.flatMap((held) => isLeavingLink(held, isLeaving) ? held.link.relayPeerId ?? [] : [])
  return [...new Set([...sending.link.relayPeerId === undefined ? [] : [sending.link.relayPeerId], ...leaving])].sort()
}

/** A relay carries the link in use, and every other link too: its end would leave nothing. */
function lacksSpare (facts: NextLinkFacts<HeldLink>): boolean {
  const avoided = avoidedRelays(facts)
  if (avoided.length === 0 || !avoided.every(facts.canAvoid)) return false
  return !facts.links.some((held) => held !== facts.sending && !avoided.includes(held.link.relayPeerId ?? ''))
}
