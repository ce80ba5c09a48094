/**
 * A hostile friend, as a process of its own, made of stock libp2p and bare frames. It makes its victim listen to addresses
 * that it wants to be knocked at: in the hello of the auth handshake (a thousand first, then eight), as its relays, and in punch
 * frames.
 * Argument: JSON of {@link HostileInit}. Prints one JSON line per {@link HostileStep}.
 */
import { randomBytes } from 'node:crypto'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import type { Connection, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createFrameReader, encodeFrame, errorCode } from '../../src/base/index.ts'
import type { HostAndPort } from '../../src/base/index.ts'
import { encodeRelayNews, RELAY_NEWS_PROTOCOL } from '../../src/friends/relay-news.ts'
import { openKeystore, parseDid, peerIdFromDid, publicKeyFromDid } from '../../src/identity/index.ts'
import { AUTH_PROTOCOL, initiateAuth } from '../../src/node/auth.ts'
import { signRelayRecord } from '../../src/node/relay-record.ts'
import { createPeerStream } from '../../src/node/stream-adapter.ts'
import type { PeerLevel } from '../../src/node/index.ts'
import { FrameDecoder } from '../../src/session/frame-decoder.ts'
import { encodeSessionFrame, FRAME_TYPE, HEADER_BYTES } from '../../src/session/frames.ts'
import type { Frame } from '../../src/session/frames.ts'
import { encodeHello, encodeWelcome, FEATURES, OWN_LIMITS } from '../../src/session/hello.ts'
import { pause, PATIENCE_MS, within } from '../support/wait.ts'

/** Whose friend it is, and what the friend shall knock at: one list for the hello, relays, one for each punch. */
export interface HostileInit { dataDirectory: string, victim: string, relay: string, helloAddresses: string[], relays: string[], batches: HostAndPort[][] }

/** What it has done: `answer` is the victim's word to the batch with that number. */
export type HostileStep = { step: 'thousand', code: string } | { step: 'relays', isTaken: boolean } | { step: 'session', isController: boolean } | { step: 'batch', number: number, answer: string } | { step: 'flood', ended: boolean }

/** The victim answers one ask a second. */
const ASK_PAUSE_MS = 1_100
const RECORD_MS = 3_600_000
const SESSION_PROTOCOL = '/carrier/session/1.0.0'

