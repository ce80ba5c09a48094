/**
 * `/carrier/addresses/1.0.0`: friends with a connection are told when our direct addresses change; who has none learns them in
 * the auth hello of the next one. One frame {v: 1, addrs}, nothing is answered. PROTOCOL.md "News of addresses".
 */
import { z } from 'zod'
import { CarrierError, decodeCbor, encodeCbor, errorMessage, LIMITS, sleep, startDeadline } from '../base/index.ts'
import type { Clock, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import { createFrameExchange } from './frame-exchange.ts'
import type { CarrierNode, Peer, PeerLevel, PeerStream } from './types.ts'

/** Id of the protocol. */
export const ADDRESSES_PROTOCOL = '/carrier/addresses/1.0.0'

const newsSchema = z.strictObject({ v: z.literal(1), addrs: z.array(z.string().max(256)).max(LIMITS.rememberedAddressCount) })

/** Encodes the message. */
export function encodeReachNews (addrs: readonly string[]): Uint8Array {
  return encodeCbor({ v: 1, addrs: addrs.slice(0, LIMITS.rememberedAddressCount) })
}

/** Decodes the message. @throws CarrierError ERR_PROTOCOL */
export function decodeReachNews (bytes: Uint8Array): string[] {
  return decodeCbor(newsSchema, bytes).addrs
}

/** What the news need. */
export interface ReachNewsComponents {
  clock: Clock
  log: Logger
  tasks: () => TaskOwner
  openStream: CarrierNode['openStream']
  /** Asked again whenever time went by: nobody but friends is told anything. */
  levelOf: (device: Did) => PeerLevel
  /** Friends with an open connection. */
  connectedFriends: () => Did[]
  /** Our direct addresses now. */
  addresses: () => string[]
  /** Where a friend says that it listens now; judged before it is dialled. */
  onNews: (device: Did, addresses: string[]) => void
}

/** The news, both ways. */
export interface ReachNews {
  /** Takes one message. @throws CarrierError ERR_PROTOCOL, ERR_LIMIT for a friend who has news all the time */
  handle: (stream: PeerStream, peer: Peer) => Promise<void>
  /**
   * A stream of friends stands, so both ends know that they are: the device is told our addresses unless it took them
   * already. The auth hello of a connection that began before the friendship told none.
   */
  meet: (device: Did) => void
  /** Our addresses may be others: connected friends that took other ones are told. */
  tell: () => void
  /** Forgets who was told what. */
  reset: () => void
}

/** Creates both ends. */
export function createReachNews (components: ReachNewsComponents): ReachNews {
  const { clock, log } = components
  /** What each friend took last, and when it was tried. */
  const told = new Map<Did, { text: string, atMs: number }>()
  const waiting = new Set<Did>()
  /** Who is being told now; looked at again afterwards. */
  const telling = new Set<Did>()
  let workerCount = 0
  /** When each friend had news, for as long as that counts. */
  const heardMs = new Map<Did, number>()

  function enqueue (device: Did): void {
    if (components.tasks().signal.aborted || telling.has(device) || (told.get(device)?.text ?? '') === components.addresses().join(' ')) return
    waiting.add(device)
    if (workerCount >= LIMITS.reachNewsCount) return
    workerCount++
    components.tasks().run('tell friends our addresses', async (signal) => {
      try {
        for (let next = waiting.values().next(); next.done !== true; next = waiting.values().next()) {
          const device = next.value
          waiting.delete(device)
          telling.add(device)
          const isTaken = await tellOne(device, signal).finally(() => { telling.delete(device) })
          if (isTaken) enqueue(device)
        }
      } finally {
        workerCount--
      }
    })
  }

  /** Resolves with true when the friend knows what was so at that moment. */
  async function tellOne (device: Did, signal: AbortSignal): Promise<boolean> {
    const before = told.get(device)
    // sooner after the last it would be refused
    if (before !== undefined) await sleep(clock, Math.max(0, before.atMs + 2 * LIMITS.reachNewsSpanMs - clock.monotonicMs()), signal)
    if (components.levelOf(device) !== 'friend') {
      // should it be a friend again, it has forgotten
      if (before !== undefined) told.set(device, { ...before, text: '' })
      return false
    }
    const addresses = components.addresses()
    const text = addresses.join(' ')
    if ((before?.text ?? '') === text) return true
    let taken = before?.text ?? ''
    try {
      await send(device, addresses, signal)
      taken = text
    } catch (err) {
      signal.throwIfAborted()
      // an older release, or a connection that went: the next stream tries again, and the next auth hello tells it too
      log.debug('a friend was not told of our addresses', { device, reason: errorMessage(err) })
    }
    told.delete(device)
    told.set(device, { text: taken, atMs: clock.monotonicMs() })
    const oldest = told.keys().next()
    if (told.size > LIMITS.friendCount && oldest.done !== true) told.delete(oldest.value)
    return taken === text
  }

  async function send (device: Did, addresses: readonly string[], parent: AbortSignal): Promise<void> {
    using deadline = startDeadline(clock, LIMITS.reachNewsMs, 'the friend did not take the news of our addresses', parent)
    const { stream, peer } = await components.openStream(device, ADDRESSES_PROTOCOL, { signal: deadline.signal })
    if (peer.level !== 'friend') {
      const refusal = new CarrierError('ERR_NOT_AVAILABLE', 'the device is no friend any more')
      stream.abort(refusal)
      throw refusal
    }
    const onAbort = (): void => { stream.abort(new CarrierError('ERR_TIMEOUT', 'the friend did not take the news of our addresses')) }
    deadline.signal.addEventListener('abort', onAbort, { once: true })
    try {
      const exchange = createFrameExchange(stream)
      exchange.write(encodeReachNews(addresses))
      await exchange.end()
      // the friend closes its side without a word
      await exchange.read(1)
    } finally {
      deadline.signal.removeEventListener('abort', onAbort)
    }
  }

  return {
    meet: enqueue,
    tell: () => { for (const device of components.connectedFriends()) enqueue(device) },
    reset: () => {
      told.clear()
      waiting.clear()
    },
    handle: async (stream, peer) => {
      const nowMs = clock.monotonicMs()
      for (const [device, atMs] of heardMs) if (nowMs - atMs >= LIMITS.reachNewsSpanMs) heardMs.delete(device)
      if (heardMs.has(peer.device)) throw new CarrierError('ERR_LIMIT', 'news of addresses come too often')
      heardMs.set(peer.device, nowMs)
      using deadline = startDeadline(clock, LIMITS.reachNewsMs, 'the news did not come in time', components.tasks().signal)
      const onAbort = (): void => { stream.abort(new CarrierError('ERR_TIMEOUT', 'the news did not come in time')) }
      deadline.signal.addEventListener('abort', onAbort, { once: true })
      try {
        const exchange = createFrameExchange(stream)
        const frame = await exchange.read(LIMITS.reachNewsBytes)
        if (frame === undefined) throw new CarrierError('ERR_PROTOCOL', 'the friend said nothing')
        const addresses = decodeReachNews(frame)
        exchange.finish()
        components.onNews(peer.device, addresses)
      } finally {
        deadline.signal.removeEventListener('abort', onAbort)
      }
    }
  }
}
