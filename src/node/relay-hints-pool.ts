/**
 * Connections to relays of friends that this node does not list itself: for circuits and splices that we ask for, nothing else.
 * Each is opened for a dial, kept while something runs over it, and then closed and forgotten.
 */
import type { Connection } from '@libp2p/interface'
import { abortable, CarrierError, LIMITS, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner, Timer } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { didFromPeerIdString } from '../identity/index.ts'
import { closeSoon } from './close-connection.ts'
import type { RelayAddress } from './relay-address.ts'
import type { PeerLevel } from './types.ts'

/** What the pool needs. */
export interface RelayHintPoolComponents {
  /** Connects to exactly this address. */
  dialAddress: (relay: RelayAddress, signal: AbortSignal) => Promise<Connection>
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  levelOf: (device: Did) => PeerLevel
  /** A relay is no longer in use; told before it is forgotten. */
  onForgotten: (peerId: string) => void
}

/** One use of a relay; `end` as soon as the circuit stands or has failed. */
export interface BorrowedRelay { connection: Connection, end: () => void }

/** The relays of friends that are in use. */
export interface RelayHintPool {
  /**
   * An open connection to the relay, of which all callers share one.
   *
   * @throws CarrierError ERR_LIMIT, ERR_NOT_AVAILABLE when the key is that of somebody we know otherwise, or why it cannot be reached
   */
  borrow: (relay: RelayAddress, signal: AbortSignal) => Promise<BorrowedRelay>
  /** True for a relay in use. A device that has become a friend meanwhile is none any more. */
  isBorrowed: (peerId: string) => boolean
  /** Relays in use. */
  readonly size: number
  /** Forgets all; the connections are their owner's to close. */
  stop: () => void
}

interface Entry {
  device: Did
  users: number
  connection: Connection | undefined
  opening: Promise<Connection> | undefined
  /** Since when nothing runs over it. */
  idleSinceMs: number | undefined
}

/** Creates an empty pool. */
export function createRelayHintPool (components: RelayHintPoolComponents): RelayHintPool {
  const { clock, log, levelOf } = components
  const entries = new Map<string, Entry>()
  let timer: Timer | undefined

  function forget (peerId: string, entry: Entry): void {
    if (entries.get(peerId) !== entry) return
    components.onForgotten(peerId)
    entries.delete(peerId)
    if (entry.connection?.status === 'open') closeSoon(entry.connection)
  }

  function isIdle (entry: Entry): boolean {
    return entry.users === 0 && (entry.connection === undefined || entry.connection.status !== 'open' || entry.connection.streams.length === 0)
  }

  /** A key that is known as a device's is no relay: a friend could cut us off from another one by naming it. */
  function assertUnknown (relay: RelayAddress): Did {
    const device = didFromPeerIdString(relay.peerId)
    if (levelOf(device) !== 'stranger') throw new CarrierError('ERR_NOT_AVAILABLE', 'the device names somebody as its relay who is known as a device')
    return device
  }

  function makeRoom (): void {
    if (entries.size < LIMITS.borrowedRelayCount) return
    const idle = [...entries].find(([, entry]) => isIdle(entry))
    if (idle === undefined) throw new CarrierError('ERR_LIMIT', 'too many relays of friends are in use at once')
    forget(...idle)
  }

  async function open (relay: RelayAddress, entry: Entry): Promise<Connection> {
    using deadline = startDeadline(clock, LIMITS.relayAttemptMs, 'no answer from the relay of the device', components.tasks().signal)
    const connection = await abortable(components.dialAddress(relay, deadline.signal), deadline.signal)
    if (entries.get(relay.peerId) !== entry) {
      closeSoon(connection)
      throw new CarrierError('ERR_CLOSED', 'the node stops')
    }
    entry.connection = connection
    connection.addEventListener('close', () => { forget(relay.peerId, entry) })
    return connection
  }

  async function connectionOf (relay: RelayAddress, entry: Entry): Promise<Connection> {
    if (entry.connection?.status === 'open') return entry.connection
    entry.opening ??= open(relay, entry).finally(() => { entry.opening = undefined })
    // every caller may have given up by the time it fails
    entry.opening.catch(() => {})
    return entry.opening
  }

  function end (peerId: string, entry: Entry): void {
    entry.users--
    // what could not be reached is forgotten at once: a stranger must not be taken for a relay because a friend said so
    if (entry.users === 0 && entry.connection?.status !== 'open' && entry.opening === undefined) forget(peerId, entry)
  }

  function look (): void {
    timer = undefined
    for (const [peerId, entry] of [...entries]) {
      if (!isIdle(entry)) entry.idleSinceMs = undefined
      else if (entry.idleSinceMs === undefined) entry.idleSinceMs = clock.monotonicMs()
      else if (clock.monotonicMs() - entry.idleSinceMs >= LIMITS.borrowedRelayIdleMs) {
        log.debug('a relay of a friend is not in use any more', { relay: peerId })
        forget(peerId, entry)
      }
    }
    watch()
  }

  function watch (): void {
    if (timer === undefined && entries.size > 0) timer = clock.setTimer(look, LIMITS.borrowedRelayIdleMs / 2)
  }

  return {
    borrow: async (relay, signal) => {
      const device = assertUnknown(relay)
      let entry = entries.get(relay.peerId)
      if (entry === undefined) {
        makeRoom()
        entry = { device, users: 0, connection: undefined, opening: undefined, idleSinceMs: undefined }
        entries.set(relay.peerId, entry)
        watch()
      }
      const used = entry
      used.users++
      try {
        return { connection: await abortable(connectionOf(relay, used), signal), end: () => { end(relay.peerId, used) } }
      } catch (err) {
        // an attempt that others wait for goes on; when it fails nobody is left to forget it
        if (used.opening === undefined) end(relay.peerId, used)
        else void used.opening.catch(() => {}).finally(() => { end(relay.peerId, used) })
        throw err
      }
    },
    isBorrowed: (peerId) => {
      const entry = entries.get(peerId)
      return entry !== undefined && levelOf(entry.device) === 'stranger'
    },
    get size () { return entries.size },
    stop: () => {
      timer?.cancel()
      timer = undefined
      for (const [peerId, entry] of [...entries]) forget(peerId, entry)
    }
  }
}
