import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isChaChaFaster } from '../../../src/session/tls-ciphers.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

/** A clock on which runs of the two take what `aesMs` and `chaChaMs` say for each run. */
function judge (aesMs: (run: number) => number, chaChaMs: (run: number) => number): boolean {
  let reading = 0
  let nowMs = 0
  return isChaChaFaster({
    ...createFakeClock(),
    monotonicMs: () => {
      // each run reads the clock twice, and the two take turns
      const run = Math.floor(reading / 4)
      if (reading % 4 === 1) nowMs += aesMs(run)
      if (reading % 4 === 3) nowMs += chaChaMs(run)
      reading++
      return nowMs
    }
  })
}

test('ChaCha20 comes first only where AES has no help from the processor, also when the machine was busy at that moment', () => {
  assert.equal(judge(() => 0.064, () => 0.07), false)
  assert.equal(judge(() => 0.6, () => 0.2), true)
  // all but two runs were held up
  assert.equal(judge((run) => run % 6 === 4 ? 0.064 : 5, () => 0.07), false)
})
