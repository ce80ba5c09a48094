/** A peer made of stock libp2p packages only: the other side of every interoperation test of the relay. */
import { createHash, randomBytes } from 'node:crypto'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { FaultTolerance } from '@libp2p/interface'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { PATIENCE_MS, within } from './wait.ts'

const started = new Set<Libp2p>()

/** Stops every stock peer of this process: for `after`, so that a failed test leaves nothing that keeps the process alive. */
export async function stopStockPeers (): Promise<void> {
  await Promise.all([...started].map(async (peer) => { await peer.stop() }))
  started.clear()
}

/** Starts a stock peer; it reserves at each relay of `relays` before this resolves, or fails. */
export async function startStockPeer (init: { relays?: readonly string[], listen?: readonly string[] } = {}): Promise<Libp2p> {
  const peer = await createLibp2p({
    start: false,
    addresses: { listen: [...init.listen ?? [], ...(init.relays ?? []).map((relay) => `${relay}/p2p-circuit`)] },
    transports: [tcp(), webSockets(), circuitRelayTransport({ reservationConcurrency: 8 })],
    transportManager: { faultTolerance: FaultTolerance.FATAL_ALL },
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: 2 << 20, maxReadBufferLength: 4 << 20 } })],
    connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
    services: { identify: identify() }
  })
  started.add(peer)
  await peer.start()
  return peer
}

/** Dials `called` over the relay. */
export async function dialOverRelay (caller: Libp2p, relay: string, called: Libp2p): Promise<Connection> {
  return within('a circuit over the relay', PATIENCE_MS, caller.dial(multiaddr(`${relay}/p2p-circuit/p2p/${called.peerId.toString()}`)))
}

/** Opens a stream on whatever connection, limited or not. */
export async function openStream (connection: Connection, protocol: string): Promise<Stream> {
  return connection.newStream(protocol, { runOnLimitedConnection: true, maxOutboundStreams: 1000 })
}

/** Sends `totalBytes` of random bytes with back-pressure and half-closes; gives their SHA-256. */
export async function sendRandom (stream: Stream, totalBytes: number): Promise<string> {
  const hash = createHash('sha256')
  const block = randomBytes(64 * 1024)
  for (let sent = 0; sent < totalBytes; sent += block.length) {
    block.writeUInt32BE(sent >>> 0, 0)
    const piece = Uint8Array.from(block.subarray(0, Math.min(block.length, totalBytes - sent)))
    hash.update(piece)
    if (!stream.send(piece)) await once(stream, 'drain')
  }
  await stream.close()
  return hash.digest('hex')
}

/** Reads to the remote FIN; fails when the stream ends in any other way. */
export async function receiveAll (stream: Stream): Promise<{ bytes: number, sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  await new Promise<void>((resolve, reject) => {
    let sawFin = stream.remoteWriteStatus === 'closed' && stream.status === 'open'
    stream.addEventListener('remoteCloseWrite', () => { sawFin = true })
    stream.addEventListener('message', ({ data }) => {
      bytes += data.byteLength
      hash.update(data.subarray())
    })
    stream.addEventListener('end', () => { if (sawFin) resolve() })
    stream.addEventListener('close', ({ error }) => { reject(error ?? new Error('the stream closed without a FIN')) })
    if (stream.readableEnded && sawFin) resolve()
  })
  return { bytes, sha256: hash.digest('hex') }
}

async function once (stream: Stream, event: 'drain'): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    function onDrain (): void {
      stream.removeEventListener('close', onClose)
      resolve()
    }
    function onClose (): void { reject(new Error('the stream closed while it was written')) }
    stream.addEventListener(event, onDrain, { once: true })
    stream.addEventListener('close', onClose, { once: true })
  })
}
