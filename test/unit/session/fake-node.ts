/** Nodes joined in memory: authenticated streams with back-pressure, delays and cuts on demand. */
import { randomBytes } from 'node:crypto'
import { CarrierError, createEmitter, createMetrics, silentLogger } from '../../../src/base/index.ts'
import type { Clock, Metrics } from '../../../src/base/index.ts'
import { didFromPublicKey } from '../../../src/identity/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { NodeEvents, Peer, PeerLevel, PeerStream, StreamHandler } from '../../../src/node/index.ts'
import { createSessionManager } from '../../../src/session/index.ts'
import type { SessionManager } from '../../../src/session/index.ts'
import type { LinkNode } from '../../../src/session/link-opener.ts'

const BUFFER_BYTES = 256 * 1024

/** One direction of a stream. */
class Pipe {
  chunks: Uint8Array[] = []
  byteCount = 0
  hasEnded = false
  error: Error | undefined
  #wake: Array<() => void> = []
  signal (): void {
    const wake = this.#wake
    this.#wake = []
    for (const call of wake) call()
  }

  async change (): Promise<void> {
    await new Promise<void>((resolve) => { this.#wake.push(resolve) })
  }
}

/** Two ends of a stream and a way to lose it. */
export interface StreamPair { ends: [PeerStream, PeerStream], lose: () => void, isLost: () => boolean, hold: (isHeld: boolean) => void }

export function createStreamPair (): StreamPair {
  const pipes: [Pipe, Pipe] = [new Pipe(), new Pipe()]
  const gone = Promise.withResolvers<undefined>()
  let isHeld = false
  function fail (err: Error): void {
    for (const pipe of pipes) {
      pipe.error ??= err
      pipe.signal()
    }
    gone.resolve(undefined)
  }
  function end (incoming: Pipe, outgoing: Pipe): PeerStream {
    async function * source (): AsyncGenerator<Uint8Array> {
      while (true) {
        if (incoming.error !== undefined) throw incoming.error
        const chunk = isHeld ? undefined : incoming.chunks.shift()
        if (chunk !== undefined) {
          incoming.byteCount -= chunk.length
          incoming.signal()
          yield chunk
        } else if (incoming.hasEnded && !isHeld) {
          return
        } else await incoming.change()
      }
    }
    return {
      source: source(),
      sink: async (chunks) => {
        for await (const chunk of chunks) {
          while (outgoing.byteCount >= BUFFER_BYTES && outgoing.error === undefined) await outgoing.change()
          if (outgoing.error !== undefined) throw outgoing.error
          // both ends live in this process: a real link would not share memory
          outgoing.chunks.push(new Uint8Array(chunk))
          outgoing.byteCount += chunk.length
          outgoing.signal()
        }
        outgoing.hasEnded = true
        outgoing.signal()
        if (incoming.hasEnded) gone.resolve(undefined)
      },
      abort: () => { fail(new CarrierError('ERR_LINK_LOST', 'the stream was reset')) },
      closed: gone.promise
    }
  }
  return {
    ends: [end(pipes[0], pipes[1]), end(pipes[1], pipes[0])],
    lose: () => { fail(new CarrierError('ERR_LINK_LOST', 'the connection was lost')) },
    isLost: () => pipes[0].error !== undefined,
    hold: (next) => {
      isHeld = next
      for (const pipe of pipes) pipe.signal()
    }
  }
}

/** A device: its key, its node and its session manager. */
export interface FakeDevice { did: Did, publicKey: Uint8Array, instanceId: Uint8Array, manager: SessionManager, metrics: Metrics, handlers: Map<string, StreamHandler>, streamCount: number, networkChanged: () => void, /** Learns that a relay leaves. */ noteLeaving: (relayPeerId: string) => void, /** Learns that its relay is lost (`connecting`) or there again. No other holds it. */ relayIs: (state: 'connecting' | 'reserved') => void }

/** The network all fake devices live in. */
export interface FakeNetwork {
  /** The next device; keys grow, so earlier ones are controllers. */
  device: (init?: { like?: FakeDevice, creditBytes?: number, resumeWindowMs?: number, /** What this node can do beside streams. */ node?: Partial<LinkNode> }) => FakeDevice
  pairs: StreamPair[]
  /** All devices are on these relays; streams run over the first that may be used. */
  relays: string[]
  /** How devices that are dialled are known to the dialling one. */
  levels: Map<Did, PeerLevel>
  /** Runs before a dial completes; may wait or throw. */
  beforeDial: { run: (from: Did, to: Did) => Promise<void> }
  /** Opens a stream without a manager at the opener's end. */
  rawStream: (from: FakeDevice, to: FakeDevice) => PeerStream
}

/** A node that has streams only. */
const NO_LINKS: LinkNode = {
  openSplice: async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'no splices here') },
  handleSplices: () => {},
  canSplice: () => false,
  issueLinkTicket: () => undefined,
  dialLink: async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'no link ports here') },
  handleLinkSockets: () => {},
  canDialLink: () => false,
  canPunch: () => false,
  preparePunch: async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'no routers here') },
  isLeavingRelay: () => false,
  canAvoidRelay: () => false
}

