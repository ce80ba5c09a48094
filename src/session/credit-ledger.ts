/** Who was promised how much, within one session's budget: credit of channels, and places for channels to be opened. */
import { LIMITS } from '../base/index.ts'
import type { ChannelCore } from './channel-core.ts'
import { CreditPool } from './credit-pool.ts'
import type { WireLimits } from './hello.ts'

/**
 * Σ (granted - consumed) over all channels, plus the initial credit of every channel that may still be opened, is at
 * most what was taken from the pool (I8). Credit that was granted is never taken back.
 */
export class CreditLedger {
  /** Credit that a channel has without an ack frame. */
  readonly initialBytes: number
  readonly #pool: CreditPool
  /** The part of the pool that windows may use beyond the initial credit; the other half is for places. */
  readonly #extra: CreditPool
  readonly #node: CreditPool
  #isClosed = false
  /** Places that the peer may use at once. */
  #allowanceCount: number
  /** As the peer was told: ordinals it may open. */
  #openLimitCount: number
  #highestOrdinal = 0
  #freedCount = 0

  /** The caller has made sure that `pool` has room for the first places, see `firstPlacesBytes`. */
  constructor (limits: WireLimits, pool: CreditPool) {
    this.initialBytes = limits.channelCreditBytes
    this.#node = pool
    this.#pool = new CreditPool(LIMITS.sessionCreditBytes, pool)
    this.#extra = new CreditPool(LIMITS.sessionCreditBytes / 2, this.#pool)
    this.#allowanceCount = limits.channelCount
    this.#openLimitCount = limits.channelCount
    this.#pool.take(limits.channelCount * limits.channelCreditBytes)
  }

  get usedBytes (): number {
    return this.#pool.usedBytes
  }

  /** The highest ordinal (1, 2, 3 …) of a channel that the peer may open. */
  get openLimitCount (): number {
    return this.#openLimitCount
  }

  /** True when the peer should be told of more places. */
  get isOpenCreditDue (): boolean {
    const moreCount = this.#nextOpenLimit() - this.#openLimitCount
    const leftCount = this.#openLimitCount - this.#highestOrdinal
    const batchCount = this.#allowanceCount / 4
    // a batch saves frames; but a peer that has few left shall not wait for a place that is free
    return moreCount >= (leftCount < batchCount ? 1 : batchCount)
  }

  /** The new limit; the caller sends it. */
  raiseOpenLimit (): number {
    this.#openLimitCount = this.#nextOpenLimit()
    return this.#openLimitCount
  }

  /** The peer opened channel number `ordinal`; numbers in between were skipped and count as free. */
  noteOpened (ordinal: number): void {
    this.#freedCount += ordinal - this.#highestOrdinal - 1
    this.#highestOrdinal = ordinal
    const usedCount = this.#highestOrdinal - this.#freedCount
    const largerCount = Math.min(LIMITS.sessionChannelCount, this.#allowanceCount * 2)
    if (usedCount * 2 > this.#allowanceCount && this.#pool.take((largerCount - this.#allowanceCount) * this.initialBytes)) {
      this.#allowanceCount = largerCount
    }
  }

  /** One of the peer's channels has gone. */
  noteFreed (): void {
    this.#freedCount++
  }

  /** Takes the initial credit of a channel that we open. */
  reserveLocal (): boolean {
    return this.#pool.take(this.initialBytes)
  }

  releaseLocal (): void {
    if (!this.#isClosed) this.#pool.give(this.initialBytes)
  }

  /**
   * Raises `channel.grantedBytes` when it is worth a frame. The window is twice what the reader consumed in a round trip:
   * it doubles with every round trip while the sender uses it up, and never grows under a reader that stands still.
   */
  grant (channel: ChannelCore, nowMs: number, roundTripMs: number): boolean {
    this.#tune(channel, nowMs, Math.max(roundTripMs, LIMITS.sessionRoundTripFloorMs))
    // less is not worth a frame
    const leastBytes = Math.max(MIN_GRANT_BYTES, channel.windowBytes / 8)
    if (channel.consumedBytes + channel.windowBytes - channel.grantedBytes < leastBytes) return false
    // half of what is free at most: whoever comes next finds something, too
    const extraBytes = Math.min(channel.windowBytes - this.initialBytes, Math.floor((channel.extraCreditBytes + this.#freeExtraBytes()) / 2))
    const windowBytes = this.initialBytes + extraBytes
    const grantedBytes = channel.consumedBytes + windowBytes
    if (grantedBytes - channel.grantedBytes < Math.min(leastBytes, windowBytes / 4)) return false
    const deltaBytes = extraBytes - channel.extraCreditBytes
    if (deltaBytes > 0) this.#extra.take(deltaBytes)
    else this.#extra.give(-deltaBytes)
    channel.extraCreditBytes = extraBytes
    channel.grantedBytes = grantedBytes
    return true
  }

  /** The channel is gone, and with it what it was promised. */
  release (channel: ChannelCore): void {
    if (!this.#isClosed) this.#extra.give(channel.extraCreditBytes)
    channel.extraCreditBytes = 0
  }

  /** The session is gone: everything goes back. */
  close (): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#pool.give(this.#pool.usedBytes)
  }

  /** `channel.consumedBytes` has just grown by what was consumed last. */
  #tune (channel: ChannelCore, nowMs: number, roundTripMs: number): void {
    const elapsedMs = nowMs - channel.tuneStartMs
    const consumedBytes = channel.consumedBytes - channel.tuneStartBytes
    const wantedBytes = Math.min(LIMITS.channelMaxCreditBytes, Math.ceil(2 * consumedBytes * Math.min(1, roundTripMs / elapsedMs)))
    if (wantedBytes > channel.windowBytes) channel.windowBytes = wantedBytes
    if (elapsedMs < roundTripMs) {
      channel.tuneNextBytes = channel.consumedBytes
      return
    }
    channel.tuneStartMs = nowMs
    // what comes once per round trip, in one burst, is measured whole: from its first byte
    channel.tuneStartBytes = channel.tuneNextBytes
    channel.tuneNextBytes = channel.consumedBytes
    // others need the memory: a window that is not used gives way
    if (this.#freeExtraBytes() * 2 < this.#extra.limitBytes) channel.windowBytes = Math.max(this.initialBytes, wantedBytes, Math.ceil(channel.windowBytes / 2))
  }

  /** A quarter of the node's pool is kept for places, so that busy channels cannot stop new ones. */
  #freeExtraBytes (): number {
    return Math.max(0, Math.min(this.#extra.freeBytes, this.#node.freeBytes - this.#node.limitBytes / 4))
  }

  #nextOpenLimit (): number {
    return Math.min(MAX_ORDINAL, this.#freedCount + this.#allowanceCount)
  }
}

/** What a session takes from the pool of its node before it exists. */
export function firstPlacesBytes (limits: WireLimits): number {
  return limits.channelCount * limits.channelCreditBytes
}

/** The least that a grant adds. */
const MIN_GRANT_BYTES = 4096
const MAX_ORDINAL = 0x7fff_ffff
