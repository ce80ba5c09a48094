/**
 * Keeps every session on the best link that it can have: a session in use gets a direct or splice link ahead of need and
 * moves to it, a stream over another relay stays as a spare, sessions leave relays that stop, and what is idle for long is closed.
 */
import { abortable, CarrierError, errorCode, errorMessage, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { CarrierNode, Peer } from '../node/index.ts'
import { createLinkCare, forgetFailures, noteFailure, notBeforeMs, noteSuccess } from './link-care.ts'
import type { LinkCare, Way } from './link-care.ts'
import { avoidedRelays, bestLink, isLeavingLink, nextWays, spliceRelay, uselessLinks } from './link-choice.ts'
import { createLinkGuests, peerOfLink } from './link-guests.ts'
import type { LinkGuestsInit } from './link-guests.ts'
import { createLinkPunch } from './link-punch.ts'
import type { LinkPunch } from './link-punch.ts'
import type { LinkNode, LinkOpener } from './link-opener.ts'
import type { Link } from './link.ts'
import type { LiveSession } from './live-session.ts'
import type { SessionMetrics } from './session-metrics.ts'
import { pathReasons } from './path-report.ts'
import type { LinkKind, PathReason } from './types.ts'

/** Collaborators of the keeper. */
export interface LinkKeeperComponents {
  /** Without `on` nothing is made ready before it is needed. */
  node: LinkNode & Partial<Pick<CarrierNode, 'on'>>
  opener: LinkOpener
  clock: Clock
  log: Logger
  random: () => number
  tasks: TaskOwner
  metrics: SessionMetrics
}

/** What the keeper asks of its owner. */
export interface LinkKeeperInit extends Omit<LinkGuestsInit, 'offer'> {
  /** A link that is to join the session with its device; `isWanted`: the keeper asked for it. */
  offer: (link: Link, peer: Peer, isWanted: boolean) => void
  /** Opens a stream to the device that does not run over these relays. @throws CarrierError as CarrierNode.openStream */
  openStream: (device: Did, notVia: readonly string[], signal: AbortSignal) => Promise<{ link: Link, peer: Peer }>
}

/** The keeper. */
export interface LinkKeeper {
  /** Something about the session changed: look again what it should have. */
  review: (session: LiveSession) => void
  /** A session with this friend most likely comes up: both ends hear of it some round trips before it is there. */
  expect: (peer: Peer) => void
  /** A channel was opened: `review`, but not for each of many. */
  used: (session: LiveSession) => void
  /** Why no better link carries the session. */
  explain: (session: LiveSession) => PathReason[]
  /** The other end wants to punch. */
  punchAsked: LinkPunch['asked']
  /** The state of a relay changed: sessions may have to leave it, or have another one to use. */
  relaysChanged: () => void
  /** Another network: what failed before may work now. */
  networkChanged: () => void
  /** The session has ended. */
  forget: (session: LiveSession) => void
  stop: () => void
}

/** What is opened on one way. */
interface Opening { kind: LinkKind, run: (signal: AbortSignal) => Promise<{ link: Link, peer: Peer }> }

/** Creates the keeper and registers it with the node, which must not be started yet. */
export function createLinkKeeper (components: LinkKeeperComponents, init: LinkKeeperInit): LinkKeeper {
  const { node, opener, clock, log, random, tasks, metrics } = components
  const cares = new Map<LiveSession, LinkCare>()
  const guests = createLinkGuests(components, { ...init, offer: (link, peer) => { init.offer(link, peer, false) } })

  node.handleSplices({
    admits: (device, relayPeerId) => guests.mayJoin(device, { kind: 'splice', relayPeerId }),
    onSocket: (socket, device, relayPeerId) => { void guests.receive(socket, device, { kind: 'splice', path: 'spliced', relayPeerId }) }
  })
  node.handleLinkSockets((socket, device, path) => { void guests.receive(socket, device, { kind: 'direct', path, relayPeerId: undefined }) })

  const punch = createLinkPunch({ node, opener, clock, log, tasks, receive: guests.receive })

  node.on?.('peer:authenticated', ({ peer }) => { expect(peer) })

  return {
    review,
    expect,
    punchAsked: punch.asked,
    explain,
    relaysChanged: () => {
      for (const [session, care] of cares) {
        forgetFailures(care, 'spare')
        review(session)
      }
    },
    networkChanged: () => {
      punch.clear()
      for (const [session, care] of cares) {
        forgetFailures(care)
        review(session)
      }
    },
    used,
    forget: (session) => {
      const care = cares.get(session)
      care?.timer?.cancel()
      care?.ended.abort(new CarrierError('ERR_CLOSED', 'the session ended meanwhile'))
      cares.delete(session)
      punch.forget(session)
    },
    stop: () => {
      for (const care of cares.values()) care.timer?.cancel()
      cares.clear()
    }
  }

  function expect (peer: Peer): void {
    const isComing = init.sessionWith(peer.device)?.state !== 'live'
    if (isComing && peer.level === 'friend' && peer.path === 'relayed') punch.makeReady(peer.device)
  }

  function used (session: LiveSession): void {
    const care = cares.get(session)
    const dueMs = (care?.inUseAtMs ?? -Infinity) + LIMITS.linkReviewMs
    if (care === undefined || clock.monotonicMs() >= dueMs) review(session)
    else plan(session, care, dueMs)
  }

  function explain (session: LiveSession): PathReason[] {
    const care = cares.get(session)
    const relayPeerId = session.links.all().find((one) => one.link.relayPeerId !== undefined)?.link.relayPeerId
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
      nextTryMs: (way) => care === undefined ? 0 : Math.round(notBeforeMs(care, way) - nowMs)
    })
  }

  function review (session: LiveSession): void {
    const { links } = session
    if (tasks.signal.aborted || session.state !== 'live' || !session.features.has('resume')) return
    const care = cares.get(session) ?? createLinkCare()
    cares.set(session, care)
    const nowMs = clock.monotonicMs()
    care.inUseAtMs = session.isInUse ? nowMs : undefined
    for (const joining of care.joining) if (links.all().some((one) => one.link === joining.link)) joining.resolve(true)
    care.timer?.cancel()
    care.timer = undefined
    const idleAtMs = session.channelCount > 0 ? Infinity : session.lastUsedMs + LIMITS.sessionLinkIdleMs
    const isIdle = nowMs >= idleAtMs
    if (session.isController) choose(session, isIdle)
    care.leavingSinceMs = links.all().every((held) => isLeavingLink(held, node.isLeavingRelay)) ? care.leavingSinceMs ?? nowMs : undefined
    improve(session, care, isIdle)
    if (!isIdle && (links.all().length > 1 || links.sending?.link.kind !== 'stream')) plan(session, care, Number.isFinite(idleAtMs) ? idleAtMs : nowMs + LIMITS.sessionLinkIdleMs)
  }

  /** Controller: the best link carries the session, and those that are of no use any more go. */
  function choose (session: LiveSession, isIdle: boolean): void {
    const { links } = session
    const { sending } = links
    if (sending === undefined || links.isSwitching) return
    const facts = { links: links.all(), sending, isIdle, isLeaving: node.isLeavingRelay }
    const best = bestLink(facts)
    if (best !== sending) {
      links.switchTo(best)
      return
    }
    for (const link of uselessLinks(facts)) tasks.run('close a link', async () => { await links.drop(link) })
  }

  /** Opens what would be better than what there is: one at a time, and beside it a spare, and a punch, which may take long and come to nothing. */
  function improve (session: LiveSession, care: LinkCare, isIdle: boolean): void {
    const { sending } = session.links
    if (sending === undefined) return
    const isInUse = !isIdle && session.isInUse
    const ways = nextWays({
      links: session.links.all(),
      sending,
      isController: session.isController,
      isInUse,
      hasChannels: session.channelCount > 0,
      isLeaving: node.isLeavingRelay,
      mayDial: mayDial(session),
      canSplice: node.canSplice,
      canAvoid: node.canAvoidRelay
    })
    const isBusy = [...care.opening].some((way) => way !== 'punch' && way !== 'spare')
    const better = ways.filter((way) => way !== 'spare')
    const nowMs = clock.monotonicMs()
    const next = better.find((way) => notBeforeMs(care, way) <= nowMs)
    if (!isBusy && next !== undefined) attempt(session, care, next)
    for (const way of better) if (way !== next && notBeforeMs(care, way) > nowMs) plan(session, care, notBeforeMs(care, way))
    // what carries bulk goes first, unless everything is about to end
    if (ways.includes('spare') && (ways[0] === 'spare' || sending.link.kind !== 'stream' || (!isBusy && next === undefined))) spare(session, care)
    if (isInUse && mayPunch(session, care)) attempt(session, care, 'punch')
  }

  /** The end that does not control the session cannot move it: it only helps when the other one seems not to know that the relay leaves. */
  function spare (session: LiveSession, care: LinkCare): void {
    const helpAtMs = (care.leavingSinceMs ?? clock.monotonicMs()) + LIMITS.linkMoveHelpMs
    if (session.isController || clock.monotonicMs() >= helpAtMs) attempt(session, care, 'spare')
    else plan(session, care, helpAtMs)
  }

  function attempt (session: LiveSession, care: LinkCare, way: Way): void {
    if (care.opening.has(way)) return
    if (notBeforeMs(care, way) > clock.monotonicMs()) {
      plan(session, care, notBeforeMs(care, way))
      return
    }
    const opening = openingOf(session, way)
    care.opening.add(way)
    tasks.run('open a link', async (signal) => {
      try {
        using deadline = startDeadline(clock, LIMITS.linkOpenTimeoutMs, 'the link could not be opened in time', AbortSignal.any([signal, care.ended.signal]))
        const { link, peer } = await opening.run(deadline.signal)
        await join(session, care, { link, peer }, deadline.signal)
        noteSuccess(care, way, clock.monotonicMs())
      } catch (err) {
        if (signal.aborted) return
        metrics.linkFailures.add(1, { link: opening.kind, code: errorCode(err) ?? 'ERR_INTERNAL' })
        log.debug('a better link could not be opened', { device: session.peer.device, way, code: errorCode(err), reason: errorMessage(err) })
        noteFailure(care, way, errorMessage(err), clock.monotonicMs(), random)
      } finally {
        care.opening.delete(way)
      }
      review(session)
    })
  }

  function openingOf (session: LiveSession, way: Way): Opening {
    const { device } = session.peer
    switch (way) {
      case 'stream': case 'spare': return { kind: 'stream', run: async (signal) => init.openStream(device, notVia(session, way), signal) }
      case 'dial': return { kind: 'direct', run: async (signal) => withPeer(session, await dial(session, signal)) }
      case 'splice': return { kind: 'splice', run: async (signal) => withPeer(session, await splice(session, signal)) }
      case 'punch': return { kind: 'direct', run: async (signal) => withPeer(session, await punch.open(session, signal)) }
    }
  }

  function notVia (session: LiveSession, way: 'stream' | 'spare'): string[] {
    const { sending } = session.links
    // any stream is better than none
    if (sending === undefined || way === 'stream') return []
    return avoidedRelays({ links: session.links.all(), sending, isLeaving: node.isLeavingRelay })
  }

  async function dial (session: LiveSession, signal: AbortSignal): Promise<Link> {
    const ticket = await session.asks.askLink(signal)
    if (ticket === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'the other side has no link port')
    return opener.direct(session.peer.device, ticket, signal)
  }

  async function splice (session: LiveSession, signal: AbortSignal): Promise<Link> {
    const { sending } = session.links
    const relayPeerId = sending === undefined ? undefined : spliceRelay({ links: session.links.all(), sending, isLeaving: node.isLeavingRelay, canSplice: node.canSplice })
    if (relayPeerId === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'no relay of the session offers splices now')
    return opener.splice(session.peer.device, relayPeerId, signal)
  }

  /** Offers a link that we opened. Resolves when it is one of the session's: before that another one would be one too many. @throws CarrierError when it will not be */
  async function join (session: LiveSession, care: LinkCare, { link, peer }: { link: Link, peer: Peer }, signal: AbortSignal): Promise<void> {
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
    init.offer(link, peer, true)
    try {
      if (!await abortable(promise, signal)) throw new CarrierError('ERR_LINK_LOST', 'the link was closed before it was one of the session')
    } catch (err) {
      link.abort(toCarrierError(err))
      throw err
    } finally {
      care.joining.delete(joining)
    }
  }

  function mayDial (session: LiveSession): boolean {
    return session.features.has('direct') && node.canDialLink(session.peer.device)
  }

  /** Where one end can be dialled, and that works, nobody has to punch. */
  function mayPunch (session: LiveSession, care: LinkCare): boolean {
    const hasDirect = session.links.all().some((one) => one.link.kind === 'direct' && one.wear < 1)
    const isDialled = mayDial(session) && care.lastFailure.dial === undefined
    return !hasDirect && !isDialled && session.isController && session.features.has('punch') && node.canPunch()
  }

  function withPeer (session: LiveSession, link: Link): { link: Link, peer: Peer } {
    return { link, peer: peerOfLink(session, link) }
  }

  /** The next look, at `atMs` or at an earlier instant that was planned. */
  function plan (session: LiveSession, care: LinkCare, atMs: number): void {
    if (care.timer !== undefined && care.dueMs <= atMs) return
    care.timer?.cancel()
    care.dueMs = atMs
    care.timer = clock.setTimer(() => {
      care.timer = undefined
      review(session)
    }, Math.max(0, atMs - clock.monotonicMs()))
  }
}
