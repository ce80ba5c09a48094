/**
 * Keeps reservations on the best of the listed relays for as long as the node lives: js-libp2p makes each once and never again.
 * One stock listener per relay is used for all attempts, because closing one would cancel the reservations of all.
 * What the others are worth is measured now and then; which ones are best is decided in relay-choice.ts.
 */
import type { Connection } from '@libp2p/interface'
import { abortable, CarrierError, createTaskOwner, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { CounterMetric, Startable } from '../base/index.ts'
import type { Host } from './host.ts'
import type { RelayAddress } from './relay-address.ts'
import { dialRelay } from './relay-dial.ts'
import { chooseRelays, dialOrder } from './relay-choice.ts'
import { explainRelayFailure, relayRetryMs } from './relay-plan.ts'
import { createRelayTrust } from './relay-probe.ts'
import type { UsedUpQuota } from './relay-quota-messages.ts'
import { createRelayLook } from './relay-supervisor-look.ts'
import type { RelayLookComponents } from './relay-supervisor-look.ts'
import { createKeptRelay, DRAINING, factsOf, isRefusing, isSpent, noteDown, noteRefusal, noteUsedUp, RELEASED, stateWhileMeasured, stateWhileReserved } from './relay-supervisor-record.ts'
import type { KeptRelay } from './relay-supervisor-record.ts'
import type { RelayStatus } from './types.ts'

/** Hop and stop protocol of circuit-relay-v2: a stream of either is a circuit, or becomes one. */
const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'
const CIRCUIT_PROTOCOLS: ReadonlySet<string> = new Set([HOP_PROTOCOL, '/libp2p/circuit/relay/0.2.0/stop'])

/** What the supervisor needs. */
export interface RelaySupervisorComponents extends RelayLookComponents {
  /** Only while the node runs. */
  host: () => Host
  attempts: CounterMetric
  onState: (status: RelayStatus) => void
  /** The error to show in place of the one with which a reservation failed; see relay-quota.ts. */
  explainRefusal?: (relayPeerId: string, err: unknown, signal: AbortSignal) => Promise<unknown>
}

/** The supervisor. `start` does not wait for any relay. */
export interface RelaySupervisor extends Startable {
  /** In the order of the list. */
  statuses: () => RelayStatus[]
  isReserved: (peerId: string) => boolean
  /** It stops soon or does not forward: nothing new should go over it, and what runs over it should move. */
  isLeaving: (peerId: string) => boolean
  /** All relays, the one to dial through first at the front, each at the address that answers; at all of its addresses while none does. */
  dialOrder: () => RelayAddress[]
  /** What the relay said of our quota of circuits there. */
  noteQuota: (peerId: string, usedUp: UsedUpQuota | undefined) => void
  /** The relay said that it ends what is still there after `withinMs`. */
  noteDrain: (peerId: string, withinMs: number) => void
  /** Another network, or an end of sleep: what is down is tried at once, and what turns out to be lost now as well. */
  networkChanged: () => void
}

/** Creates the supervisor of `relays`. */
export function createRelaySupervisor (components: RelaySupervisorComponents, relays: readonly RelayAddress[]): RelaySupervisor {
  const { clock, log } = components
  const supervised = relays.map(createKeptRelay)
  let tasks = createTaskOwner(log)
  const look = createRelayLook<KeptRelay>(components, {
    onDrains: (item) => { drains(item, LIMITS.relayDrainMs) },
    onUsedUp: (item, quota) => { noteUsedUp(item, quota, clock.monotonicMs(), clock.now()) },
    onProbed: (item) => {
      if (item.drainsUntilMs !== undefined && clock.monotonicMs() > item.drainsUntilMs) item.drainsUntilMs = undefined
      setStatus(item, stateWhileReserved(item))
    },
    onLooked: review
  })

  function setStatus (item: KeptRelay, change: Partial<RelayStatus>): void {
    const before = item.status
    item.status = { ...before, ...change }
    // what it said of itself before it went is no news of now
    if (item.status.state === 'unreachable') item.status.loadPermille = undefined
    if (before.state === item.status.state && before.reason === item.status.reason) return
    log.info(`relay ${item.status.state}`, { relay: item.relay.peerId, reason: item.status.reason })
    components.onState(item.status)
  }

  /** Chooses anew. Who is chosen begins at once; who is not any more goes when all that are chosen are there, and nothing runs over it. */
  function review (): void {
    const chosen = chooseRelays(supervised.map((item) => factsOf(item, clock.monotonicMs())), LIMITS.relayReservedCount)
    for (const item of supervised) {
      const isChosen = chosen.has(item.relay.peerId)
      if (isChosen === item.status.isChosen) continue
      item.status = { ...item.status, isChosen }
      if (isChosen) item.turn?.abort()
    }
    const isComplete = supervised.every((item) => !item.status.isChosen || item.status.state === 'reserved')
    // a liar stays connected: without its reservation nobody would learn that it forwards again
    if (isComplete) for (const item of supervised) if (!item.status.isChosen && item.trust.lie === undefined) item.release?.()
  }

  /** For ever: reserve, watch until it is lost, again; or stand by until it is chosen. */
  async function supervise (item: KeptRelay, signal: AbortSignal): Promise<void> {
    item.downSinceMs = clock.monotonicMs()
    while (!signal.aborted) {
      if (!item.status.isChosen) {
        await standBy(item, signal)
        continue
      }
      try {
        const connection = await inTurn(item, 'attempt', signal, async (turn) => reserve(item, turn))
        components.attempts.add(1, { result: 'reserved' })
        const reservedAt = clock.monotonicMs()
        item.health = 'up'
        item.drainsUntilMs = undefined
        if (!isSpent(item, reservedAt)) item.usedUp = undefined
        setStatus(item, stateWhileReserved(item))
        review()
        const reason = await watch(item, connection, signal)
        if (reason === RELEASED) {
          item.refusal = undefined
          await connection.close()
          setStatus(item, { state: 'standby', reason })
          // closing may have taken long
          if (!item.status.isChosen) await nap(item, LIMITS.relayMeasureMs, signal)
          continue
        }
        const heldMs = clock.monotonicMs() - reservedAt
        // a relay that drops us again and again does not get us at the first, quick delays for ever
        if (heldMs > LIMITS.relayRetryLongMs) {
          item.attemptCount = 0
          item.downSinceMs = clock.monotonicMs()
          item.refusal = undefined
        } else if (item.changedAtMs === undefined) {
          noteRefusal(item, { state: 'unreachable', reason }, clock.monotonicMs(), components.random)
        }
        noteDown(item, clock.monotonicMs())
        setStatus(item, { state: 'connecting', reason, rttMs: undefined })
      } catch (err) {
        if (signal.aborted) return
        components.attempts.add(1, { result: 'failed' })
        log.debug('relay attempt failed', { relay: item.relay.peerId, attempt: item.attemptCount, err })
        item.health = 'down'
        setStatus(item, { ...explainRelayFailure(err), rttMs: undefined })
      }
      review()
      await pause(item, signal)
    }
  }

  /** Measures it, and waits. */
  async function standBy (item: KeptRelay, signal: AbortSignal): Promise<void> {
    try {
      // what is true of it now is heard while it is measured
      item.drainsUntilMs = undefined
      await inTurn(item, 'attempt', signal, async (turn) => measure(item, turn))
      item.health = 'up'
      // that it answers is no reservation
      if (item.refusal === undefined) {
        item.attemptCount = 0
        item.downSinceMs = clock.monotonicMs()
      }
      if (clock.monotonicMs() - item.lyingSinceMs >= LIMITS.relayLieRetryMaxMs) item.trust = createRelayTrust()
      setStatus(item, stateWhileMeasured(item, clock.monotonicMs()))
    } catch (err) {
      if (signal.aborted || item.status.isChosen) return
      log.debug('a relay that stands by could not be measured', { relay: item.relay.peerId, err })
      item.health = 'down'
      setStatus(item, { ...explainRelayFailure(err), rttMs: undefined })
    }
    review()
    if (item.status.isChosen) return
    if (item.health === 'down') await pause(item, signal)
    else await nap(item, measureAgainMs(item), signal)
  }

  function measureAgainMs (item: KeptRelay): number {
    const nowMs = clock.monotonicMs()
    return item.refusal === undefined || !isRefusing(item, nowMs) ? LIMITS.relayMeasureMs : Math.min(LIMITS.relayMeasureMs, item.refusal.untilMs - nowMs)
  }

  async function pause (item: KeptRelay, signal: AbortSignal): Promise<void> {
    const delayMs = relayRetryMs({ attempt: item.attemptCount++, downForMs: clock.monotonicMs() - item.downSinceMs }, components.random)
    const { changedAtMs } = item
    item.changedAtMs = undefined
    if (changedAtMs !== undefined && clock.monotonicMs() - changedAtMs <= LIMITS.relayAttemptMs) return
    await nap(item, delayMs, signal)
  }

  async function nap (item: KeptRelay, delayMs: number, signal: AbortSignal): Promise<void> {
    try {
      await inTurn(item, 'pause', signal, async (turn) => sleep(clock, delayMs, turn))
    } catch {
      // woken early: the loop looks at its own signal
    }
  }

  /** Runs work that a change of the network, or being chosen, ends early. */
  async function inTurn<T> (item: KeptRelay, kind: 'attempt' | 'pause', parent: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    parent.throwIfAborted()
    const early = new AbortController()
    const onAbort = (): void => { early.abort(parent.reason) }
    parent.addEventListener('abort', onAbort, { once: true })
    item.turn = { kind, sinceMs: clock.monotonicMs(), abort: () => { early.abort(new CarrierError('ERR_CANCELLED', 'something changed, another attempt begins')) } }
    try {
      return await work(early.signal)
    } finally {
      item.turn = undefined
      parent.removeEventListener('abort', onAbort)
    }
  }

  async function connect (item: KeptRelay, signal: AbortSignal): Promise<Connection> {
    const { connection, address } = await dialRelay(components, item.relay, item.reachedAt, signal)
    if (address !== undefined) {
      item.reachedAt = address
      item.status = { ...item.status, address: address.text }
    }
    return connection
  }

  async function reserve (item: KeptRelay, parent: AbortSignal): Promise<Connection> {
    using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', parent)
    const { signal } = deadline
    const { createCircuitListener } = components.host()
    const connection = await connect(item, signal)
    try {
      // A relay that has just started may not serve hop yet. Asking first keeps libp2p from remembering it as unfit for ever.
      const probe = await connection.newStream(HOP_PROTOCOL, { signal, runOnLimitedConnection: true })
      probe.abort(new CarrierError('ERR_CANCELLED', 'only asked whether it is a relay'))
      item.listener ??= createCircuitListener()
      await abortable(item.listener.listen(item.relay.circuit), signal)
      if (item.listener.getAddrs().length > 0) return connection
      // libp2p holds a reservation that this listener does not know: only a new connection clears it
      await connection.close({ signal })
      throw new CarrierError('ERR_LINK_LOST', 'the reservation was lost while it was made')
    } catch (err) {
      const explained = components.explainRefusal === undefined ? err : await components.explainRefusal(item.relay.peerId, err, signal)
      if (!parent.aborted) noteRefusal(item, explainRelayFailure(explained), clock.monotonicMs(), components.random)
      throw explained
    }
  }

  /** Round trip and load, over a connection that is closed again unless a circuit uses it. */
  async function measure (item: KeptRelay, parent: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', parent)
    const connection = await connect(item, deadline.signal)
    try {
      await look.once(item, connection, deadline.signal)
    } finally {
      if (!hasCircuits(connection)) await connection.close()
    }
  }

  /** Resolves with the reason when the reservation is gone, or is to be given up. */
  async function watch (item: KeptRelay, connection: Connection, signal: AbortSignal): Promise<string> {
    const lost = Promise.withResolvers<string>()
    const { listener } = item
    const onClose = (): void => { lost.resolve('the connection to the relay was lost') }
    const onListening = (): void => { if (listener?.getAddrs().length === 0) lost.resolve('the relay did not renew the reservation') }
    connection.addEventListener('close', onClose)
    listener?.addEventListener('listening', onListening)
    if (connection.status !== 'open') onClose()
    onListening()
    item.release = () => { if (!hasCircuits(connection)) lost.resolve(RELEASED) }
    const ended = new AbortController()
    tasks.run('relay-probe', async (stop) => { await look.untilLost(item, connection, lost.resolve, AbortSignal.any([stop, ended.signal])) })
    try {
      return await abortable(lost.promise, signal)
    } finally {
      item.release = undefined
      ended.abort()
      connection.removeEventListener('close', onClose)
      listener?.removeEventListener('listening', onListening)
    }
  }

  function drains (item: KeptRelay, withinMs: number): void {
    item.drainsUntilMs = clock.monotonicMs() + withinMs + LIMITS.relayDrainGraceMs
    if (item.status.state === 'reserved') setStatus(item, { reason: DRAINING })
    review()
  }

  function networkChanged (item: KeptRelay): void {
    const nowMs = clock.monotonicMs()
    const { turn } = item
    item.attemptCount = 0
    item.downSinceMs = nowMs
    // it may take us from there
    if (item.refusal !== undefined) item.refusal = { ...item.refusal, untilMs: nowMs }
    // whatever fails soon has failed because of the change
    item.changedAtMs = turn?.kind === 'pause' ? undefined : nowMs
    // an attempt that began a moment ago may be one on the new network
    if (turn?.kind === 'pause' || (turn !== undefined && nowMs - turn.sinceMs >= LIMITS.networkCheckMs)) turn.abort()
  }

  return {
    statuses: () => supervised.map((item) => item.status),
    isReserved: (peerId) => supervised.some((item) => item.relay.peerId === peerId && item.status.state === 'reserved'),
    isLeaving: (peerId) => supervised.some((item) => item.relay.peerId === peerId && (item.drainsUntilMs !== undefined || item.trust.lie !== undefined || isSpent(item, clock.monotonicMs()))),
    dialOrder: () => dialOrder(supervised.map((item) => factsOf(item, clock.monotonicMs()))).flatMap((facts) => facts.addresses),
    noteDrain: (peerId, withinMs) => {
      const item = supervised.find((one) => one.relay.peerId === peerId)
      if (item !== undefined) drains(item, withinMs)
    },
    noteQuota: (peerId, usedUp) => {
      const item = supervised.find((one) => one.relay.peerId === peerId)
      if (item === undefined) return
      noteUsedUp(item, usedUp, clock.monotonicMs(), clock.now())
      if (item.status.state === 'reserved') setStatus(item, stateWhileReserved(item))
      review()
    },
    networkChanged: () => { for (const item of supervised) networkChanged(item) },
    start: async () => {
      tasks = createTaskOwner(log)
      review()
      for (const item of supervised) tasks.run('relay', async (signal) => { await supervise(item, signal) })
    },
    stop: async () => {
      await tasks.stop()
      for (const item of supervised) {
        await item.listener?.close()
        item.listener = undefined
      }
    }
  }
}

function hasCircuits (connection: Connection): boolean {
  return connection.streams.some((stream) => CIRCUIT_PROTOCOLS.has(stream.protocol))
}
