/** Finds and opens an authenticated connection to a device; one attempt at a time per device, shared by all callers. */
import type { Connection } from '@libp2p/interface'
import { abortable, CarrierError, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner } from '../base/index.ts'
import { peerIdFromDid } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
import { closeSoon } from './close-connection.ts'
import { planBorrowed, planDial } from './dial-plan.ts'
import type { DialCandidate } from './dial-plan.ts'
import type { Host } from './host.ts'
import { race } from './race.ts'
import type { Attempt } from './race.ts'
import type { RelayAddress } from './relay-address.ts'
import type { RelayHintPool } from './relay-hints-pool.ts'
import type { RelayHintSource } from './relay-hints-source.ts'
import { explainRelayFailure } from './relay-plan.ts'
import type { PeerLevel } from './types.ts'

/** Direct addresses of devices, kept by someone who stores them. */
export interface AddressStore {
  remember: (device: Did, multiaddrs: string[]) => void
  /** Newest first. */
  recall: (device: Did) => string[]
}

/** What the dialer needs. */
export interface DialerComponents {
  host: () => Host
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  gate: Pick<AuthGate, 'passed'>
  levelOf: (device: Did) => PeerLevel
  addressStore: Pick<AddressStore, 'recall'>
  isReserved: (relayPeerId: string) => boolean
  /** The listed relays, the best first; the order of the list when absent. */
  relayOrder?: () => readonly RelayAddress[]
  /** What devices say of their relays, and how those are used that we do not list. */
  hints: RelayHintSource
  pool: Pick<RelayHintPool, 'borrow'>
  /** The relay with an IP address that may be dialled. @throws CarrierError ERR_PEER_OFFLINE */
  resolveRelay: (relay: RelayAddress) => Promise<RelayAddress>
  /** The error to show in place of the one with which a circuit over a relay failed; see relay-quota.ts. */
  explainCircuit?: (relayPeerId: string, err: unknown, signal: AbortSignal) => Promise<unknown>
  dials: CounterMetric
}

/** Opens connections. */
export interface Dialer {
  /** @throws CarrierError ERR_PEER_OFFLINE, ERR_NO_RELAY, or the signal's reason */
  connect: (device: Did, signal?: AbortSignal, avoidRelays?: readonly string[]) => Promise<AuthenticatedConnection>
}

