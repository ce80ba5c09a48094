/** Owns all sessions: one per device pair, made by the controller, over links that either end dialled. */
import { totalmem } from 'node:os'
import { abortable, backoffMs, CarrierError, createEmitter, createTaskOwner, LIMITS, sleep, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, KeepaliveMode, Logger, Metrics } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import type { CarrierNode, Peer, PeerStream, RelayStatus, SessionProver } from '../node/index.ts'
import type { KeyLimits } from './attached-link.ts'
import { firstPlacesBytes } from './credit-ledger.ts'
import { CreditPool } from './credit-pool.ts'
import { FEATURES, OWN_LIMITS } from './hello.ts'
import type { Feature } from './hello.ts'
import { createInstanceHistory } from './hello-verdict.ts'
import { LiveSession } from './live-session.ts'
import { PeerRelation } from './peer-relation.ts'
import { createSessionMetrics } from './session-metrics.ts'
import { createLinkKeeper } from './link-keeper.ts'
import { createLinkOpener } from './link-opener.ts'
import type { LinkNode } from './link-opener.ts'
import type { Link } from './link.ts'
import { createStreamLink } from './stream-link.ts'
import type { ChannelHandler, SessionEvents, SessionManager } from './types.ts'

/** The protocol whose stream is a stream link. */
export const SESSION_PROTOCOL = '/carrier/session/1.0.0'

/** Collaborators of the session manager. */
export interface SessionManagerComponents {
  /** Without `on` and `relays` links find out by themselves that the network changed. */
  node: LinkNode & Pick<CarrierNode, 'handle' | 'openStream'> & Partial<Pick<CarrierNode, 'on' | 'relays'>>
  identity: Pick<Identity, 'publicKey' | 'did' | 'instanceId' | 'sign'>
  clock: Clock
  log: Logger
  metrics: Metrics
  /** In [0, 1). */
  random: () => number
  /** Proves both ends inside of sessions; without it that is not offered. */
  prover?: SessionProver | undefined
}

/** What can be set. */
export interface SessionManagerInit {
  /** Memory that may be promised to peers, bytes. */
  creditBytes?: number
  /** How long a session without a link waits for one, milliseconds; LIMITS.sessionResumeWindowMs when absent. 0: it ends with its link. */
  resumeWindowMs?: number
  /** How soon a silent link is noticed; `normal` when absent. */
  keepalive?: KeepaliveMode | undefined
  /** How long the keys of a TLS link serve; LIMITS.linkKeyBytes and linkKeyAgeMs when absent. */
  keyLimits?: KeyLimits | undefined
}

/** The link of a session, one that replaces it, and as many that crossed ours. */
const STREAMS_PER_PEER = 4

