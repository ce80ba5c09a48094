/** Two session cores over links that break anywhere, with users whose bytes say by themselves whether they are right. */
import assert from 'node:assert/strict'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import type { ChannelCore, ChannelListener } from '../../../src/session/channel-core.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import type { ResumedEntry } from '../../../src/session/frames.ts'
import { carry, End, pattern } from './support.ts'

const PERIOD = 65_521
const PERIOD_BYTES = pattern(PERIOD)
/** Two periods, so that a piece of at most one may begin anywhere. */
const BYTES = new Uint8Array(Buffer.concat([PERIOD_BYTES, PERIOD_BYTES]))

/** One side of a channel: what it did, and what it saw. */
export class Side implements ChannelListener {
  readonly end: End
  readonly channel: ChannelCore
  readonly #salt: number
  peer: Side | undefined
  sentBytes = 0
  receivedBytes = 0
  hasEnded = false
  hasFinished = false
  isFinishing = false
  hasReset = false
  isWaiting = false
  error: CarrierError | undefined

  constructor (end: End, channel: ChannelCore, salt: number) {
    this.end = end
    this.channel = channel
    this.#salt = salt
    channel.listener = this
  }

  onBytes (bytes: Uint8Array): void {
    this.isWaiting = false
    const expected = chunk(this.#salt ^ (this.channel.isLocal ? 1 : 0), this.receivedBytes, bytes.length)
    assert.equal(Buffer.compare(bytes, expected), 0, `channel ${this.channel.id}: the bytes from ${this.receivedBytes} on are those that were sent`)
    this.receivedBytes += bytes.length
    assert.ok(this.receivedBytes <= (this.peer?.sentBytes ?? 0))
  }

  onEnd (): void {
    assert.ok(this.peer?.isFinishing === true && this.receivedBytes === this.peer.sentBytes, `channel ${this.channel.id}: an end is true`)
    this.hasEnded = true
  }

  onSent (): void {}

  onFinished (): void {
    assert.equal(this.peer?.channel.receivedBytes, this.sentBytes, `channel ${this.channel.id}: finished means that all arrived`)
    this.hasFinished = true
  }

  onFailed (err: CarrierError): void {
    this.error = err
    assert.ok(this.hasReset || this.peer?.hasReset === true, `channel ${this.channel.id} failed without a reason: ${err.message}`)
  }

  send (byteCount: number): void {
    if (this.isFinishing || this.channel.isClosed) return
    // no longer than the pattern's own period, which is what a piece may begin anywhere in
    const count = Math.min(byteCount, PERIOD)
    const bytes = chunk(this.#salt ^ (this.channel.isLocal ? 0 : 1), this.sentBytes, count)
    this.sentBytes += count
    this.end.core.send(this.channel, [bytes])
  }

  finish (): void {
    if (this.channel.isClosed) return
    this.isFinishing = true
    this.end.core.finish(this.channel)
  }

  reset (): void {
    this.hasReset = true
    this.end.core.reset(this.channel, new CarrierError('ERR_CANCELLED', 'enough'))
  }

  read (times: number): void {
    for (let time = 0; time < times; time++) this.end.core.read(this.channel)
  }
}

/** Two ends, their channels, and the link between them, which may be lost at any byte. */
export class TwoEnds {
  readonly ends: readonly [End, End]
  readonly sides: Side[] = []
  readonly #poolBytes: number
  /** The controller goes on first; the other end knows it only when the controller's offsets arrive. */
  state: 'live' | 'lost' | 'half' = 'live'
  #controllerOffsets: { highestId: number, entries: ResumedEntry[] } | undefined
  #nextSalt = 2
  #seenCounts = [0, 0]

  constructor (poolBytes = 512 * 1024 * 1024) {
    this.#poolBytes = poolBytes
    this.ends = [new End(true, poolBytes), new End(false, poolBytes)]
  }

  open (end: End): Side | undefined {
    try {
      const salt = this.#nextSalt
      const side = new Side(end, end.core.open('test', Uint8Array.of(salt >>> 8, salt & 255)), salt)
      this.#nextSalt += 2
      this.sides.push(side)
      return side
    } catch (err) {
      assert.equal((err as CarrierError).code, 'ERR_LIMIT')
      return undefined
    }
  }

  produce (end: End, maxBytes: number): void {
    if (this.state === 'live' || (this.state === 'half' && end === this.ends[0])) end.produce(maxBytes)
    else assert.equal(end.core.produce(maxBytes), undefined, 'nothing is sent without a link')
  }

  /** Delivers at most `maxBytes` of what `from` sent. */
  carry (from: End, maxBytes: number): number {
    if (this.state !== 'live') return 0
    const moved = carry(from, from === this.ends[0] ? this.ends[1] : this.ends[0], maxBytes)
    this.#meet()
    return moved
  }

  /** The link is lost with all that is on it. */
  cut (): void {
    this.state = 'lost'
    for (const end of this.ends) {
      end.core.suspend()
      end.wire = []
      end.wireBytes = 0
      end.decoder = new FrameDecoder(end.core)
    }
  }

  /** The controller has the other end's offsets and goes on; its own are on their way. */
  resumeController (): void {
    if (this.state !== 'lost') return
    const offsets = this.ends[1].core.offsets()
    this.#controllerOffsets = this.ends[0].core.offsets()
    this.ends[0].core.resume(offsets)
    this.state = 'half'
  }

  resumeOther (): void {
    if (this.state !== 'half' || this.#controllerOffsets === undefined) return
    this.ends[1].core.resume(this.#controllerOffsets)
    this.state = 'live'
  }

  flushAcks (): void {
    for (const end of this.ends) {
      end.isAckDelayed = false
      end.core.flushAcks()
    }
  }

  /** What must be true at every moment. */
  check (): void {
    for (const end of this.ends) {
      const { core, pool } = end
      assert.ok(core.creditBytes <= LIMITS.sessionCreditBytes && pool.usedBytes <= this.#poolBytes, 'credit is within its budgets')
      assert.ok(core.inFlightBytes >= 0 && core.inFlightBytes <= LIMITS.sessionInFlightBytes)
      // a message that was sent may be a little above the bound; so may what is sent again
      assert.ok(core.retainedBytes <= LIMITS.sessionRetainedBytes + LIMITS.sessionInFlightBytes && pool.retained.usedBytes <= this.#poolBytes, 'memory for what is sent is within its budgets')
      let grantedBytes = 0
      let waitingBytes = 0
      let underWayBytes = 0
      for (const { channel } of this.sides) {
        if (channel.isClosed || (channel.isLocal === (end === this.ends[0])) !== (channel.id % 2 === 0 || channel.id === 0)) continue
        grantedBytes += channel.grantedBytes - channel.consumedBytes
        waitingBytes += channel.receiveQueue.byteCount
        underWayBytes += channel.unacked.byteCount
        assert.ok(channel.receiveQueue.byteCount <= channel.grantedBytes - channel.consumedBytes)
      }
      assert.ok(waitingBytes <= grantedBytes)
      assert.ok(underWayBytes <= 2 * LIMITS.sessionInFlightBytes)
    }
  }

  /** No more cuts: everything that was sent arrives, and every end. */
  complete (): void {
    this.resumeController()
    this.resumeOther()
    let quietRounds = 0
    for (let round = 0; quietRounds < 3; round++) {
      assert.ok(round < 20_000, 'the ends come to rest')
      let moved = 0
      for (const end of this.ends) {
        end.nowMs += 1
        // never without being asked: a wake-up that the core forgets would hang a session
        for (let messages = 0; end.isAwake && messages < 1000; messages++) moved += end.produce(65_536)
        moved += this.carry(end, Infinity)
      }
      for (const side of this.sides) side.read(10)
      if (moved === 0) {
        quietRounds++
        this.flushAcks()
      } else quietRounds = 0
    }
    this.check()
    for (const side of this.sides) {
      if (side.hasReset || side.peer?.hasReset === true) continue
      assert.equal(side.error, undefined)
      assert.equal(side.peer?.receivedBytes ?? 0, side.peer === undefined ? side.receivedBytes : side.sentBytes, `channel ${side.channel.id}: all arrives`)
      assert.equal(side.peer?.hasEnded ?? false, side.isFinishing && side.peer !== undefined)
      assert.equal(side.hasFinished, side.isFinishing && side.peer !== undefined)
      if (side.isFinishing && side.peer?.isFinishing === true) assert.ok(side.channel.isClosed, 'nothing is left of a complete channel')
    }
    for (const end of this.ends) {
      const resets = this.sides.filter((side) => side.end === end && !side.channel.isClosed).length
      assert.equal(end.core.channelCount, resets)
      assert.equal(end.core.inFlightBytes, 0)
      assert.equal(end.core.retainedBytes, 0)
    }
  }

  /** Inbound channels get their users. */
  #meet (): void {
    for (const [index, end] of this.ends.entries()) {
      for (; (this.#seenCounts[index] as number) < end.opened.length; this.#seenCounts[index] = (this.#seenCounts[index] as number) + 1) {
        const inbound = end.opened[this.#seenCounts[index] as number]
        assert.ok(inbound)
        const salt = (inbound.message[0] as number) << 8 | (inbound.message[1] as number)
        const side = new Side(end, inbound.channel, salt)
        const peer = this.sides.find((candidate) => candidate.end !== end && candidate.channel.id === inbound.channel.id)
        assert.ok(peer, 'nobody opened it')
        side.error = inbound.recorder.error
        side.peer = peer
        peer.peer = side
        this.sides.push(side)
      }
    }
  }
}

/** The bytes of one direction of a channel at `offset`; frames and pieces are shorter than a period. */
function chunk (salt: number, offset: number, byteCount: number): Uint8Array {
  const from = (salt * 7919 + offset) % PERIOD
  return BYTES.subarray(from, from + byteCount)
}