/** Creates the dialer. */
export function createDialer (components: DialerComponents, init: { relays: readonly RelayAddress[], mayUseLan: boolean, mayUseLoopback: boolean }): Dialer {
  const { clock, log } = components
  /** By device and the relays that are avoided. */
  const running = new Map<string, Promise<AuthenticatedConnection>>()

  async function dialOnce (device: Did, avoidRelays: readonly string[]): Promise<AuthenticatedConnection> {
    using deadline = startDeadline(clock, LIMITS.dialTimeoutMs, 'no answer', components.tasks().signal)
    const hints = components.hints.hintsFor(device)
    const plan = planDial({
      ...init,
      relays: components.relayOrder?.() ?? init.relays,
      avoidRelays,
      peerId: peerIdFromDid(device).toString(),
      level: components.levelOf(device),
      remembered: components.addressStore.recall(device),
      isReserved: components.isReserved,
      hints
    })
    const attempts: Array<Attempt<AuthenticatedConnection>> = plan.map((candidate) => async (signal) => tryCandidate(candidate, signal))
    // a valid record is most likely still true; else the DHT is asked beside the known ways, which may all be stale
    if (components.hints.mayLookUp(device)) attempts.splice(Math.min(plan.length, hints.isFresh ? LOOK_UP_AFTER_FRESH : LOOK_UP_AFTER), 0, async (signal) => lookUpAndTry(device, plan, avoidRelays, signal))
    if (attempts.length === 0) throw new CarrierError('ERR_NO_RELAY', 'there is no way to reach the device: no relay is configured and no address of it is known; add one with "carrier up --relay MULTIADDR"')
    try {
      const entry = await race(clock, attempts, {
        staggerMs: LIMITS.dialStaggerMs,
        signal: deadline.signal,
        discard: (late) => { closeSoon(late.connection) }
      })
      components.dials.add(1, { result: 'connected' })
      components.hints.noteReached(device)
      return entry
    } catch (err) {
      components.dials.add(1, { result: 'failed' })
      log.debug('dial failed', { device, err })
      throw dialError(err, plan)
    }
  }

  /** Asks the DHT for the device's relays and races over those that were not tried yet. @throws AggregateError */
  async function lookUpAndTry (device: Did, tried: readonly DialCandidate[], avoidRelays: readonly string[], signal: AbortSignal): Promise<AuthenticatedConnection> {
    try {
      await components.hints.lookUp(device, signal)
    } catch (err) {
      signal.throwIfAborted()
      log.debug('the relays of the device were not found in the DHT', { device, err })
    }
    const known = new Set(tried.map(({ address }) => address.toString()))
    const found = planBorrowed({ hints: components.hints.hintsFor(device), peerId: peerIdFromDid(device).toString(), avoidRelays }).filter(({ address }) => !known.has(address.toString()))
    return race(clock, found.map((candidate) => async (attempt: AbortSignal) => tryCandidate(candidate, attempt)), {
      staggerMs: LIMITS.dialStaggerMs,
      signal,
      discard: (late) => { closeSoon(late.connection) }
    })
  }

  /** A circuit over a relay that is not ours: the relay is connected to first, and kept for as long as something runs over it. */
  async function dialBorrowed (relay: RelayAddress, peerId: string, signal: AbortSignal): Promise<Connection> {
    const resolved = await abortable(components.resolveRelay(relay), signal)
    const borrowed = await components.pool.borrow(resolved, signal)
    try {
      return await components.host().dialAddress(resolved.circuit.encapsulate(`/p2p/${peerId}`), signal)
    } finally {
      borrowed.end()
    }
  }

  async function openConnection (candidate: DialCandidate, signal: AbortSignal): Promise<Connection> {
    try {
      if (candidate.via === 'borrowed') return await dialBorrowed(candidate.relay, candidate.address.getComponents().at(-1)?.value ?? '', signal)
      return await components.host().dialAddress(candidate.address, signal)
    } catch (err) {
      const relayPeerId = candidate.via === 'direct' ? undefined : candidate.address.getComponents().find(({ name }) => name === 'p2p')?.value
      throw relayPeerId === undefined || components.explainCircuit === undefined ? err : await components.explainCircuit(relayPeerId, err, signal)
    }
  }

  /** The winner of the race is the first that also passed auth. */
  async function tryCandidate (candidate: DialCandidate, signal: AbortSignal): Promise<AuthenticatedConnection> {
    const connection = await openConnection(candidate, signal)
    try {
      return await components.gate.passed(connection, signal)
    } catch (err) {
      closeSoon(connection)
      throw err
    }
  }

  return {
    connect: async (device, signal, avoidRelays = []) => {
      const key = [device, ...avoidRelays].join(' ')
      let attempt = running.get(key)
      if (attempt === undefined) {
        attempt = dialOnce(device, avoidRelays).finally(() => { running.delete(key) })
        // every caller may have given up by the time it fails
        attempt.catch(() => {})
        running.set(key, attempt)
      }
      return abortable(attempt, signal)
    }
  }
}

/** After so many ways the DHT is asked when nothing says that they lead to the device. */
const LOOK_UP_AFTER = 1

/** And when a valid record does: one direct address, one relay of ours, one of theirs. */
const LOOK_UP_AFTER_FRESH = 3

/** ERR_PEER_OFFLINE, or ERR_QUOTA when a quota of ours stood in every way over a relay; what is known of that quota is in `detail`. Pure. */
export function dialError (err: unknown, plan: readonly DialCandidate[]): CarrierError {
  const overQuota = flatten(err).filter((one): one is CarrierError => one instanceof CarrierError && one.code === 'ERR_QUOTA')
  const relayCount = plan.filter((candidate) => candidate.via !== 'direct').length
  const detail = overQuota[0]?.detail
  return new CarrierError(overQuota.length > 0 && overQuota.length >= relayCount ? 'ERR_QUOTA' : 'ERR_PEER_OFFLINE', explainDialFailure(err, plan), { cause: err, ...(detail === undefined ? {} : { detail }) })
}

/** One sentence: why every way failed, and what that means. Pure. */
export function explainDialFailure (err: unknown, plan: readonly DialCandidate[]): string {
  const failures = flatten(err)
  const texts = failures.map(errorMessage)
  const relayCount = plan.filter((candidate) => candidate.via !== 'direct').length
  if (relayCount > 0 && texts.filter((text) => /NO_RESERVATION|CONNECTION_FAILED/.test(text)).length >= relayCount) {
    return 'the device is offline, or not on a relay that this node uses: its reservation was found on none of them'
  }
  const refusal = failures.find((one) => one instanceof CarrierError && one.code !== 'ERR_LINK_LOST')
  if (refusal !== undefined) return `the device could not be reached: ${errorMessage(refusal)}`
  if (failures.length === 0) return 'the device could not be reached: no relay of it is known, and the DHT knows none'
  const reasons = new Set(failures.map((one) => explainRelayFailure(one).reason))
  return `the device could not be reached over ${plan.length} ${plan.length === 1 ? 'address' : 'addresses'}: ${[...reasons].join('; ')}`
}

/** What failed in a race, and in the races inside. */
function flatten (err: unknown): unknown[] {
  return err instanceof AggregateError ? err.errors.flatMap(flatten) : [err]
}
