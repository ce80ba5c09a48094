/** A slow reader, and an echo beside bulk, over lines with delay and rate. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { startPair } from '../support/friends-pair.ts'
import { slowReader } from '../support/slow-reader-scenario.ts'
import { printFigure } from '../support/statistics.ts'
import { startLoadGenerator, startTcpService } from '../support/tcp-load.ts'
import { pause } from '../support/wait.ts'
import { openLab } from './lab.ts'
import type { Lab } from './lab.ts'
import { describeInLab } from './lab-obstacle.ts'
import type { LinkShape } from './delay.ts'

const ECHO_BYTES = 64
/** p95 of the echo beside bulk in idle medians: what the issue names, and what fails. */
const ECHO_TARGET = 2.5
const ECHO_LIMIT = 3

/** What is run, and how long. */
export interface SlowReaderInit { bytes: number, pausesMs: readonly number[], echoMs: number }

/** Registers both as one suite. A home's line has a quarter of the round trip in each direction. */
export function describeSlowReader (init: SlowReaderInit): void {
  describeInLab('back-pressure over lines with delay', () => {
    it(`I8: ${init.bytes / 1e6} MB at 50 ms round trip to a reader that pauses for ${init.pausesMs.map((ms) => ms / 1000).join(' and ')} s`, async () => {
      await withLab({ delayMs: 12.5 }, async (lab) => { await slowReader(lab, init) })
    })

    it('20 Mbit/s and 50 ms round trip: an echo of 64 bytes beside bulk through the same session', async () => {
      await withLab({ delayMs: 12.5, bytesPerSecond: 2_500_000, queueBytes: 1_000_000 }, async (lab) => { await echoBesideBulk(lab, init.echoMs) })
    })
  })
}

async function echoBesideBulk (lab: Lab, echoMs: number): Promise<void> {
  const pair = await startPair(lab)
  const service = await startTcpService({ place: lab.office })
  const [probe, bulk] = [startLoadGenerator({ place: lab.laptop }), startLoadGenerator({ place: lab.laptop })]
  try {
    await pair.befriend()
    await pair.office.json('serve', 'load', String(service.port), '--allow', 'laptop')
    const { listen } = await pair.laptop.json<{ listen: string }>('forward', '0', 'office/load')
    const [host = '', port = ''] = listen.split(':')
    const target = { host, port: Number(port) }
    const idle = await probe.roundTrip(target, ECHO_BYTES, echoMs)
    printFigure('natlab: echo on an idle session: median', idle.p50Ms, 'ms')
    for (const [direction, run] of [['down', bulk.down], ['up', bulk.up]] as const) {
      // the bulk outlasts the echo on both sides: its first second is the sender's start
      const load = run(target, 1, echoMs + 3000)
      await pause(1000)
      const beside = await probe.roundTrip(target, ECHO_BYTES, echoMs)
      const { bytes, elapsedMs } = await load
      const ratio = beside.p95Ms / idle.p50Ms
      printFigure(`natlab: bulk ${direction} beside the echo`, bytes * 8 / 1000 / elapsedMs, 'Mbit/s', '20 Mbit/s line')
      printFigure(`natlab: echo beside bulk ${direction}: p95 in idle medians`, ratio, `× (p50 ${beside.p50Ms.toFixed(0)} ms, p95 ${beside.p95Ms.toFixed(0)} ms)`, `${ECHO_TARGET} ×`)
      assert.ok(bytes * 8 / elapsedMs > 5_000, `the bulk moved ${bytes} bytes only: the echo had the line to itself`)
      assert.ok(ratio <= ECHO_LIMIT, `echo beside bulk ${direction}: ${ratio.toFixed(2)} idle medians`)
    }
  } finally {
    await Promise.all([probe.stop(), bulk.stop()])
    await service.stop()
    await pair.stop()
  }
}

async function withLab (line: LinkShape, run: (lab: Lab) => Promise<void>): Promise<void> {
  // a router through which nobody punches: the relay is to carry it
  const lab = await openLab({ laptop: 'sym', line })
  try {
    await run(lab)
  } finally {
    await lab.close()
  }
}
