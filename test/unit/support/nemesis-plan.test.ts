/** A seed gives the same faults again, and no fault outlasts its plan or meets another one of its lane. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ALL_FAULTS, describeFault, planNemesis } from '../../natlab/nemesis-plan.ts'
import type { PlannedFault } from '../../natlab/nemesis-plan.ts'

const LENGTH_MS = 60_000
const plan = (seed: number): PlannedFault[] => planNemesis({ seed, lengthMs: LENGTH_MS, relayCount: 2, lanes: ALL_FAULTS, pauseMs: [500, 4_000], durationMs: [500, 6_000] })

test('a seed gives the same plan again, in the order of time', () => {
  fc.assert(fc.property(fc.nat(), (seed) => {
    assert.deepEqual(plan(seed), plan(seed))
    const starts = plan(seed).map(({ startMs }) => startMs)
    assert.deepEqual(starts, [...starts].sort((a, b) => a - b))
  }))
})

test('faults of one lane come one after the other and end with the plan; a relay that does not exist is never hit', () => {
  fc.assert(fc.property(fc.nat(), (seed) => {
    for (const lane of [0, 1]) {
      const faults = plan(seed).filter((planned) => planned.lane === lane)
      assert.ok(faults.length >= 5, `${faults.length} faults`)
      for (const [index, { startMs, durationMs, fault }] of faults.entries()) {
        assert.ok(startMs + durationMs <= (faults[index + 1]?.startMs ?? LENGTH_MS))
        assert.ok(ALL_FAULTS[lane]?.includes(fault.kind))
        if ('relay' in fault) assert.ok(fault.relay === 0 || fault.relay === 1)
        if ('lossRatio' in fault) assert.ok(fault.lossRatio > 0 && fault.lossRatio <= 0.05)
      }
    }
  }))
})

test('every kind of fault is drawn, and each has words of its own', () => {
  const all = Array.from({ length: 20 }, (_, seed) => plan(seed)).flat().map(({ fault }) => fault)
  assert.deepEqual(new Set(all.map(({ kind }) => kind)), new Set(ALL_FAULTS.flat()))
  const words = new Map(all.map((fault) => [fault.kind, describeFault({ ...fault }).replaceAll(/[\d.]+|office|laptop/g, '')]))
  assert.equal(new Set(words.values()).size, words.size)
})
