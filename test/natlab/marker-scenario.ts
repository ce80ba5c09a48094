/** Invariant I1 at the relay: what passes through it cannot be read there. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Relay } from '../support/bootstrap.ts'
import { createMarkerFinder, findInDirectory, findInMemory } from '../support/marker.ts'
import { printFigure } from '../support/statistics.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import type { LoadGenerator } from '../support/tcp-load.ts'
import { segmentsOf, startCapture } from './capture.ts'
import type { Namespace } from './namespace.ts'

/** Where to look while the marker passes. */
export interface MarkerScenarioInit {
  /** The tap between the nodes and the relay. */
  tapPlace: Namespace
  tapDevice: string
  relay: Relay
  load: LoadGenerator
  /** A forward to a service that hashes what it gets. */
  target: { host: string, port: number }
}

const MARKER_BYTES = 1 << 20
const REPEATS = 8

/** Sends the marker through the forward, several times at once, and looks for it everywhere at the relay, during and after. */
export async function assertNoTraceAtRelay (init: MarkerScenarioInit): Promise<void> {
  const marker = randomBytes(MARKER_BYTES)
  const finder = createMarkerFinder(marker)
  const capture = await startCapture(init.tapPlace, init.tapDevice)
  const sends = Array.from({ length: REPEATS }, async () => init.load.send(init.target, marker))
  // the sends go on in other processes while this one reads the relay's memory
  const during = findInMemory(finder, init.relay.program().pid)
  for (const result of await Promise.all(sends)) assert.ok(result.isEqual, 'I4: the service received other bytes than were sent')
  const afterwards = findInMemory(finder, init.relay.program().pid)
  const recording = await capture.stop()
  const payloadBytes = segmentsOf(recording).reduce((sum, segment) => sum + segment.payload.length, 0)

  // both legs pass the tap: less than twice the marker would mean that it looked at the wrong wire
  assert.ok(payloadBytes >= 2 * REPEATS * MARKER_BYTES, `the tap recorded ${payloadBytes} bytes only`)
  assert.equal(finder.find(recording), undefined, 'the marker stands on the wire to the relay')
  for (const { found, bytes } of [during, afterwards]) {
    assert.ok(bytes > 10_000_000, `only ${bytes} bytes of memory could be read`)
    assert.equal(found, undefined, 'the marker stands in the memory of the relay')
  }
  assert.equal(finder.find(init.relay.program().output()), undefined, 'the marker stands in the output of the relay')
  const files = findInDirectory(finder, init.relay.dataDirectory)
  assert.ok(files.bytes > 0, 'the data directory of the relay is empty')
  assert.equal(files.found, undefined, 'the marker stands in a file of the relay')
  const metrics = await readMetrics(init.relay)
  assert.match(metrics, /^carrier_\w+/m, 'the metrics of the relay hold none of its own')
  assert.equal(finder.find(Buffer.from(metrics)), undefined, 'the marker stands in the metrics of the relay')
  printFigure('recorded between nodes and relay', payloadBytes / 1e6, 'MB')
  printFigure('relay memory searched', afterwards.bytes / 1e6, 'MB')
}

/** The /metrics body of a relay, asked from where it runs: it listens on its loopback only. */
async function readMetrics (relay: Relay): Promise<string> {
  const url = new URL(relay.report().health.includes('://') ? relay.report().health : `http://${relay.report().health}`)
  const client = startLoadGenerator({ place: relay.place })
  try {
    return await client.exchange({ host: url.hostname, port: Number(url.port) }, 'GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n')
  } finally {
    await client.stop()
  }
}