export function createFakeNetwork (clock: Clock): FakeNetwork {
  const devices = new Map<Did, FakeDevice>()
  const pairs: StreamPair[] = []
  const relays = ['relay']
  const beforeDial = { run: async (_from: Did, _to: Did): Promise<void> => {} }
  const levels = new Map<Did, PeerLevel>()
  const keys = sortedKeys()

  function connect (from: FakeDevice, to: FakeDevice, protocol: string, relayPeerId = 'relay'): PeerStream {
    const handler = to.handlers.get(protocol)
    if (handler === undefined) throw new CarrierError('ERR_NOT_AVAILABLE', 'no such protocol')
    const pair = createStreamPair()
    pairs.push(pair)
    const [near, far] = pair.ends
    from.streamCount++
    void near.closed.then(() => { from.streamCount-- })
    handler(far, peerOf(from, relayPeerId)).catch((err: unknown) => { far.abort(err as Error) })
    return near
  }

  return {
    pairs,
    relays,
    levels,
    beforeDial,
    rawStream: (from, to) => connect(from, to, '/carrier/session/1.0.0'),
    device: (init = {}) => {
      const publicKey = init.like?.publicKey ?? keys.shift()
      if (publicKey === undefined) throw new Error('out of keys')
      const did = didFromPublicKey(publicKey)
      const handlers = new Map<string, StreamHandler>()
      const instanceId = new Uint8Array(randomBytes(16))
      const metrics = createMetrics()
      const events = createEmitter<NodeEvents>(silentLogger)
      const leaving = new Set<string>()
      const manager = createSessionManager({
        node: {
          ...NO_LINKS,
          ...init.node,
          isLeavingRelay: (relayPeerId) => leaving.has(relayPeerId),
          canAvoidRelay: (relayPeerId) => relays.some((one) => one !== relayPeerId && !leaving.has(one)),
          on: events.on,
          relays: () => [],
          handle: (protocol, handler) => { handlers.set(protocol, handler) },
          openStream: async (to, protocol, options = {}) => {
            await beforeDial.run(did, to)
            options.signal?.throwIfAborted()
            const target = devices.get(to)
            if (target === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'nobody there')
            const usable = relays.filter((one) => options.notVia?.includes(one) !== true)
            const relayPeerId = usable.find((one) => !leaving.has(one)) ?? usable[0]
            if (relayPeerId === undefined) throw new CarrierError('ERR_PEER_OFFLINE', 'no way that avoids these relays')
            return { stream: connect(device, target, protocol, relayPeerId), peer: { ...peerOf(target, relayPeerId), level: levels.get(to) ?? 'friend' } }
          }
        },
        identity: { did, publicKey, instanceId, sign: async () => { throw new Error('no signatures here') } },
        clock,
        log: silentLogger,
        metrics,
        random: () => 0.5
      }, { resumeWindowMs: init.resumeWindowMs ?? 0, ...(init.creditBytes === undefined ? {} : { creditBytes: init.creditBytes }) })
      const device: FakeDevice = {
        did,
        publicKey,
        instanceId,
        manager,
        metrics,
        handlers,
        streamCount: 0,
        networkChanged: () => { events.emit('node:network-changed', { kind: 'addresses' }) },
        relayIs: (state) => { events.emit('relay:state', { peerId: 'relay', address: 'relay', state, rttMs: 1, loadPermille: undefined, isChosen: true, reason: undefined }) },
        noteLeaving: (relayPeerId) => {
          leaving.add(relayPeerId)
          events.emit('relay:state', { peerId: relayPeerId, address: relayPeerId, state: 'reserved', rttMs: 1, loadPermille: undefined, isChosen: true, reason: 'the relay is about to stop' })
        }
      }
      devices.set(did, device)
      return device
    }
  }
}

export function peerOf (device: FakeDevice, relayPeerId = 'relay'): Peer {
  return { device: device.did, owner: device.did, level: 'friend', instanceId: device.instanceId, path: 'relayed', relayPeerId }
}

/** Canonical keys that decode, smallest first. */
function sortedKeys (): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let index = 0; found.length < 160; index++) {
    const key = new Uint8Array(32).fill(7)
    key[0] = index >> 8
    key[1] = index & 255
    try {
      didFromPublicKey(key)
      found.push(key)
    } catch { /* not a point of the curve: the next one */ }
  }
  return found
}

/** What is under way without a timer comes to its end. */
export async function settle (): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise<void>((resolve) => { setImmediate(resolve) })
}

/** Sends everything back that comes in channels of the kind "echo". */
export function echo (device: FakeDevice): void {
  device.manager.onChannel('echo', async (request) => {
    const channel = request.accept()
    channel.pipe(channel)
  })
}
