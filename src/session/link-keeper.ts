/**
 * Keeps every session on the best link that it can have: a session in use gets a direct or splice link ahead of need and
 * moves to it, the stream link stays as a spare, and what is idle for long is closed.
 */
import type { Socket } from 'node:net'
import { abortable, backoffMs, CarrierError, errorCode, errorMessage, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, Logger, TaskOwner, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Peer } from '../node/index.ts'
import { createLinkPunch } from './link-punch.ts'
import type { LinkPunch } from './link-punch.ts'
import type { LinkNode, LinkOpener, SocketWay } from './link-opener.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'
import type { SessionMetrics } from './session-metrics.ts'
import { pathReasons } from './path-report.ts'
import type { LinkKind, PathReason } from './types.ts'

/** Collaborators of the keeper. */
export interface LinkKeeperComponents {
  node: LinkNode
  opener: LinkOpener
  clock: Clock
  log: Logger
  random: () => number
  tasks: TaskOwner
  metrics: SessionMetrics
}

/** What the keeper asks of its owner. */
export interface LinkKeeperInit {
  /** The session with a device, if any. */
  sessionWith: (device: Did) => LiveSession | undefined
  /** Splice and direct links of a device that have not joined its session yet. */
  openingCount: (device: Did) => number
  /** A link that is to join the session with its device. */
  offer: (link: Link, peer: Peer) => void
  /** Opens a stream to the device. @throws CarrierError as CarrierNode.openStream */
  openStream: (device: Did, signal: AbortSignal) => Promise<{ link: Link, peer: Peer }>
}

/** The keeper. */
export interface LinkKeeper {
  /** Something about the session changed: look again what it should have. */
  review: (session: LiveSession) => void
  /** A channel was opened: `review`, but not for each of many. */
  used: (session: LiveSession) => void
  /** Why no better link carries the session. */
  explain: (session: LiveSession) => PathReason[]
  /** The other end wants to punch. */
  punchAsked: LinkPunch['asked']
  /** Another network: what failed before may work now. */
  networkChanged: () => void
  /** The session has ended. */
  forget: (session: LiveSession) => void
  stop: () => void
}

/** What is under way for one session. */
interface Care { timer: Timer | undefined, dueMs: number, opening: Set<Way['way']>, joining: Set<{ link: Link, resolve: (isJoined: boolean) => void }>, failureCount: number, notBeforeMs: number, inUseAtMs: number | undefined, punch: { failureCount: number, notBeforeMs: number, workedAtMs: number | undefined, quickLossCount: number }, lastFailure: Partial<Record<Way['way'], string | undefined>> }

/** A way to a better link. */
interface Way { way: PathReason['way'] | 'stream', kind: LinkKind, run: (signal: AbortSignal) => Promise<{ link: Link, peer: Peer }> }

/** The better, the higher. */
const RANK: Readonly<Record<LinkKind, number>> = { stream: 1, splice: 2, direct: 3 }

