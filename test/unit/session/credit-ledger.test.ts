import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { ReceiveBlocks } from '../../../src/session/byte-queues.ts'
import { ChannelCore } from '../../../src/session/channel-core.ts'
import { CreditLedger } from '../../../src/session/credit-ledger.ts'
import { CreditPool } from '../../../src/session/credit-pool.ts'
import { OWN_LIMITS } from '../../../src/session/hello.ts'
import { BlockStore, RetainedBudget } from '../../../src/session/retained.ts'

const ROUND_TRIP_MS = 100

/** One channel whose sender uses up whatever it gets, in one burst per round trip. */
class Transfer {
  readonly channel: ChannelCore
  readonly #ledger: CreditLedger

  constructor (ledger: CreditLedger, pool: CreditPool) {
    this.#ledger = ledger
    this.channel = new ChannelCore({ id: 2, kind: 'test', isLocal: false, sendLimitBytes: 0, grantedBytes: ledger.initialBytes, nowMs: 0, retained: new RetainedBudget(pool.retained, new BlockStore()), receiveBlocks: new ReceiveBlocks() })
  }

  /** Everything that was granted arrives and is read at `nowMs`, but no more than `maxBytes`; the result is how much that was. */
  burst (nowMs: number, maxBytes = Infinity): number {
    const { channel } = this
    const count = Math.min(maxBytes, channel.grantedBytes - channel.receivedBytes)
    for (let leftBytes = count; leftBytes > 0; leftBytes -= 16_384) {
      channel.receivedBytes += Math.min(16_384, leftBytes)
      channel.consumedBytes = channel.receivedBytes
      this.#ledger.grant(channel, nowMs, ROUND_TRIP_MS)
    }
    return count
  }
}

function ledger (nodeBytes = 512 * 1024 * 1024): { pool: CreditPool, ledger: CreditLedger } {
  const pool = new CreditPool(nodeBytes)
  return { pool, ledger: new CreditLedger(OWN_LIMITS, pool) }
}

describe('credit', () => {
  it('doubles with every round trip while the sender uses it up, to the maximum of a channel', () => {
    const { pool, ledger: credit } = ledger()
    const transfer = new Transfer(credit, pool)
    let before = transfer.burst(0)
    assert.equal(before, LIMITS.channelInitialCreditBytes)
    for (let round = 1; round <= 12; round++) {
      const count = transfer.burst(round * ROUND_TRIP_MS)
      assert.ok(count >= Math.min(1.7 * before, 0.8 * LIMITS.channelMaxCreditBytes), `${count} bytes after ${before} in round ${round}`)
      before = count
    }
    assert.ok(transfer.channel.windowBytes <= LIMITS.channelMaxCreditBytes)
  })

  it('follows a steady reader: twice what it consumes in a round trip, however long the transfer takes', () => {
    const { pool, ledger: credit } = ledger()
    const transfer = new Transfer(credit, pool)
    // 1 MB per round trip, in a hundred pieces
    for (let nowMs = 0; nowMs < 60_000; nowMs++) transfer.burst(nowMs, 10_000)
    const { windowBytes } = transfer.channel
    assert.ok(windowBytes > 1_900_000 && windowBytes < 2_100_000, `${windowBytes} bytes`)
  })

  it('I8: never grows under a reader that stands still', () => {
    const { pool, ledger: credit } = ledger()
    const { channel } = new Transfer(credit, pool)
    channel.receivedBytes = channel.grantedBytes
    for (let nowMs = 0; nowMs < 10_000; nowMs += 100) assert.equal(credit.grant(channel, nowMs, ROUND_TRIP_MS), false)
    assert.equal(channel.grantedBytes, LIMITS.channelInitialCreditBytes)
  })

  it('I8: what is promised is within the budget at every moment, and whoever comes late still gets a window', () => {
    const { pool, ledger: credit } = ledger()
    const transfers: Transfer[] = []
    for (let round = 0; round < 400; round++) {
      if (round % 10 === 0) transfers.push(new Transfer(credit, pool))
      for (const transfer of transfers) transfer.burst(round * ROUND_TRIP_MS)
      const promisedBytes = transfers.reduce((sum, { channel }) => sum + Math.max(0, channel.grantedBytes - channel.consumedBytes - LIMITS.channelInitialCreditBytes), 0)
      assert.ok(promisedBytes <= LIMITS.sessionCreditBytes / 2, `${promisedBytes} bytes`)
      assert.ok(credit.usedBytes <= LIMITS.sessionCreditBytes && pool.usedBytes <= pool.limitBytes)
    }
    const latest = transfers.at(-1)
    assert.ok(latest !== undefined && latest.channel.windowBytes > 4 * LIMITS.channelInitialCreditBytes, `${latest?.channel.windowBytes ?? 0} bytes`)
    for (const { channel } of transfers) credit.release(channel)
    credit.close()
    assert.equal(pool.usedBytes, 0)
  })

  it('of a window that is not used gives way when memory is short', () => {
    const { pool, ledger: credit } = ledger()
    const big = new Transfer(credit, pool)
    for (let round = 0; round < 14; round++) big.burst(round * ROUND_TRIP_MS)
    const others = Array.from({ length: 8 }, () => new Transfer(credit, pool))
    for (let round = 14; round < 60; round++) for (const other of others) other.burst(round * ROUND_TRIP_MS)
    const before = big.channel.extraCreditBytes
    for (let round = 60; round < 2000; round++) {
      big.burst(round * ROUND_TRIP_MS, 20_000)
      for (const other of others) other.burst(round * ROUND_TRIP_MS)
    }
    assert.ok(big.channel.extraCreditBytes < before / 4, `${big.channel.extraCreditBytes} of ${before} bytes`)
  })
})
