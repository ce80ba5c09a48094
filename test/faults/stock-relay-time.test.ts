/** A stock circuit-relay-v2 relay as it comes: each circuit ends after two minutes. About 2.5 minutes. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { openStockWorld, trickle } from '../support/stock-limits.ts'
import { prepareLimitedStockRelay } from '../support/stock-relay.ts'

const TWO_MINUTES_MS = 120_000

test('I4 I5: a transfer that carries less than 128 KiB goes on when its circuit ends after two minutes, and arrives whole', { timeout: 400_000 }, async (t) => {
  const relay = await prepareLimitedStockRelay('two minutes')
  await relay.start()
  t.after(async () => { await relay.kill() })
  const world = await openStockWorld(t, [relay.address])
  const startedAtMs = performance.now()
  let resumedAtMs: number | undefined
  const { sent, received, answered } = await trickle(t, world, {
    pieceBytes: 64,
    everyMs: 500,
    isEnough: () => {
      if (world.resumeCount() > 0) resumedAtMs ??= performance.now()
      // some more over the next circuit
      return resumedAtMs !== undefined && performance.now() - resumedAtMs > 5_000
    },
    deadlineMs: 240_000
  })
  assert.deepEqual([received, answered], [sent, sent], 'I4: other bytes arrived than were sent')
  // its first circuit began a little before
  assert.ok((resumedAtMs ?? 0) - startedAtMs > TWO_MINUTES_MS - 20_000, `the first circuit ended after ${(resumedAtMs ?? 0) - startedAtMs} ms: not by its time`)
})
