/** "No trace of the marker" is worth as much as the search that says so. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import fc from 'fast-check'
import { createMarkerFinder } from '../../support/marker.ts'

const SHORTEST_TRACE_BYTES = 31
const marker = randomBytes(4096)
const finder = createMarkerFinder(marker)

test('a trace of 31 bytes is found wherever it was cut and wherever it lies, raw, in hex and in base64', () => {
  const spellings = [marker, Buffer.from(marker.toString('hex')), ...[0, 1, 2].map((skip) => Buffer.from(marker.subarray(skip).toString('base64')))]
  fc.assert(fc.property(fc.integer({ min: 0, max: spellings.length - 1 }), fc.nat(), fc.nat({ max: 200 }), fc.nat({ max: 200 }), (which, cut, before, after) => {
    const spelling = spellings[which] ?? marker
    const start = cut % (spelling.length - SHORTEST_TRACE_BYTES - 4)
    const trace = spelling.subarray(start, start + SHORTEST_TRACE_BYTES)
    // no byte before the trace may happen to be the one the marker has there: the block found would begin earlier
    const strange = Buffer.alloc(before, ~(spelling[start - 1] ?? 0))
    const offset = finder.find(Buffer.concat([strange, trace, randomBytes(after)]))
    assert.ok(offset !== undefined && offset >= before && offset < before + SHORTEST_TRACE_BYTES)
  }))
})

test('other random bytes hold no trace', () => {
  assert.equal(finder.find(randomBytes(4 << 20)), undefined)
})

test('bytes shorter than a block hold no trace', () => {
  for (const length of [0, 1, 2, 15]) assert.equal(finder.find(marker.subarray(0, length)), undefined)
})
