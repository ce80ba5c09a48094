/** Two session managers in one process, joined in memory: the contract of session/types.ts with faults on demand. */
import { randomBytes } from 'node:crypto'
import { Duplex } from 'node:stream'
import { CarrierError, codeFromWire, createEmitter, LIMITS, silentLogger, toCarrierError, wireCode } from '../../src/base/index.ts'
import type { Did } from '../../src/identity/index.ts'
import type { ByteSink, Channel, ChannelHandler, Session, SessionEvents, SessionManager, SessionPeer } from '../../src/session/index.ts'

/** Two joined managers and what can go wrong between them. */
export interface FakeSessionPair {
  alice: FakeSessionManager
  bob: FakeSessionManager
  /** Loses the link: every channel on both sides fails with ERR_LINK_LOST, the session closes. */
  loseLink: () => Promise<void>
  /** From now on sessions cannot be opened (ERR_PEER_OFFLINE), or can again. Does not touch a live one. */
  setOffline: (isOffline: boolean) => void
  /** What the other side answers to a new session; undefined lets it come about. */
  setRefusal: (code: 'ERR_NOT_AVAILABLE' | 'ERR_TIMEOUT' | undefined) => void
  /** While set, an attempt to open a session hangs until its signal fires. */
  setSilent: (isSilent: boolean) => void
}

/** A manager with counters for leak checks. */
export interface FakeSessionManager extends SessionManager {
  openChannelCount: () => number
  /** Every opening message that arrived, and the wire number of its refusal (0: accepted). */
  received: Array<{ kind: string, message: Uint8Array, answer: number }>
}

/** Joins two devices. */
export function createFakeSessionPair (devices: { alice: SessionPeer, bob: SessionPeer }): FakeSessionPair {
  const world = { isOffline: false, isSilent: false, refusal: undefined as 'ERR_NOT_AVAILABLE' | 'ERR_TIMEOUT' | undefined }
  const sides: { alice: Side, bob: Side } = { alice: createSide(devices.alice), bob: createSide(devices.bob) }
  let live: { alice: Session, bob: Session } | undefined

  function connect (): void {
    const id = randomBytes(16)
    live = { alice: createSession(id, sides.alice, sides.bob, () => live?.alice), bob: createSession(id, sides.bob, sides.alice, () => live?.bob) }
    sides.alice.emitter.emit('session:opened', { session: live.alice })
    sides.bob.emitter.emit('session:opened', { session: live.bob })
  }

  function end (error: CarrierError): void {
    if (live === undefined) return
    live = undefined
    for (const side of [sides.alice, sides.bob]) for (const channel of [...side.channels]) channel.fail(error)
    sides.alice.emitter.emit('session:closed', { peer: devices.bob, error })
    sides.bob.emitter.emit('session:closed', { peer: devices.alice, error })
  }

  function createSession (id: Uint8Array, own: Side, other: Side, current: () => Session | undefined): Session {
    const session: Session = {
      peer: other.self,
      id,
      link: 'stream',
      path: 'relayed',
      relayPeerId: 'relay',
      rttMs: 1,
      get state () { return current() === session ? 'live' as const : 'closed' as const },
      get channelCount () { return own.channels.size },
      openChannel: (kind, message) => {
        if (current() !== session) throw new CarrierError('ERR_CLOSED', 'the session is closed')
        if (message.length > LIMITS.sessionOpenMessageBytes) throw new CarrierError('ERR_INVALID_ARGUMENT', 'the opening message is too long')
        if (own.channels.size >= LIMITS.sessionChannelCount) throw new CarrierError('ERR_LIMIT', 'too many channels')
        return openPair(kind, message, own, other, id)
      },
      onChannel: () => () => {},
      ping: async () => 1,
      markUsed: () => {},
      close: async (err) => { end(err ?? new CarrierError('ERR_CLOSED', 'the session was closed')) }
    }
    return session
  }

  function manager (side: Side, own: 'alice' | 'bob', other: SessionPeer): FakeSessionManager {
    return {
      on: side.emitter.on,
      onChannel: (kind, handler) => { side.handlers.set(kind, handler) },
      start: async () => {},
      stop: async () => { end(new CarrierError('ERR_CLOSED', 'stopped')) },
      open: async (device, options) => {
        options?.signal?.throwIfAborted()
        if (device !== other.device) throw new CarrierError('ERR_PEER_OFFLINE', 'nobody knows that device')
        if (live !== undefined) return live[own]
        if (world.isSilent) {
          await new Promise((_resolve, reject) => { options?.signal?.addEventListener('abort', () => { reject(toCarrierError(options.signal?.reason)) }, { once: true }) })
        }
        await turn()
        if (world.isOffline) throw new CarrierError('ERR_PEER_OFFLINE', 'no path to the device')
        if (world.refusal !== undefined) throw new CarrierError(world.refusal, 'no session')
        if (live === undefined) connect()
        return live?.[own] ?? fail()
      },
      get: (device) => device === other.device ? live?.[own] : undefined,
      list: () => live === undefined ? [] : [live[own]],
      explain: () => [],
      close: async (device, err) => { if (device === other.device) end(err) },
      openChannelCount: () => side.channels.size,
      received: side.received
    }
  }

  return {
    alice: manager(sides.alice, 'alice', devices.bob),
    bob: manager(sides.bob, 'bob', devices.alice),
    loseLink: async () => { end(new CarrierError('ERR_LINK_LOST', 'the link is gone')) },
    setOffline: (isOffline) => { world.isOffline = isOffline },
    setRefusal: (code) => { world.refusal = code },
    setSilent: (isSilent) => { world.isSilent = isSilent }
  }
}

