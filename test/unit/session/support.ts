/** Two ends of the session layer in memory: cores over a byte pipe, and links with back-pressure. */
import type { CarrierError } from '../../../src/base/index.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import type { ChannelCore, ChannelListener } from '../../../src/session/channel-core.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import { OWN_LIMITS } from '../../../src/session/hello.ts'
import { SessionCore } from '../../../src/session/session-core.ts'

/** What one end saw of one channel. */
export class Recorder implements ChannelListener {
  received: Uint8Array[] = []
  receivedBytes = 0
  hasEnded = false
  hasFinished = false
  sentCount = 0
  error: CarrierError | undefined
  onBytes (bytes: Uint8Array): void {
    this.received.push(bytes.slice())
    this.receivedBytes += bytes.length
  }

  onEnd (): void { this.hasEnded = true }
  onSent (): void { this.sentCount++ }
  onFinished (): void { this.hasFinished = true }
  onFailed (err: CarrierError): void { this.error = err }
  get bytes (): Uint8Array<ArrayBuffer> { return new Uint8Array(Buffer.concat(this.received)) }
}

/** One end: a core, what waits on the wire towards the other end, and everything that happened. */
export class End {
  readonly core: SessionCore
  decoder: FrameDecoder
  readonly pool: CreditPool
  /** Bytes on their way to the other end. */
  wire: Uint8Array[] = []
  wireBytes = 0
  isAckDelayed = false
  /** The core asked to produce, or its last batch was not its last. */
  isAwake = false
  opened: Array<{ channel: ChannelCore, message: Uint8Array, recorder: Recorder }> = []
  /** What the core takes for the time, in milliseconds. */
  nowMs = 0
  constructor (isController: boolean, poolBytes = 512 * 1024 * 1024) {
    this.pool = new CreditPool(poolBytes)
    this.core = new SessionCore({ isController, limits: OWN_LIMITS, peerLimits: OWN_LIMITS, pool: this.pool, now: () => this.nowMs }, {
      onWake: () => { this.isAwake = true },
      onAckDue: () => { this.isAwake = true },
      onDeliveryDue: () => { this.core.deliver() },
      onAckDelayed: () => { this.isAckDelayed = true },
      onOpen: (channel, message) => {
        const recorder = new Recorder()
        channel.listener = recorder
        this.opened.push({ channel, message, recorder })
        this.core.settle(channel)
      }
    })
    this.decoder = new FrameDecoder(this.core)
  }

  /** Lets the core write one message of up to `maxBytes` to the wire; the result is its size. */
  produce (maxBytes = 65_536): number {
    this.isAwake = false
    const message = this.core.produce(maxBytes)
    if (message !== undefined) {
      this.wire.push(message)
      this.wireBytes += message.length
      this.isAwake = true
    }
    this.core.notifySent()
    return message?.length ?? 0
  }

  open (kind = 'test', message = new Uint8Array(0)): { channel: ChannelCore, recorder: Recorder } {
    const channel = this.core.open(kind, message)
    const recorder = new Recorder()
    channel.listener = recorder
    return { channel, recorder }
  }
}

/** Moves up to `maxBytes` from one end's wire to the other's decoder, in one chunk. */
export function carry (from: End, to: End, maxBytes = Infinity): number {
  const all = Buffer.concat(from.wire)
  const count = Math.min(all.length, maxBytes)
  from.wire = count < all.length ? [new Uint8Array(all.subarray(count))] : []
  from.wireBytes = all.length - count
  if (count > 0) to.decoder.push(new Uint8Array(all.subarray(0, count)))
  return count
}

/** One step further for both ends; the result is how many bytes moved. Round trips take `roundTripMs`. */
export function step (one: End, other: End, roundTripMs = 1): number {
  let moved = 0
  for (const [from, to] of [[one, other], [other, one]] as const) {
    from.nowMs += roundTripMs / 2
    if (from.isAckDelayed) {
      from.isAckDelayed = false
      from.core.flushAcks()
    }
    // never without being asked: a wake-up that the core forgets would hang a session
    while (from.isAwake) moved += from.produce()
    moved += carry(from, to)
  }
  return moved
}

/** Produces and carries in both directions until nothing moves any more. */
export function settle (one: End, other: End): void {
  for (let round = 0; round < 100_000; round++) {
    const moved = step(one, other)
    if (moved === 0 && !one.isAckDelayed && !other.isAckDelayed && !one.isAwake && !other.isAwake) return
  }
  throw new Error('the ends never came to rest')
}

/** The link is lost with everything on it, and the session goes on on another one. */
export function resume (one: End, other: End): void {
  for (const end of [one, other]) {
    end.core.suspend()
    end.wire = []
    end.wireBytes = 0
    end.decoder = new FrameDecoder(end.core)
  }
  const offsets = [one.core.offsets(), other.core.offsets()] as const
  one.core.resume(offsets[1])
  other.core.resume(offsets[0])
}

/** Repeatable bytes. */
export function pattern (length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  let state = seed >>> 0
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[index] = state >>> 24
  }
  return bytes
}