const init = JSON.parse(process.argv[2] ?? '{}') as HostileInit
const identity = await openKeystore({ directory: init.dataDirectory })
const victim = parseDid(init.victim)
const isController = Buffer.compare(identity.publicKey, publicKeyFromDid(victim)) < 0
const node = await createLibp2p({
  privateKey: identity.privateKey,
  addresses: { listen: [] },
  transports: [tcp(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
})

try {
  say({ step: 'thousand', code: await connect(Array.from({ length: 1000 }, (_address, index) => `/ip4/50.0.9.2/tcp/${8000 + index}`)).then(() => 'ok', errorCode) })
  await node.hangUp(peerIdFromDid(victim))
  const connection = await connect(init.helloAddresses)
  say({ step: 'relays', isTaken: await tellRelays(connection) })
  await session(await connection.newStream(SESSION_PROTOCOL, { runOnLimitedConnection: true }))
} finally {
  await node.stop()
}
process.exit(0)

/** A connection to the victim on which we are authenticated, having named `addresses` as our own. */
async function connect (addresses: string[]): Promise<Connection> {
  const connection = await within('a circuit to the victim', PATIENCE_MS, node.dial(multiaddr(`${init.relay}/p2p-circuit/p2p/${peerIdFromDid(victim).toString()}`)))
  const stream = createPeerStream(await connection.newStream(AUTH_PROTOCOL, { runOnLimitedConnection: true }))
  // the code of a friend would not send more than a few
  const all = Object.assign([...addresses], { slice: () => addresses })
  const components = { identity, levelOf: (): PeerLevel => 'friend', random: (length: number) => new Uint8Array(randomBytes(length)), listenAddresses: () => all }
  await within('the auth handshake', PATIENCE_MS, initiateAuth(components, stream, victim))
  return connection
}

/** Says that it can be reached over `init.relays`. True when the victim keeps that. */
async function tellRelays (connection: Connection): Promise<boolean> {
  const stream = createPeerStream(await connection.newStream(RELAY_NEWS_PROTOCOL, { runOnLimitedConnection: true }))
  const record = await signRelayRecord(identity, { seq: Date.now(), expiresAtMs: Date.now() + RECORD_MS, relays: init.relays })
  await stream.sink((async function * () { yield encodeFrame(encodeRelayNews({ record, lookUpSecret: new Uint8Array(randomBytes(32)) })) })())
  return await within('the answer to the relays', PATIENCE_MS, createFrameReader(stream.source).read(64)) !== undefined
}

/** One session after the book, but for what its punch frames say. */
async function session (stream: Stream): Promise<void> {
  const [live, done, closed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const waiting = new Map<number, (answer: string) => void>()
  let number = 0
  const send = (frame: Frame): void => { stream.send(encodeSessionFrame(frame)) }
  const decoder = new FrameDecoder({ onFrame, onData: () => { /* its channels are of no interest */ }, onDataBytes: () => { /* as above */ } })
  stream.addEventListener('message', ({ data }) => { decoder.push(data.subarray()) })
  stream.addEventListener('close', () => { closed.resolve() })
  send({ type: 'hello', body: encodeHello({ major: 1, features: FEATURES.filter((name) => name !== 'auth'), limits: OWN_LIMITS, instanceId: new Uint8Array(randomBytes(16)), sequence: 1 }) })
  await within('the session', PATIENCE_MS, live.promise)
  say({ step: 'session', isController })
  if (isController) await ask()
  else {
    await within('the questions of the victim', 2 * PATIENCE_MS, done.promise)
    // a punch ends with its session: the last list is to be tried before
    await pause(ASK_PAUSE_MS)
  }
  // a thousand in one frame
  const flood = new Uint8Array(HEADER_BYTES + 5 + 1000 * 19)
  flood[0] = FRAME_TYPE.punch
  new DataView(flood.buffer).setUint16(2, flood.length - HEADER_BYTES)
  stream.send(flood)
  say({ step: 'flood', ended: await within('the end of the session', PATIENCE_MS, closed.promise).then(() => true, () => false) })

  function onFrame (frame: Frame): void {
    switch (frame.type) {
      case 'hello':
        if (isController) send({ type: 'welcome', body: encodeWelcome({ sessionId: new Uint8Array(randomBytes(16)), token: new Uint8Array(randomBytes(32)), epoch: 1 }) })
        break
      case 'welcome':
        send({ type: 'confirm', sequence: 1 })
        live.resolve()
        break
      case 'confirm':
        live.resolve()
        break
      case 'ping':
        send({ type: 'pong', sequence: frame.sequence })
        break
      case 'punch':
        if (frame.what === 'ask') answer(frame.round)
        else waiting.get(frame.round)?.(frame.what)
        break
      default:
        // a channel that is opened stays so: the session is in use
    }
  }

  async function ask (): Promise<void> {
    for (const [index, candidates] of init.batches.entries()) {
      const answered = new Promise<string>((resolve) => { waiting.set(index + 1, resolve) })
      send({ type: 'punch', what: 'ask', round: index + 1, candidates })
      say({ step: 'batch', number: index, answer: await within('the answer of the victim', PATIENCE_MS, answered) })
      await pause(ASK_PAUSE_MS)
    }
  }

  function answer (round: number): void {
    const candidates = init.batches[number]
    if (candidates === undefined) {
      done.resolve()
      return
    }
    send({ type: 'punch', what: 'answer', round, candidates })
    say({ step: 'batch', number: number++, answer: 'answer' })
    if (number === init.batches.length) done.resolve()
  }
}

function say (step: HostileStep): void {
  console.log(JSON.stringify(step))
}
