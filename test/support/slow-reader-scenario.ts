/** Back-pressure from end to end: a reader that pauses costs nobody memory, and gets every byte. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { startPair } from './friends-pair.ts'
import { memoryArguments, readMemory } from './memory.ts'
import type { TestNetwork } from './network.ts'
import { openTransferForward } from './resume-scenarios.ts'
import { printFigure } from './statistics.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { assertWhole, startTransfer, startTransferService } from './transfer.ts'
import { pause } from './wait.ts'

const MIB = 1024 * 1024
/** heapUsed + arrayBuffers after a collection, per process. */
const MAX_GROWTH_BYTES = 32 * MIB
/** Where the reader pauses, in shares of all bytes. */
const FIRST_PAUSE_SHARE = 0.1
const NEXT_PAUSE_SHARE = 0.3
/** Part of a pause that passes before memory is read, so that everything stands still. */
const SETTLE_SHARE = 0.5

/** `bytes` from the office to the laptop, whose reader pauses so long, three times at most. */
export async function slowReader (network: TestNetwork, init: { bytes: number, pausesMs: readonly number[] }): Promise<void> {
  const directory = makeTempDirectory('memory')
  const fileOf = (role: string): string => join(directory, role)
  const stops: Array<() => Promise<void>> = []
  try {
    const pair = await startPair(network, { nodeArguments: (role) => memoryArguments(fileOf(role)) })
    stops.push(pair.stop)
    await pair.befriend()
    const service = await startTransferService(network.office)
    stops.push(service.stop)
    const target = await openTransferForward(pair, service)
    const relay = pair.relays[0]
    assert.ok(relay !== undefined)
    const programs = new Map([['sender', [pair.office.program().pid, fileOf('office')]], ['relay', [relay.program().pid, fileOf('relay1')]], ['reader', [pair.laptop.program().pid, fileOf('laptop')]]] as const)
    const measure = async (): Promise<Map<string, number>> => {
      const figures = new Map<string, number>()
      for (const [role, [pid, file]] of programs) figures.set(role, await readMemory(pid, file))
      return figures
    }

    // what a first transfer brings to life stays: code, links, buffers that are used again
    const first = startTransfer(network.laptop, service, target, { upBytes: 0, downBytes: 8 * MIB })
    stops.push(first.stop)
    assertWhole(await first.ends(120_000))
    const before = await measure()

    // early: without back-pressure all the rest piles up somewhere
    const pauses = init.pausesMs.map((pauseMs, index) => ({ pauseMs, atBytes: Math.round(init.bytes * (FIRST_PAUSE_SHARE + index * NEXT_PAUSE_SHARE)) }))
    const transfer = startTransfer(network.laptop, service, target, { upBytes: 0, downBytes: init.bytes, pauses })
    stops.push(transfer.stop)
    const growth = new Map<string, number>()
    const note = async (when: string): Promise<void> => {
      for (const [role, bytes] of await measure()) {
        const grownBytes = bytes - (before.get(role) ?? Number.NaN)
        growth.set(role, Math.max(growth.get(role) ?? 0, grownBytes))
        console.log(`${network.name}: ${when}: ${role} ${(bytes / MIB).toFixed(1)} MiB, ${(grownBytes / MIB).toFixed(1)} MiB more than before`)
      }
    }
    for (const { atBytes, pauseMs } of pauses) {
      await transfer.paused(atBytes, 180_000)
      await pause(pauseMs * SETTLE_SHARE)
      await note(`reader pauses for ${pauseMs / 1000} s`)
    }
    const ends = await transfer.ends(300_000)
    await note('afterwards')
    assertWhole(ends)
    assert.equal(ends.caller.receivedBytes, init.bytes)
    for (const [role, bytes] of growth) {
      printFigure(`${network.name}: slow reader, ${init.bytes / 1e6} MB: memory of the ${role} grew by`, bytes / MIB, 'MiB', '32 MiB')
      assert.ok(bytes <= MAX_GROWTH_BYTES, `the memory of the ${role} grew by ${(bytes / MIB).toFixed(1)} MiB`)
    }
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}
