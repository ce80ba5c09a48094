/** Owns all sessions: one per device pair, made by the controller, over links that either end dialled. */
import { totalmem } from 'node:os'
import { abortable, CarrierError, createEmitter, createTaskOwner, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, Logger, Metrics } from '../base/index.ts'
import { publicKeyFromDid } from '../identity/index.ts'
import type { Did, Identity } from '../identity/index.ts'
import type { CarrierNode, Peer, PeerStream } from '../node/index.ts'
import { firstPlacesBytes } from './credit-ledger.ts'
import { CreditPool } from './credit-pool.ts'
import { OWN_LIMITS } from './hello.ts'
import { createInstanceHistory } from './hello-verdict.ts'
import { LiveSession } from './live-session.ts'
import { PeerRelation } from './peer-relation.ts'
import { createSessionMetrics } from './session-metrics.ts'
import { createStreamLink } from './stream-link.ts'
import type { ChannelHandler, SessionEvents, SessionManager } from './types.ts'

/** The protocol whose stream is a stream link. */
export const SESSION_PROTOCOL = '/carrier/session/1.0.0'

/** Collaborators of the session manager. */
export interface SessionManagerComponents {
  node: Pick<CarrierNode, 'handle' | 'openStream'>
  identity: Pick<Identity, 'publicKey' | 'did' | 'instanceId'>
  clock: Clock
  log: Logger
  metrics: Metrics
}

/** A live link, one that replaces it. */
const STREAMS_PER_PEER = 2

/** Creates the manager and registers the session protocol; it takes links once it is started. */
export function createSessionManager (components: SessionManagerComponents, init: { creditBytes?: number } = {}): SessionManager {
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
    creditBytes: () => pool.usedBytes
  })
  let state: 'new' | 'running' | 'stopped' = 'new'
  let helloSequence = 0

  node.handle(SESSION_PROTOCOL, handleLink, { levels: ['friend'], maxStreamsPerPeer: STREAMS_PER_PEER })

  return {
    on: emitter.on,
    onChannel: (kind, handler) => { handlers.set(kind, handler) },
    open: async (device, options = {}) => {
      options.signal?.throwIfAborted()
      if (state !== 'running') throw new CarrierError('ERR_CLOSED', 'sessions are not running; start Carrier first')
      if (device === identity.did) throw new CarrierError('ERR_INVALID_ARGUMENT', 'a device has no session with itself')
      const relation = relationTo(device)
      if (relation.session !== undefined) return relation.session
      const session = relation.wait()
      if (!relation.isDialing) dial(relation)
      return abortable(session, options.signal)
    },
    get: (device) => relations.get(device)?.session,
    list: liveSessions,
    close: async (device, err) => { await relations.get(device)?.close(err) },
    start: async () => {
      if (state === 'stopped') throw new CarrierError('ERR_CLOSED', 'a stopped session manager does not start again')
      state = 'running'
    },
    stop: async () => {
      if (state === 'stopped') return
      state = 'stopped'
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
      nextSequence: () => ++helloSequence,
      isNewestInstance,
      admit,
      begin: (handshake, hello, sessionId, isControllerHere) => {
        const { device: remote, owner } = handshake.peer
        return new LiveSession({ clock, log, tasks, metrics, pool, handlers }, {
          peer: { device: remote, owner },
          id: sessionId,
          isController: isControllerHere,
          limits: OWN_LIMITS,
          peerLimits: hello.limits,
          link: handshake.link,
          decoder: handshake.decoder,
          onClosed: sessionClosed
        })
      },
      onBegun: (session) => {
        metrics.opened.add()
        log.info('session opened', { device, link: session.link, path: session.path })
        emitter.emit('session:opened', { session })
      },
      onRefused: (err) => {
        metrics.handshakeRefused.add(1, { code: err.code })
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
    relations.get(session.peer.device)?.sessionClosed(session)
    emitter.emit('session:closed', { peer: session.peer, error })
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
        const { stream, peer } = await node.openStream(relation.device, SESSION_PROTOCOL, { signal: deadline.signal })
        if (peer.level !== 'friend') {
          const err = new CarrierError('ERR_NOT_AVAILABLE', 'sessions are for friends, and the device is none (any more)')
          stream.abort(err)
          throw err
        }
        relation.dialed(createStreamLink(stream, peer), peer)
      } catch (err) {
        relation.dialFailed(toCarrierError(err, 'ERR_PEER_OFFLINE'))
      }
    })
  }

  async function handleLink (stream: PeerStream, peer: Peer): Promise<void> {
    if (state !== 'running') throw new CarrierError('ERR_CLOSED', 'this side takes no sessions now')
    relationTo(peer.device).offer(createStreamLink(stream, peer), peer)
    await stream.closed
  }
}
