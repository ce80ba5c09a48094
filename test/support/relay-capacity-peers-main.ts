/**
 * Many idle devices in one process: `relay-capacity-peers-main.ts RELAY COUNT`. Each is a stock libp2p peer with a key, a connection and a
 * reservation of its own. Prints {reserved} when all hold one; answers each line on its standard input with {connected}; ends with it.
 */
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { Connection, Libp2p } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { askStatus, HOP, RESERVE } from './raw-hop.ts'

const OK = 100
/** How many make their handshakes at once: more only wait for each other. */
const PARALLEL_COUNT = 8
const MAX_TRIES = 20
const DIAL_MS = 30_000

const [relay = '', count = '0'] = process.argv.slice(2)
const connections: Connection[] = []
let left = Number(count)

async function addPeers (): Promise<void> {
  while (left-- > 0) {
    const peer = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ enableKeepAlive: false })],
      connectionMonitor: { enabled: false },
      connectionManager: { reconnectRetries: 0, dialTimeout: DIAL_MS }
    })
    connections.push(await reserve(peer))
  }
}

/** As a device does, it tries again when something fails: a machine that has more to do than it can may lose a handshake. */
async function reserve (peer: Libp2p): Promise<Connection> {
  for (let tries = 1; ; tries++) {
    try {
      const connection = await peer.dial(multiaddr(relay))
      const stream = await connection.newStream(HOP)
      const status = await askStatus(stream, RESERVE)
      if (status !== OK) throw new Error(`the relay answered ${status} to reservation ${connections.length + 1}`)
      await stream.close()
      return connection
    } catch (err) {
      if (tries === MAX_TRIES) throw err
      console.error(`try ${tries}: ${err instanceof Error ? err.message : String(err)}`)
    }
  }
}

await Promise.all(Array.from({ length: PARALLEL_COUNT }, addPeers))
console.log(JSON.stringify({ reserved: connections.length }))
createInterface({ input: process.stdin })
  .on('line', () => { console.log(JSON.stringify({ connected: connections.filter(({ status }) => status === 'open').length })) })
  .on('close', () => { process.exit(0) })
