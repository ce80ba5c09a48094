/** A libp2p host that knows one relay, in memory: what the relay supervisor needs of it, with outages on demand. */
import type { Connection } from '@libp2p/interface'
import { CarrierError, createMetrics, silentLogger } from '../../src/base/index.ts'
import type { Clock } from '../../src/base/index.ts'
import type { Host } from '../../src/node/host.ts'
import { parseRelayAddress } from '../../src/node/relay-address.ts'
import { createRelaySupervisor } from '../../src/node/relay-supervisor.ts'
import type { RelaySupervisor } from '../../src/node/relay-supervisor.ts'

const RELAY = '/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA'

/** How the relay behaves: `refused` answers at once that nothing listens, `silent` never answers. */
export type RelayMood = 'up' | 'refused' | 'silent'

/** A connection to the relay. */
export class FakeConnection extends EventTarget {
  status: 'open' | 'closed' = 'open'
  /** Listeners that were added and not removed. */
  listenerCount = 0

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

/** The supervisor with everything around it. */
export interface FakeRelayWorld {
  supervisor: RelaySupervisor
  /** Instants of all attempts, monotonic milliseconds. */
  attemptsMs: number[]
  /** Attempts that have neither succeeded nor failed. */
  openAttemptCount: () => number
  /** Every connection that there was, the newest last. */
  connections: readonly FakeConnection[]
  /** Listeners at the circuit listener. */
  listenerCount: () => number
  setMood: (mood: RelayMood) => void
  isReserved: () => boolean
}

/** Builds a supervisor of one relay that is not started. */
export function createFakeRelayWorld (clock: Clock, random: () => number = () => 0.5): FakeRelayWorld {
  const attemptsMs: number[] = []
  let mood: RelayMood = 'up'
  let openAttemptCount = 0
  const connections: FakeConnection[] = []
  let listenerCount = 0

  async function dial (_address: unknown, { signal }: { signal: AbortSignal }): Promise<FakeConnection> {
    attemptsMs.push(clock.monotonicMs())
    if (mood === 'refused') throw new Error('connect ECONNREFUSED')
    if (mood === 'up') {
      const connection = new FakeConnection()
      connections.push(connection)
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

  const listener = {
    listen: async () => {},
    getAddrs: () => connections.at(-1)?.status === 'open' ? ['circuit'] : [],
    addEventListener: () => { listenerCount++ },
    removeEventListener: () => { listenerCount-- },
    close: async () => {}
  }
  const host = { libp2p: { dial }, createCircuitListener: () => listener, isReservationGone: async () => false } as unknown as Host
  const supervisor = createRelaySupervisor({
    host: () => host,
    clock,
    log: silentLogger,
    attempts: createMetrics().counter('attempts', 'attempts', ['result']),
    ping: async (asked: Connection, signal) => {
      signal.throwIfAborted()
      if (asked.status !== 'open') throw new CarrierError('ERR_LINK_LOST', 'the connection is closed')
      return 1
    },
    random,
    onState: () => {}
  }, [parseRelayAddress(RELAY)])
  return {
    supervisor,
    attemptsMs,
    openAttemptCount: () => openAttemptCount,
    connections,
    listenerCount: () => listenerCount,
    setMood: (next) => {
      mood = next
      if (next !== 'up') connections.at(-1)?.abort()
    },
    isReserved: () => supervisor.statuses().every((status) => status.state === 'reserved')
  }
}
