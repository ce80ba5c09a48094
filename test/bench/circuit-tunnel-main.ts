/**
 * The tunnel that one builds from stock libp2p alone: every connection is a stream over a stock circuit relay.
 * `circuit-tunnel-main.ts serve RELAY PORT` offers a port and prints its PeerId; `circuit-tunnel-main.ts forward RELAY PEER` prints
 * the port on which it takes connections. Limits are raised, everything else is as it comes.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { startStockPeer } from '../support/stock-peer.ts'

const PROTOCOL = '/bench/tunnel/1.0.0'
const MAX_STREAMS = 4096

const [mode, relay = '', third = ''] = process.argv.slice(2)
process.stdin.on('end', () => { process.exit(0) }).resume()
if (mode === 'serve') await serve(Number(third))
else await forward(third)

async function serve (port: number): Promise<void> {
  const peer = await startStockPeer({ relays: [relay] })
  await peer.handle(PROTOCOL, (stream) => {
    join(connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true }), stream)
  }, { runOnLimitedConnection: true, maxInboundStreams: MAX_STREAMS })
  console.log(JSON.stringify({ peerId: peer.peerId.toString() }))
}

async function forward (peerId: string): Promise<void> {
  const peer = await startStockPeer()
  const connection = await peer.dial(multiaddr(`${relay}/p2p-circuit/p2p/${peerId}`))
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    connection.newStream(PROTOCOL, { runOnLimitedConnection: true, maxOutboundStreams: MAX_STREAMS }).then(
      (stream) => { join(socket, stream) },
      () => { socket.resetAndDestroy() })
  })
  server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => { console.log(JSON.stringify({ port: (server.address() as AddressInfo).port })) })
}

/** Bytes, half-closes, resets and back-pressure, both ways. */
function join (socket: Socket, stream: Stream): void {
  socket.on('data', (chunk: Buffer) => { if (!stream.send(chunk)) socket.pause() })
  socket.on('end', () => { stream.close().catch(() => { socket.resetAndDestroy() }) })
  socket.on('error', (err) => { stream.abort(err) })
  socket.on('drain', () => { stream.resume() })
  stream.addEventListener('drain', () => { socket.resume() })
  stream.addEventListener('message', ({ data }) => {
    let isFull = false
    for (const piece of data instanceof Uint8Array ? [data] : data) isFull = !socket.write(piece)
    if (isFull) stream.pause()
  })
  stream.addEventListener('remoteCloseWrite', () => { socket.end() })
  stream.addEventListener('close', ({ error }) => { if (error !== undefined) socket.resetAndDestroy() })
  socket.resume()
}
