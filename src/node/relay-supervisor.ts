/**
 * Keeps a reservation on every configured relay for as long as the node lives: js-libp2p makes each once and never again.
 * One stock listener per relay is used for all attempts, because closing one would cancel the reservations of all.
 */
import type { Connection, Listener } from '@libp2p/interface'
import { abortable, CarrierError, createTaskOwner, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, Startable } from '../base/index.ts'
import type { Host } from './host.ts'
import type { RelayAddress } from './relay-address.ts'
import { explainRelayFailure, relayRetryMs } from './relay-plan.ts'
import type { RelayStatus } from './types.ts'

/** Hop protocol of circuit-relay-v2. */
const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'

/** What the supervisor needs. */
export interface RelaySupervisorComponents {
  /** Only while the node runs. */
  host: () => Host
  clock: Clock
  log: Logger
  attempts: CounterMetric
  ping: (connection: Connection, signal: AbortSignal) => Promise<number>
  /** In [0, 1). */
  random: () => number
  onState: (status: RelayStatus) => void
}

/** The supervisor. `start` does not wait for any relay. */
export interface RelaySupervisor extends Startable {
  statuses: () => RelayStatus[]
  isReserved: (peerId: string) => boolean
  /** Another network, or an end of sleep: what is down is tried at once, and what turns out to be lost now as well. */
  networkChanged: () => void
}

/** Mutable record of one relay. */
interface Supervised {
  relay: RelayAddress
  status: RelayStatus
  listener: Listener | undefined
  /** What is done now; `abort` ends a pause or an attempt early. */
  turn: { kind: 'attempt' | 'pause', sinceMs: number, abort: () => void } | undefined
  /** Attempts since the relay was lost or the network changed. */
  attemptCount: number
  downSinceMs: number
  /** When the network changed and the next attempt still has to come; a loss that follows has no pause. */
  changedAtMs: number | undefined
}

