/** One forward: its listener, its connections, and the loop that keeps its state honest and brings it back by itself. */
import type { Socket } from 'node:net'
import { backoffMs, CarrierError, createTaskOwner, errorCode, errorMessage, formatHostPort, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import type { Friend } from '../friends/index.ts'
import type { Did } from '../identity/index.ts'
import type { SessionManager } from '../session/index.ts'
import { explainFailure } from './explain-failure.ts'
import { liveSession, openFriendSession } from './friend-session.ts'
import { concernsForward, INITIAL_STATE, nextForwardState, retryPace } from './forward-state.ts'
import type { ForwardEvent, ForwardState } from './forward-state.ts'
import type { HostPort } from './host-port.ts'
import { resetSocket } from './join.ts'
import { carryLocalConnection } from './local-connection.ts'
import { createLocalListener } from './local-listener.ts'
import type { ForwardingMetrics } from './metrics.ts'
import { probeService } from './probe.ts'
import type { Forward, ItemSource } from './types.ts'
import { createWaker } from './waker.ts'
import { encodeTcpOpening } from './wire.ts'

/** What a forward needs. */
export interface ForwardComponents {
  sessions: Pick<SessionManager, 'open' | 'get'>
  clock: Clock
  random: () => number
  log: Logger
  metrics: ForwardingMetrics
  /** Called after each change of state. */
  onState: (forward: Forward) => void
}

/** What a forward is. */
export interface ForwardInit {
  bind: HostPort
  /** The friend as the list knows it now; undefined while carrier.toml names somebody unknown. */
  friend: () => Friend | undefined
  /** Whom it belongs to for good; undefined when carrier.toml names somebody, who may be looked up anew. */
  owner: Did | undefined
  /** As written, for display while the friend is unknown. */
  who: string
  service: string
  isPersistent: boolean
  source: ItemSource
}

/** A forward that lives. Its creator closes it. */
export interface LiveForward {
  readonly init: ForwardInit
  /** Port that it listens on, or shall listen on. */
  port: () => number
  snapshot: () => Forward
  /** @throws CarrierError ERR_PORT_IN_USE, ERR_INVALID_ARGUMENT */
  bind: () => Promise<void>
  /** One end-to-end probe now; the outcome is in the state. @throws the signal's reason when it fires */
  probe: (signal?: AbortSignal) => Promise<void>
  /** Starts the loop that binds, probes and retries. */
  supervise: () => void
  /** It was asked for once, and is to survive a restart now. */
  keep: () => void
  /** Something that may help happened, such as a session that came up: look again at once. */
  wake: () => void
  /** Labels or members of the friend list changed: whoever is meant now was perhaps never proven. */
  friendsChanged: () => void
  /** The session that carried it is gone. */
  lost: () => void
  /** Ends all connections and keeps the forward. */
  cutConnections: (error: CarrierError) => void
  /** Stops listening, ends its connections. Idempotent. */
  close: (error: CarrierError) => Promise<void>
}

const NORMAL_PACE = { firstMs: LIMITS.forwardRetryFirstMs, maxMs: LIMITS.forwardRetryMaxMs, factor: 2 }
const SLOW_PACE = { firstMs: LIMITS.forwardRefusedRetryFirstMs, maxMs: LIMITS.forwardRefusedRetryMaxMs, factor: 2 }

/** Creates a forward that does nothing yet. */
export function createForward (components: ForwardComponents, init: ForwardInit): LiveForward {
  const { sessions, clock, random, log, metrics } = components
  const tasks = createTaskOwner(log)
  const waker = createWaker(clock)
  const cutters = new Set<AbortController>()
  const listener = createLocalListener({
    onConnection,
    onFailure: (err) => {
      apply({ kind: 'blocked', reason: err.message })
      waker.wake()
    }
  })
  const opening = encodeTcpOpening({ service: init.service, probe: false })
  let state: ForwardState = INITIAL_STATE
  let provenAt: number | undefined
  let attempt = 0
  let { isPersistent } = init
  let owner = init.friend()?.owner
  /** Where it listened last: a port that the system picked is kept when the listener has to be bound again. */
  let port = init.bind.port

  function apply (event: ForwardEvent): void {
    const before = state
    state = nextForwardState(state, event)
    if (state.kind === 'active') provenAt = state.provenAt
    if (before.kind === state.kind && reasonOf(before) === reasonOf(state)) return
    if (tasks.signal.aborted) return
    log.info('a forward changed', { listen: formatHostPort({ ...init.bind, port }), to: displayTo(), state: state.kind, reason: reasonOf(state) })
    components.onState(snapshot())
  }

  function displayTo (): string {
    const friend = init.friend()
    return `${friend?.label ?? init.who}/${init.service}`
  }

  function snapshot (): Forward {
    const friend = init.friend()
    return {
      bind: { ...init.bind },
      listen: formatHostPort({ ...init.bind, port }),
      to: displayTo(),
      friend: friend?.owner ?? init.owner,
      service: init.service,
      isPersistent,
      source: init.source,
      state: state.kind,
      reason: reasonOf(state),
      path: friend === undefined ? undefined : liveSession(sessions, friend)?.path,
      connectionCount: cutters.size,
      provenAt
    }
  }

  /** A failure in words for people, whatever the session layer called it. */
  function applyFailure (err: unknown): void {
    const code = errorCode(err)
    apply({ kind: 'failed', code, reason: explainFailure(err, { label: init.friend()?.label ?? init.who, service: init.service }) })
  }

  function friendOrBlocked (): Friend | undefined {
    const friend = init.friend()
    if (friend === undefined) apply({ kind: 'blocked', reason: `no friend is called "${init.who}"; "carrier friend list" shows who is there` })
    return friend
  }

  async function probe (parent?: AbortSignal): Promise<void> {
    const friend = friendOrBlocked()
    if (friend === undefined) return
    using deadline = startDeadline(clock, LIMITS.forwardProbeTimeoutMs, `no answer within ${LIMITS.forwardProbeTimeoutMs} ms`, parent)
    try {
      const session = await openFriendSession(sessions, friend, deadline.signal)
      // whatever woke us while the session was opened, this probe answers it
      waker.clear()
      await probeService(session, init.service, deadline.signal)
      metrics.forwardProbes.add(1, { result: 'passed' })
      apply({ kind: 'proven', at: clock.now() })
    } catch (err) {
      parent?.throwIfAborted()
      metrics.forwardProbes.add(1, { result: 'failed' })
      applyFailure(err)
    }
  }

  async function bind (): Promise<void> {
    const bound = await listener.bind({ ...init.bind, port })
    port = bound.port
    apply({ kind: 'listening' })
  }

  /** Binds if need be, then probes. */
  async function step (signal: AbortSignal): Promise<void> {
    if (listener.address() === undefined) {
      try {
        await bind()
      } catch (err) {
        apply({ kind: 'blocked', reason: `${errorMessage(err)}; it is tried again by itself` })
        return
      }
    }
    if (friendOrBlocked() === undefined) return
    apply({ kind: 'listening' })
    await probe(signal)
  }

  function nextDelayMs (): number | undefined {
    switch (retryPace(state)) {
      case 'none': return undefined
      case 'now': return 0
      case 'normal': return backoffMs(NORMAL_PACE, attempt, random)
      case 'slow': return backoffMs(SLOW_PACE, attempt, random)
    }
  }

  async function loop (signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { kind } = state
      await waker.wait(nextDelayMs(), signal)
      if (signal.aborted) return
      if (kind === 'active') {
        // what ended it says how long to wait now
        attempt = 0
        continue
      }
      await step(signal)
      attempt = stateKind() === kind ? attempt + 1 : 0
    }
  }

  /** Apart, because the compiler does not see that `step` changes it. */
  function stateKind (): ForwardState['kind'] {
    return state.kind
  }

  function onConnection (socket: Socket): void {
    const cutter = new AbortController()
    if (tasks.signal.aborted || cutters.size >= LIMITS.forwardConnectionCount) {
      metrics.forwardConnections.add(1, { result: 'limit' })
      socket.on('error', () => {}) // it is being refused
      resetSocket(socket)
      return
    }
    cutters.add(cutter)
    metrics.forwardConnectionsOpen.add(1)
    tasks.run('local connection', async () => {
      try {
        await carry(socket, cutter.signal)
      } finally {
        cutters.delete(cutter)
        metrics.forwardConnectionsOpen.add(-1)
      }
    })
  }

  async function carry (socket: Socket, signal: AbortSignal): Promise<void> {
    const result = await carryLocalConnection({
      socket,
      opening,
      clock,
      signal,
      liveSession: () => {
        const friend = init.friend()
        return friend === undefined ? undefined : liveSession(sessions, friend)
      },
      openSession: async (waiting) => {
        const friend = init.friend()
        if (friend === undefined) throw new CarrierError('ERR_UNKNOWN_FRIEND', `no friend is called "${init.who}"`)
        return openFriendSession(sessions, friend, waiting)
      },
      onAnswer: () => { apply({ kind: 'proven', at: clock.now() }) }
    })
    if (result.kind === 'no-session') {
      metrics.forwardConnections.add(1, { result: 'no_session' })
      const { code } = result.error
      if (!signal.aborted && code !== 'ERR_CANCELLED' && code !== 'ERR_LIMIT') failedConnection(result.error)
      return
    }
    metrics.forwardBytes.add(result.bytesIn, { direction: 'in' })
    metrics.forwardBytes.add(result.bytesOut, { direction: 'out' })
    const { error, origin } = result.outcome
    metrics.forwardConnections.add(1, { result: error === undefined ? 'ended' : origin === 'channel' ? 'failed' : 'reset' })
    if (error !== undefined && origin === 'channel' && !signal.aborted && concernsForward(error.code)) failedConnection(error)
  }

  /** A connection showed that the forward does not work now: say so, and find out when it does again. */
  function failedConnection (error: CarrierError): void {
    const wasActive = state.kind === 'active'
    applyFailure(error)
    if (wasActive) waker.wake()
  }

  return {
    init,
    port: () => port,
    snapshot,
    bind,
    probe,
    supervise: () => { tasks.run('keep the forward', loop) },
    keep: () => { isPersistent = true },
    wake,
    friendsChanged: () => {
      const before = owner
      owner = init.friend()?.owner
      if (owner !== before) lost()
      wake()
    },
    lost,
    cutConnections,
    close: async (error) => {
      listener.close()
      const stopped = tasks.stop()
      cutConnections(toCarrierError(error))
      await stopped
    }
  }

  function wake (): void {
    if (state.kind !== 'active') waker.wake()
  }

  function lost (): void {
    apply({ kind: 'lost' })
    if (state.kind === 'connecting') waker.wake()
  }

  function cutConnections (error: CarrierError): void {
    for (const cutter of [...cutters]) cutter.abort(error)
  }
}

function reasonOf (state: ForwardState): string | undefined {
  return 'reason' in state ? state.reason : undefined
}
