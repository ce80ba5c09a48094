/** A libp2p host that knows some relays, in memory: what the relay supervisor needs of it, with outages, distances, loads and lies on demand. */
import type { Connection } from '@libp2p/interface'
import { CarrierError, createMetrics, silentLogger, sleep } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import type { Host } from '../../src/node/host.ts'
import { parseRelayAddress } from '../../src/node/relay-address.ts'
import type { ProbeResult } from '../../src/node/relay-probe.ts'
import { createRelaySupervisor } from '../../src/node/relay-supervisor.ts'
import type { RelaySupervisor } from '../../src/node/relay-supervisor.ts'
import type { RelayStatus } from '../../src/node/types.ts'

/** Addresses of relays; the keys are random ones. */
const ADDRESSES = [
  '/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA',
  '/ip4/192.0.2.2/tcp/4001/p2p/12D3KooWMx6WwgmzmMtBnnKAxqXDBBik7v9HkYbNZUGZZnaSc8aC',
  '/ip4/192.0.2.3/tcp/4001/p2p/12D3KooWCfH7WpSKJaDZSNLTaxtqM33ZddQpVyQzLmoXtjf3quuh',
  '/ip4/192.0.2.4/tcp/4001/p2p/12D3KooWBc6A1svgcfaGLuusJi5UbTq6H6DTSDgmnTn48Tkis9LD',
  '/ip4/192.0.2.5/tcp/4001/p2p/12D3KooWAsgTh8DSrLixugjQjcJMAQ9HHkq5JPhKR9cR27D9smHT'
]

/** How the relay behaves: `refused` answers at once that nothing listens, `silent` never answers. */
export type RelayMood = 'up' | 'refused' | 'silent'

/** A connection to a relay. */
export class FakeConnection extends EventTarget {
  status: 'open' | 'closed' = 'open'
  /** Listeners that were added and not removed. */
  listenerCount = 0
  /** Streams that are open: circuits, when a test puts some there. */
  streams: Array<{ protocol: string }> = []

  override addEventListener (...args: Parameters<EventTarget['addEventListener']>): void {
    this.listenerCount++
    super.addEventListener(...args)
  }

  override removeEventListener (...args: Parameters<EventTarget['removeEventListener']>): void {
    this.listenerCount--
    super.removeEventListener(...args)
  }

  async newStream (): Promise<{ abort: () => void }> { return { abort: () => {} } }
  async close (): Promise<void> { this.abort() }
  abort (): void {
    if (this.status === 'closed') return
    this.status = 'closed'
    this.dispatchEvent(new Event('close'))
  }
}

/** One relay; what a test sets counts from then on. */
export interface FakeRelay {
  readonly peerId: string
  /** Instants of all attempts to connect, monotonic milliseconds. */
  readonly attemptsMs: number[]
  /** Every connection that there was, the newest last. */
  readonly connections: FakeConnection[]
  mood: RelayMood
  rttMs: number
  loadPermille: number | undefined
  isDraining: boolean
  /** It answers everything, and takes no reservation. */
  isFull: boolean
  /** What a circuit to ourselves shows. */
  probeResult: ProbeResult
  /** Instants of all such circuits. */
  readonly probesMs: number[]
  /** Changes the mood; a relay that goes away takes its connections along. */
  setMood: (mood: RelayMood) => void
  status: () => RelayStatus
}

/** The supervisor of several relays with everything around it. */
export interface FakeRelays {
  supervisor: RelaySupervisor
  relays: FakeRelay[]
  /** Attempts that have neither succeeded nor failed. */
  openAttemptCount: () => number
  /** Listeners at the circuit listeners. */
  listenerCount: () => number
  /** Every state that was told, as `index state`. */
  story: string[]
}