/** Creates the supervisor of `relays`. */
export function createRelaySupervisor (components: RelaySupervisorComponents, relays: readonly RelayAddress[]): RelaySupervisor {
  const { clock, log } = components
  const supervised = relays.map((relay): Supervised => ({
    relay,
    status: { peerId: relay.peerId, address: relay.text, state: 'connecting', rttMs: undefined, reason: 'no attempt yet' },
    listener: undefined,
    turn: undefined,
    attemptCount: 0,
    downSinceMs: 0,
    changedAtMs: undefined
  }))
  let tasks = createTaskOwner(log)

  function setStatus (item: Supervised, change: Partial<RelayStatus>): void {
    const before = item.status
    item.status = { ...before, ...change }
    if (before.state === item.status.state && before.reason === item.status.reason) return
    log.info(`relay ${item.status.state}`, { relay: item.relay.peerId, reason: item.status.reason })
    components.onState(item.status)
  }

  /** For ever: reserve, watch until it is lost, again. */
  async function supervise (item: Supervised, signal: AbortSignal): Promise<void> {
    item.downSinceMs = clock.monotonicMs()
    while (!signal.aborted) {
      try {
        const connection = await inTurn(item, 'attempt', signal, async (turn) => reserve(item, turn))
        components.attempts.add(1, { result: 'reserved' })
        const reservedAt = clock.monotonicMs()
        setStatus(item, { state: 'reserved', reason: undefined })
        const reason = await watch(item, connection, signal)
        // a relay that drops us again and again does not get us at the first, quick delays for ever
        if (clock.monotonicMs() - reservedAt > LIMITS.relayRetryLongMs) {
          item.attemptCount = 0
          item.downSinceMs = clock.monotonicMs()
        }
        setStatus(item, { state: 'connecting', reason, rttMs: undefined })
      } catch (err) {
        if (signal.aborted) return
        components.attempts.add(1, { result: 'failed' })
        log.debug('relay attempt failed', { relay: item.relay.peerId, attempt: item.attemptCount, err })
        setStatus(item, { ...explainRelayFailure(err), rttMs: undefined })
      }
      await pause(item, signal)
    }
  }

  async function pause (item: Supervised, signal: AbortSignal): Promise<void> {
    const delayMs = relayRetryMs({ attempt: item.attemptCount++, downForMs: clock.monotonicMs() - item.downSinceMs }, components.random)
    const { changedAtMs } = item
    item.changedAtMs = undefined
    if (changedAtMs !== undefined && clock.monotonicMs() - changedAtMs <= LIMITS.relayAttemptMs) return
    try {
      await inTurn(item, 'pause', signal, async (turn) => sleep(clock, delayMs, turn))
    } catch {
      // woken early: the loop looks at its own signal
    }
  }

  /** Runs work that a change of the network ends early. */
  async function inTurn<T> (item: Supervised, kind: 'attempt' | 'pause', parent: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    parent.throwIfAborted()
    const early = new AbortController()
    const onAbort = (): void => { early.abort(parent.reason) }
    parent.addEventListener('abort', onAbort, { once: true })
    item.turn = { kind, sinceMs: clock.monotonicMs(), abort: () => { early.abort(new CarrierError('ERR_CANCELLED', 'the network changed, another attempt begins')) } }
    try {
      return await work(early.signal)
    } finally {
      item.turn = undefined
      parent.removeEventListener('abort', onAbort)
    }
  }

  async function reserve (item: Supervised, parent: AbortSignal): Promise<Connection> {
    using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', parent)
    const { signal } = deadline
    const { libp2p, createCircuitListener } = components.host()
    const connection = await libp2p.dial(item.relay.multiaddr, { signal })
    // A relay that has just started may not serve hop yet. Asking first keeps libp2p from remembering it as unfit for ever.
    const probe = await connection.newStream(HOP_PROTOCOL, { signal, runOnLimitedConnection: true })
    probe.abort(new CarrierError('ERR_CANCELLED', 'only asked whether it is a relay'))
    item.listener ??= createCircuitListener()
    await abortable(item.listener.listen(item.relay.circuit), signal)
    if (item.listener.getAddrs().length > 0) return connection
    // libp2p holds a reservation that this listener does not know: only a new connection clears it
    await connection.close({ signal })
    throw new CarrierError('ERR_LINK_LOST', 'the reservation was lost while it was made')
  }

  /** Resolves with the reason when the reservation is gone. */
  async function watch (item: Supervised, connection: Connection, signal: AbortSignal): Promise<string> {
    const lost = Promise.withResolvers<string>()
    const { listener } = item
    const onClose = (): void => { lost.resolve('the connection to the relay was lost') }
    const onListening = (): void => { if (listener?.getAddrs().length === 0) lost.resolve('the relay did not renew the reservation') }
    connection.addEventListener('close', onClose)
    listener?.addEventListener('listening', onListening)
    if (connection.status !== 'open') onClose()
    onListening()
    const ended = new AbortController()
    tasks.run('relay-probe', async (stop) => { await probeUntilLost(item, connection, lost.resolve, AbortSignal.any([stop, ended.signal])) })
    try {
      return await abortable(lost.promise, signal)
    } finally {
      ended.abort()
      connection.removeEventListener('close', onClose)
      listener?.removeEventListener('listening', onListening)
    }
  }

  /** Round trip and a dial of ourselves through the relay, at once and then every `relayProbeMs`. */
  async function probeUntilLost (item: Supervised, connection: Connection, lose: (reason: string) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', signal)
        const rttMs = await components.ping(connection, deadline.signal)
        item.status = { ...item.status, rttMs: Math.round(rttMs * 10) / 10 }
        if (await components.host().isReservationGone(item.relay.circuit, deadline.signal)) {
          // libp2p forgets its reservation only with the connection
          await connection.close()
          lose('the relay forgot the reservation')
          return
        }
      } catch (err) {
        // one probe is no verdict: a dead connection is noticed by its silence
        log.debug('relay probe failed', { relay: item.relay.peerId, err })
      }
      try {
        await sleep(clock, LIMITS.relayProbeMs, signal)
      } catch {
        // stopped or lost: the loop ends
      }
    }
  }

  function networkChanged (item: Supervised): void {
    const nowMs = clock.monotonicMs()
    const { turn } = item
    item.attemptCount = 0
    item.downSinceMs = nowMs
    // whatever fails soon has failed because of the change
    item.changedAtMs = turn?.kind === 'pause' ? undefined : nowMs
    // an attempt that began a moment ago may be one on the new network
    if (turn?.kind === 'pause' || (turn !== undefined && nowMs - turn.sinceMs >= LIMITS.networkCheckMs)) turn.abort()
  }

  return {
    statuses: () => supervised.map((item) => item.status),
    isReserved: (peerId) => supervised.some((item) => item.relay.peerId === peerId && item.status.state === 'reserved'),
    networkChanged: () => { for (const item of supervised) networkChanged(item) },
    start: async () => {
      tasks = createTaskOwner(log)
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
