/** Attacks with a key, which costs nothing: muxers that go mad after an honest handshake, a pusher at a reader that never reads, splices with one leg. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { Connection, Libp2p, MessageStream, Stream } from '@libp2p/interface'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { encodeFrame } from '../../src/base/index.ts'
import { publicKeyFromDid, didFromPeerId } from '../../src/identity/index.ts'
import { decodeSpliceResult, encodeSpliceAnswer, encodeSpliceOpen, SPLICE_PROTOCOL } from '../../src/node/splice-messages.ts'
import { SPLICE_PREFACE } from '../../src/node/ticket-door.ts'
import { askStatus, connectTo, firstMessage, HOP, RESERVE, STOP } from '../support/raw-hop.ts'
import { pause } from '../support/wait.ts'
import { attackerAddress } from './ground.ts'
import type { Ground } from './ground.ts'

const OK = 100
const MUXER_KINDS = 11
/** Floods before a frame that nobody may send, so that it waits behind them when the target has paused the connection. */
const FLOOD_STEPS = 20
const RENEW_MS = 500
const DIAL_MS = 10_000
const FRAMES_PER_STEP = 500
const STEP_MS = 10
const STEP_BUFFER_BYTES = 1024 * 1024
const PUSHED_STREAMS = 8
const UNPAIRED_STEP_MS = 250

/** A connection that is encrypted, with the door to what lies below its muxer. */
type Naked = Connection & { muxer: { maConn: MessageStream, onData: () => void } }

interface Key { peer: Libp2p, connection: Naked }

/** Makes a key and connects it to the target; undefined when that did not succeed, or the attack is over. */
async function connectKey (ground: Ground, from: number): Promise<Key | undefined> {
  const dialOpts = { noDelay: true, localAddress: attackerAddress(from) }
  const peer = await createLibp2p({
    transports: [tcp({ dialOpts })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ enableKeepAlive: false })],
    connectionMonitor: { enabled: false },
    connectionManager: { reconnectRetries: 0, dialTimeout: DIAL_MS }
  })
  ground.report.made++
  try {
    const connection = await peer.dial(multiaddr(ground.target.relay), { signal: AbortSignal.timeout(DIAL_MS) }) as Naked
    if (!ground.isOver()) return { peer, connection }
  } catch {
    // refused, or late; which of both cannot be told from here
    ground.report.failed++
  }
  await peer.stop()
  return undefined
}

/** Runs until the attack is over; what fails is tried again. */
function forever (ground: Ground, work: () => Promise<void>): void {
  void (async () => {
    while (!ground.isOver()) {
      try {
        await work()
      } catch {
        // the target ended it, which is counted where it is seen
      }
      await pause(RENEW_MS)
    }
  })()
}

/** Eleven muxers, each with a madness of its own; when it is cut off it comes back. */
export function muxers (ground: Ground): void {
  for (let kind = 0; kind < MUXER_KINDS; kind++) forever(ground, async () => { await rage(ground, kind) })
}

async function rage (ground: Ground, kind: number): Promise<void> {
  const key = await connectKey(ground, kind)
  if (key === undefined) return
  const { peer, connection } = key
  const { maConn } = connection.muxer
  const gone = new Promise<void>((resolve) => { connection.addEventListener('close', () => { resolve() }) })
  const frames = madFrames(kind)
  let step = 0
  const timer = setInterval(() => {
    if (connection.status !== 'open' || maConn.status !== 'open' || maConn.writeBufferLength > STEP_BUFFER_BYTES) return
    maConn.send(frames(step++))
  }, STEP_MS)
  // its own muxer would give up at answers that it did not ask for
  if (kind !== 8) connection.muxer.onData = () => {}
  // one that reads no answer
  if (kind === 2) (connection as unknown as { maConn: { socket: { pause: () => void } } }).maConn.socket.pause()
  if (kind === 8) await malformedRequests(connection)
  await Promise.race([gone, new Promise<void>((resolve) => { ground.onStop(resolve) })])
  clearInterval(timer)
  if (!ground.isOver()) ground.report.refused.muxers++
  await peer.stop()
}

