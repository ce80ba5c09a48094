/** A session that changes its link under load: planned switches, and losses of the link in use, at random moments. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CarrierError } from '../../src/base/index.ts'
import type { ChannelHandler, LinkKind } from '../../src/session/types.ts'
import { createChance } from '../support/byte-stream.ts'
import { startTraffic } from '../support/channel-traffic.ts'
import { openLinkPair, openLivePair, switchTo } from '../support/live-pair.ts'
import type { LivePair } from '../support/live-pair.ts'
import { printFigure } from '../support/statistics.ts'
import { waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const ROUNDS = 100
const CHANNELS = 4
/** Two sides of the channels of both ends: 64 MiB in all at least. */
const LEAST_BYTES = 64 * MIB / (4 * CHANNELS)
const WAY: readonly LinkKind[] = ['splice', 'direct', 'splice', 'stream']
/** Bytes that pass between two changes, at most. */
const MOST_BYTES_BETWEEN = MIB

describe('a session under load', () => {
  for (const seed of [1, 2]) {
    it(`I5: ${ROUNDS} planned switches stream → splice → direct → splice at random moments, both directions busy (seed ${seed})`, async () => {
      await underLoad(seed, async (pair, someBytes) => {
        for (let round = 0; round < ROUNDS; round++) {
          await someBytes()
          await switchTo(pair, WAY[round % WAY.length] ?? 'stream')
        }
        for (const { session, events } of [pair.controller, pair.other]) {
          assert.deepEqual(events.filter(({ what }) => what !== 'switched'), [], 'a planned switch loses nothing')
          assert.equal(events.length, ROUNDS)
          assert.deepEqual(session.links.all().map(({ link }) => link.kind).sort(), ['direct', 'splice', 'stream'], 'every link is still there')
        }
      })
    })

    it(`I5: ${ROUNDS} losses of the link in use at random moments, both directions busy (seed ${seed})`, async () => {
      const stallsMs: number[] = []
      await underLoad(seed, async (pair, someBytes, chance) => {
        for (let round = 0; round < ROUNDS; round++) {
          await someBytes()
          const { link } = pair.controller.session
          cut(pair, link, chance())
          await waitFor(`round ${round}: both ends to go on`, () => isLive(pair) && resumes(pair.controller) > round && resumes(pair.other) > round, { deadlineMs: 60_000, intervalMs: 1 })
          const last = pair.controller.events.findLast((event) => event.what === 'resumed')
          if (last?.what === 'resumed') stallsMs.push(last.stallMs)
          const missing = (['stream', 'splice', 'direct'] as const).filter((kind) => !pair.controller.session.links.all().some((one) => one.link.kind === kind))
          for (const kind of missing) pair.attach(await openLinkPair(kind, pair.controller, pair.other))
        }
        for (const { session } of [pair.controller, pair.other]) assert.equal(session.state, 'live')
      })
      printFigure(`loss of the link in use, another one is there: longest stall of ${stallsMs.length}`, Math.max(...stallsMs), 'ms')
    })
  }

  it('I5: switches and losses interleaved: a link dies in the middle of a switch from it or to it', async () => {
    await underLoad(3, async (pair, someBytes, chance) => {
      for (let round = 0; round < ROUNDS; round++) {
        await someBytes()
        const { links, link } = pair.controller.session
        const to = links.all().filter((one) => one.link.kind !== link)[Math.floor(chance() * 2)]
        if (to !== undefined) links.switchTo(to)
        const turns = Math.floor(chance() * 6)
        for (let turn = 0; turn < turns; turn++) await new Promise<void>((resolve) => { setImmediate(resolve) })
        cut(pair, chance() < 0.5 ? link : to?.link.kind ?? link, chance())
        await waitFor(`round ${round}: both ends to be live on one link: ${JSON.stringify([pair.controller.events.slice(-4), pair.other.events.slice(-4)])}`, () => isLive(pair), { deadlineMs: 60_000, intervalMs: 1 })
        const missing = (['stream', 'splice', 'direct'] as const).filter((kind) => !pair.controller.session.links.all().some((one) => one.link.kind === kind))
        for (const kind of missing) {
          const fresh = await openLinkPair(kind, pair.controller, pair.other)
          await waitFor('a moment without a resume', () => isLive(pair), { deadlineMs: 60_000, intervalMs: 1 })
          pair.attach(fresh)
        }
      }
    })
  })
})

/** Builds a session with three links, keeps it busy while `change` works, and compares every byte. */
async function underLoad (seed: number, change: (pair: LivePair, someBytes: () => Promise<void>, chance: () => number) => Promise<void>): Promise<void> {
  const handlers = new Map<string, ChannelHandler>()
  const pair = await openLivePair({ handlers })
  try {
    for (const kind of ['splice', 'direct'] as const) pair.attach(await openLinkPair(kind, pair.controller, pair.other))
    const traffic = startTraffic([pair.controller.session, pair.other.session], handlers, { channelCount: CHANNELS, leastBytes: LEAST_BYTES, seed: String(seed) })
    const chance = createChance(seed)
    const startedAtMs = performance.now()
    await change(pair, async () => {
      const target = traffic.receivedBytes() + chance() * MOST_BYTES_BETWEEN
      await waitFor(`bytes to pass: ${JSON.stringify([pair.controller.events.slice(-4), pair.other.events.slice(-4)])}`, () => traffic.receivedBytes() >= target, { deadlineMs: 60_000, intervalMs: 1 })
    }, chance)
    printFigure(`${ROUNDS} changes under load took`, performance.now() - startedAtMs, 'ms')
    traffic.finish()
    await within(`the end of the traffic after ${traffic.receivedBytes()} bytes`, 90_000, traffic.done)
    traffic.assertSame()
    assert.ok(traffic.receivedBytes() >= 64 * MIB)
  } finally {
    await pair.close()
  }
}

/** Ends the link of `kind` without a word: at this end, at that end, or at both at once. */
function cut (pair: LivePair, kind: LinkKind, where: number): void {
  const ends = where < 0.4 ? [pair.controller] : where < 0.8 ? [pair.other] : [pair.controller, pair.other]
  for (const { session } of ends) session.links.all().find((one) => one.link.kind === kind)?.link.abort(new CarrierError('ERR_LINK_LOST', 'cut by the test'))
}

function resumes (end: LivePair['controller']): number {
  return end.events.filter(({ what }) => what === 'resumed').length
}

function isLive (pair: LivePair): boolean {
  const [one, other] = [pair.controller.session, pair.other.session]
  return one.state === 'live' && other.state === 'live' && one.link === other.link && !one.links.isSwitching && !one.links.isResuming && !other.links.isResuming
}
