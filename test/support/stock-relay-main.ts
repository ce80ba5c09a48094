/** A relay of stock libp2p packages in a process of its own, so that it can be killed. Arguments: port, hex of the key's seed, `limited` for the package's own limits (128 KiB and 2 minutes per circuit), or `duration MILLISECONDS` for a limit of time alone. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'

const [port = '0', seed = '', limits = '', durationMs = ''] = process.argv.slice(2)
const relayInit = {
  '': { maxInboundHopStreams: 1000, reservations: { maxReservations: 1000, applyDefaultLimit: false } },
  limited: {},
  duration: { reservations: { defaultDurationLimit: Number(durationMs), defaultDataLimit: 1n << 40n } }
}[limits]
const relay = await createLibp2p({
  privateKey: await generateKeyPairFromSeed('Ed25519', new Uint8Array(Buffer.from(seed, 'hex'))),
  addresses: { listen: [`/ip4/127.0.0.1/tcp/${port}`] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: 2 << 20, maxReadBufferLength: 4 << 20 } })],
  connectionManager: { inboundConnectionThreshold: 1000, maxIncomingPendingConnections: 1000 },
  services: {
    identify: identify(),
    ping: ping({ maxInboundStreams: 64 }),
    relay: circuitRelayServer(relayInit)
  }
})
console.log(JSON.stringify({ address: String(relay.getMultiaddrs()[0]) }))
