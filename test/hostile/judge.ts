/** What must hold in any run, on any machine: figures in milliseconds and shares are printed by the caller, and judged with much room here. */
import assert from 'node:assert/strict'
import { median } from '../support/statistics.ts'
import { dialsOf, shareOf } from './hostile-scenario.ts'
import type { HostileResult } from './hostile-scenario.ts'

const GROWTH_LIMIT_MIB = 64
/** The 500 ms, three times. */
const DIAL_MS = 1_500
const DIAL_LIMIT_MS = 10_000

/** Fails when the relay died, complained, grew, forgot to count a refusal, let an honest transfer go, or served honest peers much worse than in the control runs. */
export function judgeSound ({ results, lostWays, complaints }: HostileResult): void {
  assert.deepEqual(complaints, [], 'the relay logged an error')
  assert.deepEqual(lostWays, [], 'an honest transfer ended')
  for (const { attack, isSound, grownMib, counted, seen } of results) {
    assert.ok(isSound, `${attack.name}: the relay is gone`)
    assert.ok(grownMib <= GROWTH_LIMIT_MIB, `${attack.name}: the relay grew by ${grownMib} MiB`)
    for (const kind of ['sockets', 'spliceSockets', 'muxers', 'reservations'] as const) {
      assert.ok(counted[kind] >= seen.refused[kind], `${attack.name}: ${seen.refused[kind]} ${kind} were refused, ${counted[kind]} counted`)
    }
  }
}

/** Fails when fewer keys than `count` came in all rounds of an attack that sends some, or when what became of them does not add up. */
export function judgeFresh ({ results }: HostileResult, count: number): void {
  const keyed = results.filter(({ attack }) => attack.parts.includes('reservations'))
  if (keyed.length === 0) return
  let answeredCount = 0
  for (const { attack, seen: { fresh } } of keyed) {
    assert.ok(fresh.attempts >= count, `${attack.name}: ${fresh.attempts} of ${count} keys were sent`)
    const refusedCount = Object.values(fresh.refused).reduce((sum, one) => sum + one, 0)
    assert.equal(fresh.granted + refusedCount + fresh.turnedAway + fresh.cutOff + fresh.unanswered, fresh.attempts, attack.name)
    assert.ok(fresh.handshakes >= fresh.asked && fresh.asked >= fresh.granted + refusedCount, `${attack.name}: ${JSON.stringify(fresh)}`)
    answeredCount += fresh.granted + refusedCount
  }
  assert.ok(answeredCount > 0, 'none of the fresh keys was answered')
}

/** The honest peers' figures, all attacks taken together; with so few dials and one round each, those of one attack are noise. */
export function judgeService ({ results }: HostileResult): void {
  const [attacked, control] = [dialsOf(results.flatMap((result) => result.attacked)), dialsOf(results.flatMap((result) => result.control))]
  assert.ok(attacked.share(DIAL_LIMIT_MS) >= 0.9 * control.share(DIAL_LIMIT_MS), `${attacked.share(DIAL_LIMIT_MS)} of the honest dials succeeded`)
  assert.ok(attacked.share(DIAL_MS) >= 0.75 * control.share(DIAL_MS), `${attacked.share(DIAL_MS)} of the honest dials came within ${DIAL_MS} ms, ${control.share(DIAL_MS)} in the control runs`)
  for (const way of ['spliceMegabytesPerSecond', 'circuitMegabytesPerSecond'] as const) {
    const share = median(results.map((result) => shareOf(result, way)))
    assert.ok(share >= 0.4, `${way}: ${share} of the control runs`)
  }
}
