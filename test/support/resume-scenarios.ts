/** Invariant I5 on real processes: forwarded connections outlive the relay in use. The same sentences on loopback and in the lab. */
import assert from 'node:assert/strict'
import { startPair } from './friends-pair.ts'
import type { Pair } from './friends-pair.ts'
import type { TestNetwork } from './network.ts'
import { pingFriend, watchSessions } from './session-watch.ts'
import type { SessionWatch } from './session-watch.ts'
import { median, printFigure } from './statistics.ts'
import { assertWhole, longestGapMs, startTransfer, startTransferService } from './transfer.ts'
import type { Transfer, TransferInit, TransferService } from './transfer.ts'
import { pause, waitFor } from './wait.ts'

/** The stall that the issue names; a test fails at three times as much. */
export const STALL_TARGET_MS = 2000
const TOLERANCE = 3
/** Half of what a session waits for a link: the other half is for slow machines. */
const RESUME_DEADLINE_MS = 30_000
const MIB = 1024 * 1024

/** A pair of friends with a forward to a transfer service, over two relays. */
export interface ResumeWorld {
  readonly network: TestNetwork
  readonly pair: Pair
  readonly watch: SessionWatch
  readonly officeWatch: SessionWatch
  transfer: (init: TransferInit) => Transfer
  /** The relay that carries the session now, by its position. */
  usedRelay: () => Promise<number>
  /** Starts relays that were killed, and waits until both nodes hold a reservation at each: everybody has two ways. */
  relaysBack: () => Promise<void>
  /** Takes everything down. */
  close: () => Promise<void>
}

/** Builds it. */
export async function openResumeWorld (network: TestNetwork): Promise<ResumeWorld> {
  const stops: Array<() => Promise<void>> = []
  const close = async (): Promise<void> => { for (const stop of stops.splice(0).reverse()) await stop() }
  try {
    const pair = await startPair(network, { relayCount: 2 })
    stops.push(pair.stop)
    await pair.befriend()
    const service = await startTransferService(network.office)
    stops.push(service.stop)
    const target = await openTransferForward(pair, service)
    const watch = await watchSessions(pair.laptop)
    stops.push(watch.stop)
    const officeWatch = await watchSessions(pair.office)
    stops.push(officeWatch.stop)
    await relaysReserved(pair)
    return {
      network,
      pair,
      watch,
      officeWatch,
      close,
      transfer: (init) => {
        const transfer = startTransfer(network.laptop, service, target, init)
        stops.push(transfer.stop)
        return transfer
      },
      usedRelay: async () => {
        const { relayPeerId } = await pingFriend(pair.laptop, 'office')
        const used = pair.relays.findIndex((relay) => relay.report().peerId === relayPeerId)
        assert.ok(used >= 0, `the ping names no relay of ours: ${String(relayPeerId)}`)
        return used
      },
      relaysBack: async () => {
        for (const relay of pair.relays) if (!relay.isRunning()) await relay.start()
        await relaysReserved(pair)
      }
    }
  } catch (err) {
    await close()
    throw err
  }
}

/** I5: no session has ended since the world began. */
export function assertOneSession (world: ResumeWorld): void {
  assert.deepEqual([...world.watch.closed, ...world.officeWatch.closed], [], 'I5: a session ended')
}

/** The relay in use is killed when the caller has 40 % of `downBytes`. */
export async function relayKilledDuringTransfer (world: ResumeWorld, init: { downBytes: number, upBytes: number, bytesPerSecond?: number }): Promise<void> {
  const resumeCount = world.watch.resumes.length
  const transfer = world.transfer(init)
  await transfer.reached(0.4 * init.downBytes, 120_000)
  await world.pair.relays[await world.usedRelay()]?.kill()
  const killedAtBytes = transfer.receivedBytes()
  const ends = await transfer.ends(240_000)
  assertWhole(ends)
  assert.equal(ends.caller.receivedBytes, init.downBytes)
  assert.ok(killedAtBytes < init.downBytes, 'the transfer was over before the relay died')
  await world.watch.resumed(resumeCount + 1, RESUME_DEADLINE_MS)
  printStall(`${world.network.name}: relay in use killed at ${(100 * killedAtBytes / init.downBytes).toFixed(0)} % of ${init.downBytes / MIB} MiB: longest time without a byte`, longestGapMs(ends))
  printOwnFigure(world, resumeCount)
  assert.ok(longestGapMs(ends) <= TOLERANCE * STALL_TARGET_MS)
}