/** Creates the manager and registers the session protocol; it takes links once it is started. */
export function createSessionManager (components: SessionManagerComponents, init: SessionManagerInit = {}): SessionManager {
  const { node, identity, clock, log } = components
  const emitter = createEmitter<SessionEvents>(log)
  const tasks = createTaskOwner(log)
  const handlers = new Map<string, ChannelHandler>()
  const relations = new Map<Did, PeerRelation>()
  const instances = createInstanceHistory()
  const pool = new CreditPool(init.creditBytes ?? Math.min(LIMITS.nodeCreditBytes, Math.floor(totalmem() / 4)))
  const metrics = createSessionMetrics(components.metrics, {
    sessionCount: () => liveSessions().length,
    channelCount: () => liveSessions().reduce((sum, session) => sum + session.channelCount, 0),
    creditBytes: () => pool.usedBytes,
    lostCount: () => liveSessions().filter((session) => session.state === 'resuming').length
  })
  const opener = createLinkOpener({ node, identity, clock })
  const keeper = createLinkKeeper({ node, opener, clock, log, random: components.random, tasks, metrics }, {
    sessionWith: (device) => relations.get(device)?.session,
    openingCount: (device) => relations.get(device)?.openingLinkCount ?? 0,
    offer: (link, peer, isWanted) => { relationTo(peer.device).offer(link, peer, isWanted) },
    openStream: async (device, notVia, signal) => {
      const { stream, peer } = await openFriendStream(device, signal, notVia)
      return { link: createStreamLink(stream, peer), peer }
    }
  })
  const resumeWindowMs = init.resumeWindowMs ?? LIMITS.sessionResumeWindowMs
  const features: readonly Feature[] = resumeWindowMs === 0 ? [] : FEATURES.filter((name) => name !== 'auth' || components.prover !== undefined)
  let state: 'new' | 'running' | 'stopped' = 'new'
  let helloSequence = 0
  /** Sessions for which a link is being looked for. */
  const searches = new Map<LiveSession, { /** `isFirstToo`: also the attempt that is left to the other end. */ hurry: (isFirstToo?: boolean) => void }>()

  node.on?.('node:network-changed', networkChanged)
  node.on?.('relay:state', keeper.relaysChanged)
  node.on?.('relay:state', hurryForRelay)
  // a connection that we dialled beside the relay's is a way to a better link
  node.on?.('peer:authenticated', ({ peer }) => {
    const session = relations.get(peer.device)?.session
    if (session !== undefined) keeper.review(session)
  })
  node.handle(SESSION_PROTOCOL, handleLink, { levels: ['friend'], maxStreamsPerPeer: STREAMS_PER_PEER })

  return {
    on: emitter.on,
    onChannel: (kind, handler) => { handlers.set(kind, handler) },
    open: async (device, options = {}) => {
      options.signal?.throwIfAborted()
      if (state !== 'running') throw new CarrierError('ERR_CLOSED', 'sessions are not running; start Carrier first')
      if (device === identity.did) throw new CarrierError('ERR_INVALID_ARGUMENT', 'a device has no session with itself')
      const relation = relationTo(device)
      if (relation.session?.state === 'live') return relation.session
      const session = relation.wait()
      if (!relation.isOpening) dial(relation)
      return abortable(session, options.signal)
    },
    get: (device) => {
      const session = relations.get(device)?.session
      return session?.state === 'live' ? session : undefined
    },
    list: liveSessions,
    explain: (device) => {
      const session = relations.get(device)?.session
      return session === undefined ? [] : keeper.explain(session)
    },
    close: async (device, err) => { await relations.get(device)?.close(err) },
    start: async () => {
      if (state === 'stopped') throw new CarrierError('ERR_CLOSED', 'a stopped session manager does not start again')
      state = 'running'
    },
    stop: async () => {
      if (state === 'stopped') return
      state = 'stopped'
      keeper.stop()
      const err = new CarrierError('ERR_CLOSED', 'this side is shutting down')
      await Promise.all([...relations.values()].map(async (relation) => { await relation.close(err) }))
      await tasks.stop()
    }
  }

  function liveSessions (): LiveSession[] {
    return [...relations.values()].flatMap((relation) => relation.session ?? [])
  }

  function relationTo (device: Did): PeerRelation {
    const known = relations.get(device)
    if (known !== undefined) return known
    const isController = Buffer.compare(identity.publicKey, publicKeyFromDid(device)) < 0
    const relation = new PeerRelation({
      clock,
      instanceId: identity.instanceId,
      features,
      nextSequence: () => ++helloSequence,
      isNewestInstance,
      admit,
      begin: (handshake, hello, welcome, isControllerHere) => {
        const { device: remote, owner } = handshake.peer
        return new LiveSession({ clock, log, tasks, metrics, pool, handlers, resumeWindowMs, keepalive: init.keepalive, prover: components.prover, keyLimits: init.keyLimits }, {
          peer: { device: remote, owner },
          id: welcome.sessionId,
          token: welcome.token,
          isController: isControllerHere,
          limits: OWN_LIMITS,
          peerLimits: hello.limits,
          features: new Set(features.filter((name) => hello.features.includes(name))),
          source: handshake,
          epoch: welcome.epoch
        }, {
          onLost: sessionLost,
          onResumed: sessionResumed,
          onSwitched: (session, from) => { sessionSwitched(session, from) },
          onLinksChanged: keeper.review,
          onUsed: keeper.used,
          onResumeFailed: (session) => { relations.get(session.peer.device)?.resumeFailed() },
          onPunchAsk: keeper.punchAsked,
          issueTicket: (session) => node.issueLinkTicket(session.peer.device),
          onClosed: sessionClosed
        })
      },
      onBegun: (session) => {
        metrics.opened.add()
        metrics.linksOpened.add(1, { link: session.link })
        log.info('session opened', { device, link: session.link, path: session.path })
        emitter.emit('session:opened', { session })
        keeper.review(session)
      },
      onAttached: (session, link) => {
        metrics.linksOpened.add(1, { link: link.kind })
        log.info('the session has one more link', { device, link: link.kind, path: link.path })
        keeper.review(session)
      },
      onRefused: (err) => {
        metrics.handshakeRefused.add(1, { code: err.code })
        // what the dial would have told, had it waited for the answer
        if (err.code === 'ERR_NOT_AVAILABLE') relation.session?.noteDialFailure(err)
        log.debug('a link did not become a session', { device, code: err.code, reason: err.message })
        // a clone cannot see itself: only those who met both can tell it
        if (err.code === 'ERR_DUPLICATE_IDENTITY' && err.detail?.['refusedBy'] === 'peer') emitter.emit('session:duplicate-identity', { device: identity.did })
      },
      onIdle: (idle) => { if (idle.isIdle && relations.get(idle.device) === idle) relations.delete(idle.device) }
    }, { device, isController })
    relations.set(device, relation)
    return relation
  }

  function sessionClosed (session: LiveSession, error: CarrierError): void {
    metrics.closed.add(1, { code: error.code })
    log.info('session closed', { device: session.peer.device, code: error.code, reason: error.message })
    relations.get(session.peer.device)?.sessionClosed(session, error)
    keeper.forget(session)
    emitter.emit('session:closed', { peer: session.peer, error })
  }

  function sessionLost (session: LiveSession, error: CarrierError): void {
    emitter.emit('session:lost', { session, error })
    const search = searches.get(session)
    if (search === undefined) tasks.run('resume a session', async (signal) => { await findLink(session, signal) })
    else search.hurry()
  }

  function sessionResumed (session: LiveSession, stallMs: number): void {
    relations.get(session.peer.device)?.sessionResumed(session)
    emitter.emit('session:resumed', { session, link: session.link, path: session.path, stallMs })
    keeper.review(session)
  }

  function sessionSwitched (session: LiveSession, from: Link): void {
    emitter.emit('session:link', { session, from: from.kind, link: session.link, path: session.path })
    keeper.review(session)
  }

  /** Links of the old network are dead and do not know it; a search goes on at once. */
  function networkChanged (): void {
    for (const session of liveSessions()) session.links.check()
    for (const search of searches.values()) search.hurry()
    keeper.networkChanged()
  }

  /** Over a relay that is there again the other end may be found at once; while no relay holds us it cannot find us: waiting for it is of no use. */
  function hurryForRelay ({ state }: RelayStatus): void {
    const isLast = state === 'connecting' && node.relays?.().every((relay) => relay.state !== 'reserved') === true
    if (state !== 'reserved' && !isLast) return
    for (const search of searches.values()) search.hurry(true)
  }

  /**
   * Dials until a link carries the session again or it has ended. The end that does not resume leaves the first attempt to
   * the other. One search per session: a loss while it still runs makes it begin anew.
   */
  async function findLink (session: LiveSession, signal: AbortSignal): Promise<void> {
    const relation = relations.get(session.peer.device)
    const growth = { firstMs: LIMITS.sessionRedialFirstMs, maxMs: LIMITS.sessionRedialMaxMs, factor: 2 }
    let attempt = 0
    let nap = new AbortController()
    let isFirst = true
    searches.set(session, {
      hurry: (isFirstToo = false) => {
        attempt = 0
        if (isFirstToo || !isFirst) nap.abort()
      }
    })
    try {
      // a spare over another relay is faster than any dial, which would only take the time that both ends need for the resume
      const hasSpare = session.links.all().some(({ link }) => link.relayPeerId !== session.relayPeerId)
      if (!session.isController || hasSpare) await rest(LIMITS.sessionRedialFirstMs)
      isFirst = false
      while (session.state === 'resuming' && relation?.session === session) {
        if (!relation.isOpening) dial(relation)
        await rest(backoffMs(growth, attempt++, components.random))
      }
    } finally {
      searches.delete(session)
    }

    async function rest (delayMs: number): Promise<void> {
      nap = new AbortController()
      await sleep(clock, delayMs, AbortSignal.any([signal, nap.signal])).catch(() => { signal.throwIfAborted() })
    }
  }

  function isNewestInstance (device: Did, instanceId: Uint8Array): boolean {
    if (instances.note(device, instanceId) === 'newest') return true
    log.warn('two processes run with the key of one device; the older one gets no session', { device })
    emitter.emit('session:duplicate-identity', { device })
    return false
  }

  /**
   * Room for one more session: the least recently used one without channels gives way. To a peer that comes by itself only
   * one that was not used for a while, or two friends too many would take each other's place for ever.
   */
  function admit (isWanted: boolean): CarrierError | undefined {
    const idleSinceMs = clock.monotonicMs() - (isWanted ? 0 : LIMITS.sessionIdleMs)
    const live = liveSessions()
    if (state !== 'running') return new CarrierError('ERR_CLOSED', 'this side is shutting down')
    if (live.length >= LIMITS.sessionCount) {
      const [oldest] = live.filter((session) => session.channelCount === 0 && session.lastUsedMs <= idleSinceMs).sort((one, other) => one.lastUsedMs - other.lastUsedMs)
      if (oldest === undefined) return new CarrierError('ERR_LIMIT', `${LIMITS.sessionCount} sessions are in use; try again later`)
      tasks.run('close an idle session', async () => { await oldest.close(new CarrierError('ERR_LIMIT', 'the session was idle and its place is needed')) })
    }
    if (pool.freeBytes < firstPlacesBytes(OWN_LIMITS)) return new CarrierError('ERR_LIMIT', 'the memory for sessions is used up; try again later')
    return undefined
  }

  function dial (relation: PeerRelation): void {
    relation.dialing()
    tasks.run('dial a session', async (signal) => {
      using deadline = startDeadline(clock, LIMITS.dialTimeoutMs + LIMITS.authTimeoutMs, 'the peer could not be reached in time', signal)
      try {
        const { stream, peer } = await openFriendStream(relation.device, deadline.signal)
        keeper.expect(peer)
        relation.dialed(createStreamLink(stream, peer), peer)
      } catch (err) {
        const failure = toCarrierError(err, 'ERR_PEER_OFFLINE')
        relation.session?.noteDialFailure(failure)
        relation.dialFailed(failure)
      }
    })
  }

  async function openFriendStream (device: Did, signal: AbortSignal, notVia: readonly string[] = []): Promise<{ stream: PeerStream, peer: Peer }> {
    const { stream, peer } = await node.openStream(device, SESSION_PROTOCOL, { signal, notVia, isEager: true })
    if (peer.level === 'friend') return { stream, peer }
    const err = new CarrierError('ERR_NOT_AVAILABLE', 'sessions are for friends, and the device is none (any more)')
    stream.abort(err)
    throw err
  }

  async function handleLink (stream: PeerStream, peer: Peer): Promise<void> {
    if (state !== 'running') throw new CarrierError('ERR_CLOSED', 'this side takes no sessions now')
    keeper.expect(peer)
    relationTo(peer.device).offer(createStreamLink(stream, peer), peer)
    await stream.closed
  }
}
