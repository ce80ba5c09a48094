/** A relay of stock packages in this process that can lie: it takes every reservation, and then does not forward. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import type { CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { Stream } from '@libp2p/interface'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'

/** `refuses`: it says that the called peer did not answer, and asks nobody. `swallows`: it calls the peer, says that all is well, and carries nothing towards it. */
export type RelayLie = 'honest' | 'refuses' | 'swallows'

/** The relay, which runs. */
export interface LyingRelay {
  address: string
  peerId: string
  /** From the next circuit on. */
  setLie: (lie: RelayLie) => void
  /** Circuits that were asked for. */
  askedCount: () => number
  /** Devices that hold a reservation. */
  reservationCount: () => number
  stop: () => Promise<void>
}

/** Starts an honest one. */
export async function startLyingRelay (): Promise<LyingRelay> {
  let lie: RelayLie = 'honest'
  let askedCount = 0
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: 2 << 20, maxReadBufferLength: 4 << 20 } })],
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    services: {
      identify: identify(),
      ping: ping({ maxInboundStreams: 64 }),
      relay: (components) => {
        const server = circuitRelayServer({ maxInboundHopStreams: 1000, reservations: { maxReservations: 1000, applyDefaultLimit: false } })(components)
        const inner = server as unknown as { stopHop: (...args: unknown[]) => Promise<Stream | undefined> }
        const callPeer = inner.stopHop.bind(inner)
        inner.stopHop = async (...args) => {
          askedCount++
          if (lie === 'refuses') return undefined
          const stream = await callPeer(...args)
          return lie === 'swallows' && stream !== undefined ? deaf(stream) : stream
        }
        return server
      }
    }
  })
  const [address] = node.getMultiaddrs()
  if (address === undefined) throw new Error('the relay does not listen')
  return {
    address: address.toString(),
    peerId: node.peerId.toString(),
    setLie: (next) => { lie = next },
    askedCount: () => askedCount,
    reservationCount: () => (node.services['relay'] as CircuitRelayService).reservations.size,
    stop: async () => { await node.stop() }
  }
}

/** What is sent on it goes nowhere. */
function deaf (stream: Stream): Stream {
  return new Proxy(stream, {
    get: (target, name) => {
      if (name === 'send') return () => true
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) as unknown : value
    }
  })
}