/** One connection through so many kills of the relay in use; each time the killed one is started again. */
export async function relayKilledAgainAndAgain (world: ResumeWorld, init: { kills: number, bytesPerSecond: number }): Promise<void> {
  const transfer = world.transfer({ bytesPerSecond: init.bytesPerSecond })
  const stallsMs: number[] = []
  for (let round = 1; round <= init.kills; round++) {
    await transfer.reached(transfer.receivedBytes() + init.bytesPerSecond / 4, RESUME_DEADLINE_MS)
    const resumeCount = world.watch.resumes.length
    await world.pair.relays[await world.usedRelay()]?.kill()
    await world.watch.resumed(resumeCount + 1, RESUME_DEADLINE_MS)
    stallsMs.push(world.watch.resumes.at(-1)?.stallMs ?? Number.NaN)
    await transfer.reached(transfer.receivedBytes() + 1, RESUME_DEADLINE_MS)
    await world.relaysBack()
  }
  transfer.finish()
  const ends = await transfer.ends(120_000)
  assertWhole(ends)
  printFigure(`${world.network.name}: ${init.kills} kills in a row: median stall of the session`, median(stallsMs), 'ms')
  printStall(`${world.network.name}: ${init.kills} kills in a row: longest time without a byte`, longestGapMs(ends))
  assert.ok(longestGapMs(ends) <= TOLERANCE * STALL_TARGET_MS)
}

/** Both relays are down for a while: the connection stands still and goes on. */
export async function bothRelaysDown (world: ResumeWorld, init: { downMs: number, bytesPerSecond: number }): Promise<void> {
  const { watch, officeWatch, pair: { relays } } = world
  const [resumeCount, lostCount, officeLostCount] = [watch.resumes.length, watch.lostCount(), officeWatch.lostCount()]
  const transfer = world.transfer({ bytesPerSecond: init.bytesPerSecond })
  await transfer.reached(init.bytesPerSecond / 4, RESUME_DEADLINE_MS)
  await Promise.all(relays.map(async (relay) => { await relay.kill() }))
  await waitFor('both ends to lose the session', () => watch.lostCount() > lostCount && officeWatch.lostCount() > officeLostCount, { deadlineMs: RESUME_DEADLINE_MS, intervalMs: 20 })
  const standingAtBytes = transfer.receivedBytes()
  await pause(init.downMs)
  assert.ok(!transfer.hasEnded(), 'I4: the transfer ended while there was no way')
  await Promise.all(relays.map(async (relay) => { await relay.start() }))
  await watch.resumed(resumeCount + 1, 60_000)
  await transfer.reached(standingAtBytes + init.bytesPerSecond / 4, 60_000)
  transfer.finish()
  const ends = await transfer.ends(120_000)
  assertWhole(ends)
  printFigure(`${world.network.name}: both relays down for ${init.downMs / 1000} s: longest time without a byte`, longestGapMs(ends), 'ms')
  printOwnFigure(world, resumeCount)
}

/** Serves the transfer service at the office and gives where its forward listens at the laptop. */
export async function openTransferForward (pair: Pair, service: TransferService): Promise<{ host: string, port: number }> {
  await pair.office.json('serve', 'transfer', String(service.port), '--allow', 'laptop')
  const { listen, state } = await pair.laptop.json<{ listen: string, state: string }>('forward', '0', 'office/transfer')
  assert.equal(state, 'active')
  const [host = '', port = ''] = listen.split(':')
  return { host, port: Number(port) }
}

/** Waits until both nodes hold a reservation at every relay: each has two ways. */
async function relaysReserved (pair: Pair): Promise<void> {
  for (const node of [pair.office, pair.laptop]) {
    await waitFor(`${node.name} to hold every relay`, async () => (await node.status()).relays.every((relay) => relay.state === 'reserved'), { deadlineMs: 60_000 })
  }
}

function printOwnFigure (world: ResumeWorld, fromIndex: number): void {
  const resumes = world.watch.resumes.slice(fromIndex)
  printFigure(`${world.network.name}: the session's own figure (over ${resumes.map(({ link }) => link).join(', ')}; moved ${world.watch.moves.map(({ from, link }) => `${from} → ${link}`).join(', ') || 'never'})`, Math.max(...resumes.map(({ stallMs }) => stallMs)), 'ms')
}

function printStall (what: string, stallMs: number): void {
  printFigure(what, stallMs, 'ms', `${STALL_TARGET_MS} ms`)
}
