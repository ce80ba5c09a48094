/** A stock peer as a process of its own that reserves at a relay, takes circuits and reads what comes: argv RELAY. Prints its PeerId. */
import { receiveAll, startStockPeer } from './stock-peer.ts'

const relay = process.argv[2]
if (relay === undefined) throw new Error('usage: stock-peer-main.ts RELAY')
const peer = await startStockPeer({ relays: [relay] })
await peer.handle('/test/sink/1.0.0', (stream) => { receiveAll(stream).catch(() => { /* the sender may end as it likes */ }) }, { runOnLimitedConnection: true, maxInboundStreams: 1000 })
process.stdout.write(`${peer.peerId.toString()}\n`)