/** What each kind of mad muxer says, step by step. Yamux: version, type, flags, stream, length. */
function madFrames (kind: number): (step: number) => Uint8Array {
  const header = (type: number, flags: number, stream: number, length: number): Buffer => {
    const bytes = Buffer.alloc(12)
    bytes.writeUInt8(type, 1)
    bytes.writeUInt16BE(flags, 2)
    bytes.writeUInt32BE(stream >>> 0, 4)
    bytes.writeUInt32BE(length >>> 0, 8)
    return bytes
  }
  const many = (make: (index: number) => Buffer): Uint8Array => Uint8Array.from(Buffer.concat(Array.from({ length: FRAMES_PER_STEP }, (_, index) => make(index))))
  const [DATA, WINDOW, PING, AWAY, SYN, FIN_RST] = [0, 1, 2, 3, 1, 8]
  // stream ids of the side that dialled are odd; 1 and 3 may be in use
  const id = (step: number, index: number): number => 101 + 2 * (step * FRAMES_PER_STEP + index)
  switch (kind) {
    case 0: return () => Uint8Array.from(randomBytes(10_000))
    case 1:
    case 2: return (step) => many((index) => header(PING, SYN, 0, step * FRAMES_PER_STEP + index))
    case 3: return (step) => many((index) => header(WINDOW, SYN, id(step, index), 0))
    case 4: return (step) => many((index) => Buffer.concat([header(DATA, 0, id(step, index), 1), Buffer.from('x')]))
    // one frame of 4 GiB that is never complete
    case 5: return (step) => step === 0 ? Uint8Array.from(header(DATA, SYN, 101, 0xffff_ffff)) : new Uint8Array(512 * 1024)
    // beyond the window
    case 6: return (step) => Uint8Array.from(Buffer.concat([header(DATA, step === 0 ? SYN : 0, 101, 128 * 1024), Buffer.alloc(128 * 1024)]))
    case 7: return (step) => many((index) => Buffer.concat([header(WINDOW, SYN, id(step, index), 0), header(WINDOW, FIN_RST, id(step, index), 0)]))
    case 8: return () => many(() => header(WINDOW, 0, 1, 0xffff))
    case 10: return (step) => step < FLOOD_STEPS ? many((index) => header(PING, SYN, 0, index)) : Uint8Array.from(Buffer.concat([many((index) => header(PING, SYN, 0, index)), header(DATA, SYN, 101, 0xffff_ffff)]))
    default: return (step) => step === 0 ? Uint8Array.from(header(AWAY, 0, 0, 2)) : many(() => header(PING, 0xffff, 0xffff_ffff, 7))
  }
}

/** Requests that are none, on streams of the relay's own protocol. */
async function malformedRequests (connection: Connection): Promise<void> {
  for (let count = 0; count < 30 && connection.status === 'open'; count++) {
    const stream = await connection.newStream(HOP, { maxOutboundStreams: 10_000 })
    stream.send(count % 2 === 0 ? Uint8Array.from(randomBytes(100)) : encodeFrame(Uint8Array.of(0x08, 0x7f)))
  }
}

/** Circuits whose caller pushes as fast as it can, to one who takes them and never reads. */
export function pusher (ground: Ground): void {
  forever(ground, async () => {
    const [reader, caller] = [await connectKey(ground, 20), await connectKey(ground, 21)]
    if (reader === undefined || caller === undefined) return
    await reader.peer.handle(STOP, async (stream) => {
      await firstMessage(stream)
      stream.send(encodeFrame(Uint8Array.from([0x08, 0x01, 0x20, 0x64])))
      stream.pause()
    }, { maxInboundStreams: 100, runOnLimitedConnection: true })
    const reservation = await reader.connection.newStream(HOP)
    if (await askStatus(reservation, RESERVE) !== OK) throw new Error('no place')
    const streams: Stream[] = []
    for (let count = 0; count < PUSHED_STREAMS; count++) {
      const stream = await caller.connection.newStream(HOP, { maxOutboundStreams: 100 })
      if (await askStatus(stream, connectTo(reader.peer.peerId)) === OK) streams.push(stream)
    }
    const block = new Uint8Array(64 * 1024)
    const timer = setInterval(() => { for (const stream of streams) if (stream.status === 'open' && !stream.writableNeedsDrain) stream.send(block) }, 1)
    await new Promise<void>((resolve) => {
      ground.onStop(resolve)
      caller.connection.addEventListener('close', () => { resolve() })
    })
    clearInterval(timer)
    await Promise.all([reader.peer.stop(), caller.peer.stop()])
  })
}

/** Two that know each other ask for splices and never send the second leg. */
export function unpaired (ground: Ground): void {
  forever(ground, async () => {
    const [called, caller] = [await connectKey(ground, 30), await connectKey(ground, 31)]
    if (called === undefined || caller === undefined) return
    await called.peer.handle(SPLICE_PROTOCOL, async (stream) => {
      await firstMessage(stream)
      stream.send(encodeFrame(encodeSpliceAnswer(true)))
    }, { maxInboundStreams: 100 })
    if (await askStatus(await called.connection.newStream(HOP), RESERVE) !== OK) throw new Error('no place')
    const to = publicKeyFromDid(didFromPeerId(called.peer.peerId))
    while (!ground.isOver() && caller.connection.status === 'open' && called.connection.status === 'open') {
      const stream = await caller.connection.newStream(SPLICE_PROTOCOL, { maxOutboundStreams: 100 })
      stream.send(encodeFrame(encodeSpliceOpen(to)))
      const result = decodeSpliceResult(await firstMessage(stream))
      if (result.t === 'ticket') {
        const socket = connect({ host: ground.target.host, port: result.port, localAddress: attackerAddress(31) })
        // 'close' follows
        socket.on('error', () => {})
        socket.on('close', () => { if (!ground.isOver()) ground.report.refused.spliceSockets++ })
        socket.write(Buffer.concat([SPLICE_PREFACE, result.ticket]))
        socket.resume()
        ground.onStop(() => { socket.destroy() })
      }
      await pause(UNPAIRED_STEP_MS)
    }
    await Promise.all([called.peer.stop(), caller.peer.stop()])
  })
}
