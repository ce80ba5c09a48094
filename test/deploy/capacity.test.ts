/** The script that measures what a relay carries, in small: that it measures, and that idle peers stay. The figures of the guide come from a full run. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { measureCapacity } from '../support/relay-capacity.ts'

test('idle peers are held and none is lost; bytes go through a splice and through a circuit, and both have a price', { timeout: 280_000 }, async (t) => {
  const result = await measureCapacity({ peers: 40, holdSeconds: 6, splices: 10, megabytes: 50, report: (line) => { t.diagnostic(line) } })
  t.diagnostic(JSON.stringify(result))
  assert.equal(result.peersLeft, result.peers)
  assert.ok(result.kilobytesPerReservation > 1 && result.kilobytesPerReservation < 2000, 'with so few peers the noise is large')
  assert.ok(result.circuitSecondsPerGigabyte > result.spliceSecondsPerGigabyte, 'bulk belongs on splices')
})
