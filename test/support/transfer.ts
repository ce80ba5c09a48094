/** The handle of a test on transfer-main.ts: a transfer in both directions at once, whose ends are compared. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { HOST, startProgram } from './program.ts'
import type { Place, Program } from './program.ts'
import { GiveUpError, waitFor } from './wait.ts'

/** What is transferred. A direction without a length goes on until `finish`. */
export interface TransferInit {
  upBytes?: number
  downBytes?: number
  /** Of each sender; as fast as possible when absent. */
  bytesPerSecond?: number
  /** Where the caller stops to read, and for how long. */
  pauses?: ReadonlyArray<{ atBytes: number, pauseMs: number }>
}

/** What one end saw. `how` is `end`, or the code of the error. */
export interface TransferEnd { sentBytes: number, sentSha256: string, receivedBytes: number, receivedSha256: string, longestGapMs: number, longestGapAtBytes: number, how: string }

/** A transfer under way. */
export interface Transfer {
  readonly program: Program
  receivedBytes: () => number
  /** Waits until the caller has received so much. */
  reached: (bytes: number, deadlineMs: number) => Promise<void>
  /** Waits until the caller has begun its pause at `atBytes`. */
  paused: (atBytes: number, deadlineMs: number) => Promise<void>
  /** Ends directions without a length. */
  finish: () => void
  hasEnded: () => boolean
  /** Both ends, after the transfer is over. */
  ends: (deadlineMs: number) => Promise<{ caller: TransferEnd, service: TransferEnd }>
  stop: () => Promise<void>
}

/** A service for transfers. */
export interface TransferService { readonly port: number, endOf: (id: string) => TransferEnd | undefined, stop: () => Promise<void> }

const PROGRAM = join(import.meta.dirname, 'transfer-main.ts')

/** Starts the service. */
export async function startTransferService (place: Place = HOST): Promise<TransferService> {
  const program = startProgram(process.execPath, [PROGRAM, 'serve', '127.0.0.1'], { place, name: 'transfer service' })
  const ends = new Map<string, TransferEnd>()
  createInterface({ input: program.stdoutStream }).on('line', (line) => {
    const { id, end } = JSON.parse(line) as { id?: string, end?: TransferEnd }
    if (id !== undefined && end !== undefined) ends.set(id, end)
  })
  const { port } = JSON.parse(await program.line(0)) as { port: number }
  return { port, endOf: (id) => ends.get(id), stop: async () => { await program.stop() } }
}

/** Starts a transfer from `place` to a forward that leads to the service. */
export function startTransfer (place: Place, service: TransferService, target: { host: string, port: number }, init: TransferInit): Transfer {
  const id = randomUUID()
  const program = startProgram(process.execPath, [PROGRAM, 'call', target.host, String(target.port), JSON.stringify({ ...init, id })], { place, name: 'transfer' })
  let receivedBytes = 0
  const pausedAt = new Set<number>()
  let callerEnd: TransferEnd | undefined
  createInterface({ input: program.stdoutStream }).on('line', (line) => {
    const said = JSON.parse(line) as { receivedBytes?: number, pausedAtBytes?: number, end?: TransferEnd }
    receivedBytes = said.receivedBytes ?? receivedBytes
    if (said.pausedAtBytes !== undefined) pausedAt.add(said.pausedAtBytes)
    callerEnd = said.end ?? callerEnd
  })
  const until = async (what: string, isSo: () => boolean, deadlineMs: number): Promise<void> => {
    await waitFor(`${what} (${receivedBytes} bytes so far)`, () => {
      if (isSo()) return true
      if (program.hasExited() || callerEnd !== undefined) throw new GiveUpError(`the transfer ended before ${what}: ${JSON.stringify(callerEnd)} ${program.stderr()}`)
      return false
    }, { deadlineMs, intervalMs: 5 })
  }
  return {
    program,
    receivedBytes: () => receivedBytes,
    reached: async (bytes, deadlineMs) => until(`${bytes} received bytes`, () => receivedBytes >= bytes, deadlineMs),
    paused: async (atBytes, deadlineMs) => until(`the pause at ${atBytes}`, () => pausedAt.has(atBytes), deadlineMs),
    finish: () => { program.stdin.write('finish\n') },
    hasEnded: () => callerEnd !== undefined,
    ends: async (deadlineMs) => {
      const caller = await waitFor('the end of the transfer at its caller', () => {
        if (callerEnd === undefined && program.hasExited()) throw new GiveUpError(`the caller ended: ${program.stderr()}`)
        return callerEnd
      }, { deadlineMs, intervalMs: 20 })
      const end = await waitFor(`the end of the transfer at its service; the caller: ${JSON.stringify(caller)}`, () => service.endOf(id), { deadlineMs: 20_000, intervalMs: 20 })
      return { caller, service: end }
    },
    stop: async () => { await program.stop() }
  }
}

/** I4: both ends have ended cleanly and have what the other one sent. */
export function assertWhole (ends: { caller: TransferEnd, service: TransferEnd }): void {
  const { caller, service } = ends
  assert.deepEqual([caller.how, service.how], ['end', 'end'], JSON.stringify(ends))
  assert.deepEqual([caller.receivedBytes, caller.receivedSha256], [service.sentBytes, service.sentSha256], 'the caller has other bytes than the service sent')
  assert.deepEqual([service.receivedBytes, service.receivedSha256], [caller.sentBytes, caller.sentSha256], 'the service has other bytes than the caller sent')
}

/** The longest time without a received byte, at either end, milliseconds. */
export function longestGapMs (ends: { caller: TransferEnd, service: TransferEnd }): number {
  return Math.max(ends.caller.longestGapMs, ends.service.longestGapMs)
}
