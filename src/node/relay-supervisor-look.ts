/** Looks at one relay: how far it is, how full, and whether it forwards. Notes what it sees in the relay's record; the supervisor decides. */
import type { Connection } from '@libp2p/interface'
import { backoffMs, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger } from '../base/index.ts'
import type { RelayAddress } from './relay-address.ts'
import type { RelayProbe, RelayTrust } from './relay-probe.ts'
import type { UsedQuotas, UsedUpQuota } from './relay-quota-messages.ts'
import type { RelayLoad } from './splice-messages.ts'
import type { RelayStatus } from './types.ts'

/** What looking needs. */
export interface RelayLookComponents {
  clock: Clock
  log: Logger
  /** Probes of relays, by result. */
  probes: CounterMetric
  ping: (connection: Connection, signal: AbortSignal) => Promise<number>
  /** Whether it forwards. */
  probe: RelayProbe['probe']
  /** How full it is; undefined when it does not tell. */
  askLoad: (relayPeerId: string, signal: AbortSignal) => Promise<RelayLoad | undefined>
  /** Asks again what it speaks, if nobody knows yet. */
  identify?: (connection: Connection, signal: AbortSignal) => Promise<void>
  /** Which of our quotas are used up there; undefined when it does not tell. */
  askQuota?: (relayPeerId: string, signal: AbortSignal) => Promise<UsedQuotas | undefined>
  /** In [0, 1). */
  random: () => number
}

/** The part of a relay's record that is noted here. */
export interface SeenRelay {
  readonly relay: RelayAddress
  status: RelayStatus
  readonly trust: RelayTrust
  /** When it was found lying. */
  lyingSinceMs: number
  /** Why it forwards nothing for us now although it holds our reservation; `untilMs` monotonic. */
  usedUp: { quota: string, untilMs: number, words: string } | undefined
}

/** What the owner of the record does about it. */
export interface RelayLookEvents<Seen extends SeenRelay> {
  /** It says that it stops. */
  onDrains: (item: Seen) => void
  /** What it says of our quota of circuits; undefined: it forwards, or has no such reason. */
  onUsedUp: (item: Seen, quota: UsedUpQuota | undefined) => void
  /** A probe is over: the state may be another one. */
  onProbed: (item: Seen) => void
  /** A round is over: the choice may be another one. */
  onLooked: () => void
}

/** Looks once, or for ever. */
export interface RelayLook<Seen extends SeenRelay> {
  /** Round trip and load. @throws the signal's reason, or what broke */
  once: (item: Seen, connection: Connection, signal: AbortSignal) => Promise<void>
  /** While a reservation is held: at once, every `relayProbeMs`, and sooner when in doubt. Ends with the signal, or with a call of `lose`; never rejects. */
  untilLost: (item: Seen, connection: Connection, lose: (reason: string) => void, signal: AbortSignal) => Promise<void>
}

/** Creates it. */
export function createRelayLook<Seen extends SeenRelay> (components: RelayLookComponents, events: RelayLookEvents<Seen>): RelayLook<Seen> {
  const { clock, log } = components

  async function once (item: Seen, connection: Connection, signal: AbortSignal): Promise<void> {
    const rttMs = await components.ping(connection, signal)
    const before = item.status.rttMs
    item.status = { ...item.status, rttMs: Math.round(10 * (before === undefined ? rttMs : before * 0.7 + rttMs * 0.3)) / 10 }
    try {
      let load = await components.askLoad(item.relay.peerId, signal)
      if (load === undefined && components.identify !== undefined) {
        // it may tell and offer more than is known: what it said of itself came too late when it was busy
        await components.identify(connection, signal)
        load = await components.askLoad(item.relay.peerId, signal)
      }
      item.status = { ...item.status, loadPermille: load?.permille }
      if (load?.isDraining === true) events.onDrains(item)
    } catch (err) {
      // a release that does not know the question
      log.debug('the relay did not say how full it is', { relay: item.relay.peerId, err })
    }
  }

  async function untilLost (item: Seen, connection: Connection, lose: (reason: string) => void, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', signal)
        await once(item, connection, deadline.signal)
        if (await isForgotten(item, connection, signal)) {
          // libp2p forgets its reservation only with the connection
          await connection.close()
          lose('the relay forgot the reservation')
          return
        }
      } catch (err) {
        // one probe is no verdict: a dead connection is noticed by its silence
        log.debug('relay probe failed', { relay: item.relay.peerId, err })
      }
      if (signal.aborted) return
      events.onLooked()
      try {
        await sleep(clock, nextProbeMs(item.trust), signal)
      } catch {
        // stopped or lost: the loop ends
      }
    }
  }

  /** Probes whether it forwards. True when it knows of no reservation. */
  async function isForgotten (item: Seen, connection: Connection, signal: AbortSignal): Promise<boolean> {
    using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay', signal)
    const result = await components.probe(item.relay, deadline.signal, signal)
    // what a connection that dies meanwhile does not carry says nothing about its relay
    if (connection.status !== 'open') return false
    components.probes.add(1, { result })
    // a circuit that is refused says nothing about the relay, but perhaps something about our quotas
    if (result === 'forwards') events.onUsedUp(item, undefined)
    else if (result === 'unknown') {
      const used = await components.askQuota?.(item.relay.peerId, deadline.signal)
      if (connection.status !== 'open') return false
      // no answer is no news
      if (used !== undefined) events.onUsedUp(item, used.circuits)
    }
    if (item.trust.note(result)) {
      item.lyingSinceMs = clock.monotonicMs()
      log.warn(item.trust.lie === undefined ? 'the relay forwards again' : 'the relay does not forward, it is avoided', { relay: item.relay.peerId, reason: item.trust.lie })
    }
    events.onProbed(item)
    return result === 'forgotten'
  }

  function nextProbeMs (trust: RelayTrust): number {
    if (trust.isInDoubt) return LIMITS.relayDoubtMs
    return trust.lie === undefined ? LIMITS.relayProbeMs : backoffMs({ firstMs: LIMITS.relayLieRetryFirstMs, maxMs: LIMITS.relayLieRetryMaxMs, factor: 2 }, trust.lieCount, components.random)
  }

  return { once, untilLost }
}