/** Builds a supervisor of `count` relays that is not started; the first is next door, each further one 10 ms farther. */
export function createFakeRelays (clock: Clock, count: number, random: () => number = () => 0.5): FakeRelays {
  let openAttemptCount = 0
  let listenerCount = 0
  const story: string[] = []
  const addresses = ADDRESSES.slice(0, count).map((text) => parseRelayAddress(text))
  const relays = addresses.map(({ peerId }, index): FakeRelay => {
    const relay: FakeRelay = {
      peerId,
      attemptsMs: [],
      connections: [],
      mood: 'up',
      rttMs: 1 + 10 * index,
      loadPermille: undefined,
      isDraining: false,
      isFull: false,
      probeResult: 'forwards',
      probesMs: [],
      setMood: (next) => {
        relay.mood = next
        if (next !== 'up') for (const connection of relay.connections) connection.abort()
      },
      status: () => supervisor.statuses()[index] as RelayStatus
    }
    return relay
  })
  const relayAt = (text: string): FakeRelay => relays.find(({ peerId }) => text.includes(peerId)) as FakeRelay

  async function dial (address: { toString: () => string }, { signal }: { signal: AbortSignal }): Promise<FakeConnection> {
    const relay = relayAt(address.toString())
    relay.attemptsMs.push(clock.monotonicMs())
    if (relay.mood === 'refused') throw new Error('connect ECONNREFUSED')
    if (relay.mood === 'up') {
      const open = relay.connections.find(({ status }) => status === 'open')
      if (open !== undefined) return open
      const connection = new FakeConnection()
      relay.connections.push(connection)
      return connection
    }
    openAttemptCount++
    return new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        openAttemptCount--
        reject(signal.reason as Error)
      }, { once: true })
    })
  }

  function createCircuitListener (): object {
    let relay: FakeRelay | undefined
    return {
      listen: async (circuit: { toString: () => string }) => {
        if (relayAt(circuit.toString()).isFull) throw new Error('reservation failed with status RESERVATION_REFUSED')
        relay = relayAt(circuit.toString())
      },
      getAddrs: () => relay?.connections.at(-1)?.status === 'open' ? ['circuit'] : [],
      addEventListener: () => { listenerCount++ },
      removeEventListener: () => { listenerCount-- },
      close: async () => {}
    }
  }

  const metrics = createMetrics()
  const host = { libp2p: { dial }, createCircuitListener } as unknown as Host
  const supervisor = createRelaySupervisor({
    host: () => host,
    clock,
    log: silentLogger,
    attempts: metrics.counter('attempts', 'attempts', ['result']),
    probes: metrics.counter('probes', 'probes', ['result']),
    ping: async (asked: Connection, signal) => {
      signal.throwIfAborted()
      if (asked.status !== 'open') throw new CarrierError('ERR_LINK_LOST', 'the connection is closed')
      return relays.find(({ connections }) => connections.includes(asked as unknown as FakeConnection))?.rttMs ?? 1
    },
    probe: async ({ peerId }, signal) => {
      const relay = relayAt(peerId)
      relay.probesMs.push(clock.monotonicMs())
      // who swallows bytes lets the other end wait
      if (relay.probeResult === 'silent' || relay.probeResult === 'broken') await sleep(clock, 1_000, signal)
      return relay.probeResult
    },
    askLoad: async (peerId) => {
      const { loadPermille, isDraining } = relayAt(peerId)
      return loadPermille === undefined ? undefined : { permille: loadPermille, isDraining }
    },
    random,
    onState: (status) => { story.push(`${addresses.findIndex(({ peerId }) => peerId === status.peerId)} ${status.state}`) }
  }, addresses)
  return { supervisor, relays, openAttemptCount: () => openAttemptCount, listenerCount: () => listenerCount, story }
}

/** One relay only. */
export interface FakeRelayWorld extends Pick<FakeRelays, 'supervisor' | 'openAttemptCount' | 'listenerCount'>, Pick<FakeRelay, 'attemptsMs' | 'connections' | 'setMood'> {
  isReserved: () => boolean
}

/** Builds a supervisor of one relay that is not started. */
export function createFakeRelayWorld (clock: Clock, random: () => number = () => 0.5): FakeRelayWorld {
  const { supervisor, relays: [relay], openAttemptCount, listenerCount } = createFakeRelays(clock, 1, random)
  if (relay === undefined) throw new Error('there is no relay')
  return {
    supervisor,
    openAttemptCount,
    listenerCount,
    attemptsMs: relay.attemptsMs,
    connections: relay.connections,
    setMood: relay.setMood,
    isReserved: () => relay.status().state === 'reserved'
  }
}
