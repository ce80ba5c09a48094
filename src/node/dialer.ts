/** Finds and opens an authenticated connection to a device; one attempt at a time per device, shared by all callers. */
import { abortable, CarrierError, errorMessage, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner } from '../base/index.ts'
import { peerIdFromDid } from '../identity/index.ts'
import type { Did } from '../identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from './auth-gate.ts'
import { closeSoon } from './close-connection.ts'
import { planDial } from './dial-plan.ts'
import type { DialCandidate } from './dial-plan.ts'
import type { Host } from './host.ts'
import { race } from './race.ts'
import type { RelayAddress } from './relay-address.ts'
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
  dials: CounterMetric
}

/** Opens connections. */
export interface Dialer {
  /** @throws CarrierError ERR_PEER_OFFLINE, ERR_NO_RELAY, or the signal's reason */
  connect: (device: Did, signal?: AbortSignal) => Promise<AuthenticatedConnection>
}

/** Creates the dialer. */
export function createDialer (components: DialerComponents, init: { relays: readonly RelayAddress[], mayUseLan: boolean, mayUseLoopback: boolean }): Dialer {
  const { clock, log } = components
  const running = new Map<Did, Promise<AuthenticatedConnection>>()

  async function dialOnce (device: Did): Promise<AuthenticatedConnection> {
    using deadline = startDeadline(clock, LIMITS.dialTimeoutMs, 'no answer', components.tasks().signal)
    const plan = planDial({
      ...init,
      peerId: peerIdFromDid(device).toString(),
      level: components.levelOf(device),
      remembered: components.addressStore.recall(device),
      isReserved: components.isReserved
    })
    if (plan.length === 0) throw new CarrierError('ERR_NO_RELAY', 'there is no way to reach the device: no relay is configured and no address of it is known; add one with "carrier up --relay MULTIADDR"')
    try {
      const entry = await race(clock, plan.map((candidate) => async (signal: AbortSignal) => tryCandidate(candidate, signal)), {
        staggerMs: LIMITS.dialStaggerMs,
        signal: deadline.signal,
        discard: (late) => { closeSoon(late.connection) }
      })
      components.dials.add(1, { result: 'connected' })
      return entry
    } catch (err) {
      components.dials.add(1, { result: 'failed' })
      log.debug('dial failed', { device, err })
      throw new CarrierError('ERR_PEER_OFFLINE', explainDialFailure(err, plan), { cause: err })
    }
  }

  /** The winner of the race is the first that also passed auth. */
  async function tryCandidate (candidate: DialCandidate, signal: AbortSignal): Promise<AuthenticatedConnection> {
    const connection = await components.host().dialAddress(candidate.address, signal)
    try {
      return await components.gate.passed(connection, signal)
    } catch (err) {
      closeSoon(connection)
      throw err
    }
  }

  return {
    connect: async (device, signal) => {
      let attempt = running.get(device)
      if (attempt === undefined) {
        attempt = dialOnce(device).finally(() => { running.delete(device) })
        // every caller may have given up by the time it fails
        attempt.catch(() => {})
        running.set(device, attempt)
      }
      return abortable(attempt, signal)
    }
  }
}

/** One sentence: why every way failed, and what that means. Pure. */
export function explainDialFailure (err: unknown, plan: readonly DialCandidate[]): string {
  const failures = err instanceof AggregateError ? err.errors as unknown[] : [err]
  const texts = failures.map(errorMessage)
  const relayCount = plan.filter((candidate) => candidate.via === 'relay').length
  if (relayCount > 0 && texts.filter((text) => /NO_RESERVATION|CONNECTION_FAILED/.test(text)).length >= relayCount) {
    return 'the device is offline, or not on a relay that this node uses: its reservation was found on none of them'
  }
  const refusal = failures.find((one) => one instanceof CarrierError && one.code !== 'ERR_LINK_LOST')
  if (refusal !== undefined) return `the device could not be reached: ${errorMessage(refusal)}`
  const reasons = new Set(failures.map((one) => explainRelayFailure(one).reason))
  return `the device could not be reached over ${plan.length} ${plan.length === 1 ? 'address' : 'addresses'}: ${[...reasons].join('; ')}`
}
