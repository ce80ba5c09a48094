/**
 * Honest peers that dial, a process of their own: `dials-main.ts RELAY`. The order `{ms}` makes dials for that long, each with a fresh key:
 * in turn a circuit to a waiting peer over the relay, from nothing to the end of both handshakes, and a reservation. The circuits come from an address
 * that the relay has known for a while, the reservations from a new one each time. Answered with {timesMs}; null for a failure.
 */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { askStatus, HOP, RESERVE } from '../support/raw-hop.ts'
import { startStockPeer } from '../support/stock-peer.ts'
import { pause } from '../support/wait.ts'
import { takeOrders } from './worker.ts'

const OK = 100
const DIAL_MS = 10_000
const LANES = 2
const BETWEEN_MS = 100
/** Where the waiting peer is too. */
const KNOWN_ADDRESS = '127.0.0.1'

const relay = process.argv[2] ?? ''
const called = await startStockPeer({ relays: [relay] })
const circuit = multiaddr(`${relay}/p2p-circuit/p2p/${called.peerId.toString()}`)

let dialCount = 0

/** One that is none of the attackers'. */
function newAddress (): string { return `127.1.${dialCount >> 8 & 0xff}.${dialCount & 0xff}` }

async function makeClient (localAddress: string): Promise<Libp2p> {
  const dialOpts = { noDelay: true, localAddress }
  return createLibp2p({
    transports: [tcp({ dialOpts }), circuitRelayTransport()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ enableKeepAlive: false })],
    connectionMonitor: { enabled: false },
    connectionManager: { reconnectRetries: 0, dialTimeout: DIAL_MS },
    services: { identify: identify() }
  })
}

async function dial (client: Libp2p, isCircuit: boolean): Promise<void> {
  if (isCircuit) {
    await client.dial(circuit, { signal: AbortSignal.timeout(DIAL_MS) })
    return
  }
  const connection = await client.dial(multiaddr(relay), { signal: AbortSignal.timeout(DIAL_MS) })
  const stream = await connection.newStream(HOP, { signal: AbortSignal.timeout(DIAL_MS) })
  const status = await askStatus(stream, RESERVE)
  if (status !== OK) throw new Error(`the relay answered ${status}`)
}

takeOrders<{ ms: number }>(async ({ ms }) => {
  const timesMs: Array<number | null> = []
  const untilMs = performance.now() + ms
  await Promise.all(Array.from({ length: LANES }, async () => {
    while (performance.now() < untilMs) {
      const isCircuit = dialCount++ % 2 === 0
      const client = await makeClient(isCircuit ? KNOWN_ADDRESS : newAddress())
      const startedAtMs = performance.now()
      try {
        await dial(client, isCircuit)
        timesMs.push(performance.now() - startedAtMs)
      } catch (err) {
        console.error(err instanceof Error ? err.message : String(err))
        timesMs.push(null)
      }
      await client.stop()
      await pause(BETWEEN_MS)
    }
  }))
  return { timesMs }
})