interface Side {
  self: SessionPeer
  handlers: Map<string, ChannelHandler>
  channels: Set<FakeChannel>
  emitter: ReturnType<typeof createEmitter<SessionEvents>>
  received: Array<{ kind: string, message: Uint8Array, answer: number }>
}

function createSide (self: SessionPeer): Side {
  return { self, handlers: new Map(), channels: new Set(), emitter: createEmitter<SessionEvents>(silentLogger), received: [] }
}

let lastId = 0

function openPair (kind: string, message: Uint8Array, own: Side, other: Side, sessionId: Uint8Array): Channel {
  const id = ++lastId
  const near = new FakeChannel(id, kind, other.self, own)
  const far = new FakeChannel(id, kind, own.self, other)
  near.link(far)
  // nobody owns it before it is accepted, so nobody needs to hear of its end but the request's signal
  far.on('error', () => {})
  void deliverOpen(kind, message, far, own, other, sessionId)
  return near
}

async function deliverOpen (kind: string, message: Uint8Array, far: FakeChannel, own: Side, other: Side, sessionId: Uint8Array): Promise<void> {
  await turn()
  const gone = new AbortController()
  const onGone = (): void => { gone.abort(new CarrierError('ERR_CANCELLED', 'the opener reset the channel')) }
  far.once('close', onGone)
  if (far.destroyed) onGone()
  const entry = { kind, message, answer: -1 }
  other.received.push(entry)
  function decide (answer: number): void {
    if (entry.answer !== -1) throw new Error('a channel was decided twice')
    entry.answer = answer
    far.off('close', onGone)
  }
  function refuse (err: CarrierError): void {
    decide(wireCode(err.code))
    far.isDecided = true
    far.destroy(err)
  }
  const handler = other.handlers.get(kind)
  if (handler === undefined) {
    refuse(new CarrierError('ERR_NOT_AVAILABLE', 'unknown kind'))
    return
  }
  try {
    await handler({
      kind,
      message,
      peer: own.self,
      path: 'relayed',
      relayPeerId: 'relay',
      sessionId,
      signal: gone.signal,
      accept: () => {
        decide(0)
        far.isDecided = true
        return far
      },
      refuse
    })
  } catch (err) {
    if (entry.answer === -1) refuse(toCarrierError(err))
  }
}

/** One end. What is written waits until the other end has room: at most two stream buffers are held. */
class FakeChannel extends Duplex implements Channel {
  readonly id: number
  readonly kind: string
  readonly peer: SessionPeer
  bytesRead = 0
  bytesWritten = 0
  isDecided = false
  #other: FakeChannel | undefined
  #side: Side
  #waiting: (() => void) | undefined

  constructor (id: number, kind: string, peer: SessionPeer, side: Side) {
    super({ allowHalfOpen: true, readableHighWaterMark: 65_536, writableHighWaterMark: 65_536 })
    this.id = id
    this.kind = kind
    this.peer = peer
    this.#side = side
    side.channels.add(this)
  }

  link (other: FakeChannel): void {
    this.#other = other
    other.#other = this
  }

  /** The link is gone. */
  fail (error: CarrierError): void {
    this.#other = undefined
    this.destroy(error)
  }

  readTo (sink: ByteSink): void {
    this.on('data', (bytes: Buffer) => {
      if (!sink(bytes, () => {})) this.pause()
    })
  }

  readMore (): void {
    this.resume()
  }

  override _write (chunk: Buffer, _encoding: string, callback: (err?: Error | null) => void): void {
    setImmediate(() => {
      const other = this.#other
      if (other === undefined || other.destroyed) {
        callback()
        return
      }
      this.bytesWritten += chunk.length
      other.bytesRead += chunk.length
      // the writer's memory is its own again after the callback
      if (other.push(Buffer.from(chunk))) callback()
      else other.#waiting = callback
    })
  }

  override _read (): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.()
  }

  override _final (callback: (err?: Error | null) => void): void {
    setImmediate(() => {
      if (this.#other?.destroyed === false) this.#other.push(null)
      callback()
    })
  }

  override _destroy (err: Error | null, callback: (err: Error | null) => void): void {
    this.#side.channels.delete(this)
    const isComplete = this.readableEnded && this.writableFinished
    const other = this.#other
    this.#other = undefined
    if (!isComplete && other !== undefined) {
      const code = codeFromWire(wireCode(err === null ? 'ERR_CANCELLED' : toCarrierError(err).code))
      setImmediate(() => { other.fail(new CarrierError(code, `the other side reset the channel (${code})`)) })
    }
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.()
    callback(err)
  }
}

async function turn (): Promise<void> {
  await new Promise<void>((resolve) => { setImmediate(resolve) })
}

function fail (): never {
  throw new CarrierError('ERR_LINK_LOST', 'the session ended at once')
}

/** Two peers with valid DIDs. */
export function fakePeer (device: Did): SessionPeer {
  return { device, owner: device }
}