/** Creates the keeper and registers it with the node, which must not be started yet. */
export function createLinkKeeper (components: LinkKeeperComponents, init: LinkKeeperInit): LinkKeeper {
  const { node, opener, clock, log, random, tasks, metrics } = components
  const cares = new Map<LiveSession, Care>()
  /** Raw connections of others that are still in their TLS handshake, by device. */
  const pending = new Map<Did, number>()
  let pendingCount = 0

  node.handleSplices({
    admits: (device) => mayJoin(device, 'splice'),
    onSocket: (socket, device, relayPeerId) => { receive(socket, device, { kind: 'splice', path: 'spliced', relayPeerId }) }
  })
  node.handleLinkSockets((socket, device, path) => { receive(socket, device, { kind: 'direct', path, relayPeerId: undefined }) })

  const punch = createLinkPunch({ node, opener, clock, log, tasks, receive })

  return {
    review,
    punchAsked: punch.asked,
    explain,
    networkChanged: () => {
      for (const [session, care] of cares) {
        care.notBeforeMs = 0
        care.failureCount = 0
        care.punch = { ...care.punch, failureCount: 0, notBeforeMs: 0 }
        review(session)
      }
    },
    used,
    forget: (session) => {
      cares.get(session)?.timer?.cancel()
      cares.delete(session)
    },
    stop: () => {
      for (const care of cares.values()) care.timer?.cancel()
      cares.clear()
    }
  }

  function used (session: LiveSession): void {
    const inUseAtMs = cares.get(session)?.inUseAtMs
    if (inUseAtMs === undefined || clock.monotonicMs() - inUseAtMs >= LIMITS.linkReviewMs) review(session)
  }

  function explain (session: LiveSession): PathReason[] {
    const care = cares.get(session)
    const relayPeerId = session.links.all().find((one) => one.link.path === 'relayed')?.link.relayPeerId
    const nowMs = clock.monotonicMs()
    return pathReasons({
      link: session.link,
      isController: session.isController,
      isInUse: session.isInUse,
      hasFeature: (feature) => session.features.has(feature),
      canDial: node.canDialLink(session.peer.device),
      canPunch: node.canPunch(),
      canSplice: relayPeerId === undefined ? undefined : node.canSplice(relayPeerId),
      isOpening: (way) => care?.opening.has(way) === true,
      lastFailure: care?.lastFailure ?? {},
      nextPunchMs: Math.round((care?.punch.notBeforeMs ?? 0) - nowMs),
      nextOtherMs: Math.round((care?.notBeforeMs ?? 0) - nowMs)
    })
  }

  function review (session: LiveSession): void {
    if (tasks.signal.aborted || session.state !== 'live' || !session.features.has('resume')) return
    const care = cares.get(session) ?? { timer: undefined, dueMs: 0, opening: new Set(), joining: new Set(), failureCount: 0, notBeforeMs: 0, inUseAtMs: undefined, punch: { failureCount: 0, notBeforeMs: 0, workedAtMs: undefined, quickLossCount: 0 }, lastFailure: {} }
    care.inUseAtMs = session.isInUse ? clock.monotonicMs() : undefined
    cares.set(session, care)
    for (const joining of care.joining) if (session.links.all().some((one) => one.link === joining.link)) joining.resolve(true)
    care.timer?.cancel()
    care.timer = undefined
    const idleAtMs = session.channelCount > 0 ? Infinity : session.lastUsedMs + LIMITS.sessionLinkIdleMs
    const isIdle = clock.monotonicMs() >= idleAtMs
    if (session.isController) choose(session, isIdle)
    if (!isIdle && session.isInUse) improve(session, care)
    const links = session.links.all()
    if (!isIdle && links.some((one) => one.link.kind !== 'stream')) plan(session, care, Number.isFinite(idleAtMs) ? idleAtMs : clock.monotonicMs() + LIMITS.sessionLinkIdleMs)
  }

  /** Controller: the best link carries the session, and those that are of no use any more go. */
  function choose (session: LiveSession, isIdle: boolean): void {
    const { links } = session
    const { sending } = links
    if (sending === undefined || links.isSwitching) return
    const byRank = links.all().sort((one, other) => RANK[other.link.kind] - RANK[one.link.kind])
    const spare = byRank.find((one) => one.link.kind === 'stream')
    // an idle session goes back to the stream, if it has one
    const best = isIdle ? spare ?? sending : byRank[0]
    if (best !== undefined && RANK[best.link.kind] !== RANK[sending.link.kind]) {
      links.switchTo(best)
      return
    }
    for (const link of links.all()) {
      if (link === sending || link.link.kind === 'stream') continue
      tasks.run('close a link', async () => { await links.drop(link) })
    }
  }

  /** Opens what would be better than what there is: one at a time, and a punch beside it, which may take long and come to nothing. */
  function improve (session: LiveSession, care: Care): void {
    const others = [...care.opening].filter((way) => way !== 'punch')
    if (others.length === 0) attempt(session, care, nextLink(session))
    if (!care.opening.has('punch')) attempt(session, care, nextPunch(session))
  }

  function attempt (session: LiveSession, care: Care, open: Way | undefined): void {
    if (open === undefined) return
    const notBeforeMs = open.way === 'punch' ? care.punch.notBeforeMs : care.notBeforeMs
    if (notBeforeMs > clock.monotonicMs()) {
      plan(session, care, notBeforeMs)
      return
    }
    care.opening.add(open.way)
    tasks.run('open a link', async (signal) => {
      try {
        using deadline = startDeadline(clock, LIMITS.linkOpenTimeoutMs, 'the link could not be opened in time', signal)
        const { link, peer } = await open.run(deadline.signal)
        await join(session, care, { link, peer }, deadline.signal)
        care.lastFailure[open.way] = undefined
        if (open.way === 'punch') notePunched(care)
        else care.failureCount = 0
      } catch (err) {
        if (signal.aborted) return
        metrics.linkFailures.add(1, { link: open.kind, code: errorCode(err) ?? 'ERR_INTERNAL' })
        log.debug('a better link could not be opened', { device: session.peer.device, link: open.kind, code: errorCode(err), reason: errorMessage(err) })
        care.lastFailure[open.way] = errorMessage(err)
        if (open.way === 'punch') postponePunch(care)
        else {
          care.notBeforeMs = clock.monotonicMs() + backoffMs({ firstMs: LIMITS.linkRetryFirstMs, maxMs: LIMITS.linkRetryMaxMs, factor: 3 }, care.failureCount, random)
          care.failureCount++
        }
      } finally {
        care.opening.delete(open.way)
      }
      review(session)
    })
  }

  /** Two attempts, then longer and longer: most routers do not change their mind. */
  function postponePunch ({ punch }: Care): void {
    punch.failureCount++
    const delayMs = punch.failureCount === 1
      ? LIMITS.punchQuickRetryMs
      : backoffMs({ firstMs: LIMITS.punchRetryFirstMs, maxMs: punch.workedAtMs === undefined ? LIMITS.punchRetryMaxMs : LIMITS.punchRetryFirstMs, factor: 2 }, punch.failureCount - 2, random)
    punch.notBeforeMs = clock.monotonicMs() + delayMs
  }

  /** A path that was punched and dies young, again and again, is worth less each time. */
  function notePunched ({ punch }: Care): void {
    const nowMs = clock.monotonicMs()
    const isQuick = punch.workedAtMs !== undefined && nowMs - punch.workedAtMs < LIMITS.punchSoundMs
    punch.quickLossCount = isQuick ? punch.quickLossCount + 1 : 0
    punch.workedAtMs = nowMs
    punch.failureCount = 0
    punch.notBeforeMs = nowMs + Math.min(LIMITS.punchRetryMaxMs, LIMITS.punchRetryFirstMs * 2 ** punch.quickLossCount)
  }

  /** Offers a link that we opened. Resolves when it is one of the session's: before that another one would be one too many. @throws CarrierError when it will not be */
  async function join (session: LiveSession, care: Care, { link, peer }: { link: Link, peer: Peer }, signal: AbortSignal): Promise<void> {
    // with the session the friendship may have ended: a link alone makes no new one
    if (init.sessionWith(peer.device) !== session) {
      const err = new CarrierError('ERR_CLOSED', 'the session ended meanwhile')
      link.abort(err)
      throw err
    }
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const joining = { link, resolve }
    care.joining.add(joining)
    link.closed.finally(() => { resolve(false) }).catch(() => { /* `closed` says that it is over, however */ })
    init.offer(link, peer)
    try {
      if (!await abortable(promise, signal)) throw new CarrierError('ERR_LINK_LOST', 'the link was closed before it was one of the session')
    } catch (err) {
      link.abort(toCarrierError(err))
      throw err
    } finally {
      care.joining.delete(joining)
    }
  }

  function nextLink (session: LiveSession): Way | undefined {
    const { device } = session.peer
    const kinds = new Set(session.links.all().map((one) => one.link.kind))
    // the spare comes first: without it the loss of the link in use takes the whole way of a dial
    if (!kinds.has('stream') && session.isController) return { way: 'stream', kind: 'stream', run: async (signal) => init.openStream(device, signal) }
    if (kinds.has('direct')) return undefined
    const relayPeerId = session.links.all().find((one) => one.link.kind === 'stream' && one.link.path === 'relayed')?.link.relayPeerId
    const splice: Way | undefined = !kinds.has('splice') && session.isController && relayPeerId !== undefined && node.canSplice(relayPeerId)
      ? { way: 'splice', kind: 'splice', run: async (signal) => ofPeer(session, await opener.splice(device, relayPeerId, signal)) }
      : undefined
    // a link port that nobody gets through to must not keep the session from what the relay offers
    if (splice !== undefined && cares.get(session)?.lastFailure.dial !== undefined) return splice
    if (mayDial(session)) {
      return {
        way: 'dial',
        kind: 'direct',
        run: async (signal) => {
          const ticket = await session.askLink(signal)
          if (ticket === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'the other side has no link port')
          return ofPeer(session, await opener.direct(device, ticket, signal))
        }
      }
    }
    return splice
  }

  function mayDial (session: LiveSession): boolean {
    return session.features.has('direct') && node.canDialLink(session.peer.device)
  }

  /** Where one end can be dialled, and that works, nobody has to punch. */
  function nextPunch (session: LiveSession): Way | undefined {
    const hasDirect = session.links.all().some((one) => one.link.kind === 'direct')
    const isDialled = mayDial(session) && cares.get(session)?.lastFailure.dial === undefined
    if (hasDirect || isDialled || !session.isController || !session.features.has('punch') || !node.canPunch()) return undefined
    return { way: 'punch', kind: 'direct', run: async (signal) => ofPeer(session, await punch.open(session, signal)) }
  }

  /** A raw connection that somebody else made. */
  function receive (socket: Socket, device: Did, way: SocketWay): void {
    if (!mayJoin(device, way.kind) || pendingCount >= LIMITS.linkHandshakeCount || tasks.signal.aborted) {
      socket.destroy()
      return
    }
    pendingCount++
    pending.set(device, (pending.get(device) ?? 0) + 1)
    const before = init.sessionWith(device)
    tasks.run('take a link', async (signal) => {
      try {
        using deadline = startDeadline(clock, LIMITS.linkOpenTimeoutMs, 'the link could not be opened in time', signal)
        const link = await opener.secure(socket, device, way, deadline.signal)
        const session = init.sessionWith(device)
        if (session === undefined || session !== before) link.abort(new CarrierError('ERR_CLOSED', 'the session ended meanwhile'))
        else init.offer(link, ofPeer(session, link).peer)
      } catch (err) {
        metrics.linkFailures.add(1, { link: way.kind, code: errorCode(err) ?? 'ERR_INTERNAL' })
        log.debug('a link of the other side did not come about', { device, link: way.kind, code: errorCode(err), reason: errorMessage(err) })
      } finally {
        pendingCount--
        const count = pending.get(device) ?? 1
        if (count > 1) pending.set(device, count - 1)
        else pending.delete(device)
      }
    })
  }

  function mayJoin (device: Did, kind: LinkKind): boolean {
    const session = init.sessionWith(device)
    const openingCount = (pending.get(device) ?? 0) + init.openingCount(device)
    return openingCount < LIMITS.linkHandshakesPerDeviceCount && session?.features.has('resume') === true && !session.links.all().some((one) => one.link.kind === kind)
  }

  function ofPeer (session: LiveSession, link: Link): { link: Link, peer: Peer } {
    const { device, owner } = session.peer
    return { link, peer: { device, owner, level: 'friend', instanceId: undefined, path: link.path, relayPeerId: link.relayPeerId } }
  }

  /** The next look, at `atMs` or at an earlier instant that was planned. */
  function plan (session: LiveSession, care: Care, atMs: number): void {
    if (care.timer !== undefined && care.dueMs <= atMs) return
    care.timer?.cancel()
    care.dueMs = atMs
    care.timer = clock.setTimer(() => {
      care.timer = undefined
      review(session)
    }, Math.max(0, atMs - clock.monotonicMs()))
  }
}
