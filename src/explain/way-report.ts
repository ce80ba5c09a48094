/** `carrier why`: the way to a friend in plain words. Gathers what the parts know; the sentences that help are here. */
import { CarrierError, errorCode, errorMessage, startDeadline } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Friends } from '../friends/index.ts'
import { openFriendSession } from '../forwarding/index.ts'
import type { Forwarding } from '../forwarding/index.ts'
import type { RelayStatus } from '../node/index.ts'
import type { PathReason, Session, SessionManager } from '../session/index.ts'
import type { WayReport } from '../carrier-types.ts'

/** What a report is made of. */
export interface WayReportComponents {
  friends: Pick<Friends, 'resolve'>
  sessions: Pick<SessionManager, 'get' | 'open' | 'explain'>
  forwarding: Pick<Forwarding, 'remoteServices'>
  relays: () => RelayStatus[]
  clock: Clock
}

/** How long a friend who is not there is waited for. */
const DIAL_MS = 8_000

/** Makes the report; dials the friend when there is no session. @throws CarrierError ERR_UNKNOWN_FRIEND, ERR_INVALID_ARGUMENT */
export async function reportWay (components: WayReportComponents, to: string, options: { signal?: AbortSignal } = {}): Promise<WayReport> {
  const { friends, sessions, clock } = components
  const slash = to.lastIndexOf('/')
  const who = slash === -1 ? to : to.slice(0, slash)
  const service = slash === -1 ? undefined : to.slice(slash + 1)
  if (service === '') throw new CarrierError('ERR_INVALID_ARGUMENT', `"${to}" names no service behind the slash; write WHO or WHO/SERVICE`)
  const friend = friends.resolve(who)
  const facts = { did: friend.owner, label: friend.label }
  let session: Session
  try {
    using deadline = startDeadline(clock, DIAL_MS, `no answer within ${DIAL_MS / 1000} s`, options.signal)
    session = await openFriendSession(sessions, friend, deadline.signal)
    await session.ping({ signal: deadline.signal })
  } catch (err) {
    options.signal?.throwIfAborted()
    const nowhere = { link: undefined, path: undefined, relayPeerId: undefined, isRelayListed: undefined, rttMs: undefined, reasons: [], service: undefined }
    return { ...facts, presence: 'offline', ...nowhere, offlineReason: errorMessage(err), advice: offlineAdvice(friend.label, errorCode(err), components.relays()) }
  }
  const reasons = sessions.explain(session.peer.device)
  const { relayPeerId } = session
  const offered = service === undefined ? undefined : await offeredServices(components, who, options.signal)
  const found = service === undefined || offered === undefined ? undefined : { name: service, isOffered: offered.includes(service) }
  return {
    ...facts,
    presence: 'online',
    link: session.link,
    path: session.path,
    relayPeerId,
    isRelayListed: relayPeerId === undefined ? undefined : components.relays().some((relay) => relay.peerId === relayPeerId),
    rttMs: session.rttMs,
    offlineReason: undefined,
    reasons,
    service: found,
    advice: [...wayAdvice(reasons), ...found?.isOffered === false ? [`ask ${friend.label} to offer it: carrier serve ${found.name} TARGET --allow you`] : []]
  }
}

/** What the friend lets us dial; undefined when it does not say so in time: the rest of the report is worth having. */
async function offeredServices ({ forwarding, clock }: WayReportComponents, who: string, signal?: AbortSignal): Promise<string[] | undefined> {
  using deadline = startDeadline(clock, DIAL_MS, 'the friend did not say what it offers', signal)
  try {
    return await forwarding.remoteServices(who, { signal: deadline.signal })
  } catch {
    signal?.throwIfAborted()
    return undefined
  }
}

/** What a person can do about a friend who cannot be reached. Pure. */
export function offlineAdvice (label: string, code: string, relays: readonly RelayStatus[]): string[] {
  if (relays.length === 0) return ['name a relay that you share with the friend: carrier up --relay MULTIADDR']
  if (relays.every((relay) => relay.state !== 'reserved')) return ['none of your relays answers, so nobody can be reached: look at "carrier status" and at your own connection']
  if (code === 'ERR_QUOTA') return ['wait until the quota is free again, or name another relay that both sides use: carrier up --relay MULTIADDR']
  if (code === 'ERR_NOT_AVAILABLE') return [`ask ${label} whether you are still friends`]
  return [`ask ${label} whether Carrier runs there ("carrier status") and at which relays: both sides need one in common, or relays that list each other`]
}

/** What a person can change about the path. */
function wayAdvice (reasons: readonly PathReason[]): string[] {
  const isWaiting = reasons.some((reason) => reason.way === 'punch' && (reason.state === 'trying' || reason.state === 'untried'))
  if (reasons.length === 0 || isWaiting) return []
  return ['let one side listen: "carrier up --listen lan" when both are in one network, "--listen public" where a port of its own can be reached']
}
