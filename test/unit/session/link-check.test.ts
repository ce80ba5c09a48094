/** Links that are asked whether they live: because something changed, or as often as the keepalive mode says. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KEEPALIVE_MODES, LIMITS, networkPatienceMs } from '../../../src/base/index.ts'
import { AttachedLink } from '../../../src/session/attached-link.ts'
import type { LinkOwner } from '../../../src/session/attached-link.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { createFakeNetwork, settle } from './fake-node.ts'
import { LinkWorld, MemoryLink } from './link-world.ts'
import { pattern } from './support.ts'

/** A last look follows the end of the patience. */
const LOST_AFTER_MS = LIMITS.networkCheckMs + 100

describe('a link that is asked', () => {
  it('and does not answer is lost after a short while', async () => {
    const w = new LinkWorld(createFakeClock())
    const [alice] = w.ends
    await w.rest()
    alice.links.check()
    await w.clock.advance(LOST_AFTER_MS - 1)
    assert.deepEqual(alice.events, [])
    await w.clock.advance(1)
    assert.deepEqual(alice.events, ['lost'])
  })

  it('and answers stays, and is asked once at a time', async () => {
    const w = new LinkWorld(createFakeClock())
    const [alice] = w.ends
    await w.rest()
    for (let round = 0; round < 500; round++) alice.links.check()
    assert.equal(w.pairs[0]?.[0].wire.length, 1)
    await w.clock.advance(LIMITS.networkCheckMs / 2)
    await w.rest()
    await w.clock.advance(LIMITS.networkCheckMs * 2)
    assert.deepEqual(alice.events, [])
    // and then again
    alice.links.check()
    await w.clock.advance(LOST_AFTER_MS)
    assert.deepEqual(alice.events, ['lost'])
  })

  it('and says something else than the answer stays', async () => {
    const w = new LinkWorld(createFakeClock())
    const [alice, bob] = w.ends
    const sent = bob.open()
    await w.rest()
    alice.links.check()
    await w.clock.advance(1)
    bob.core.send(sent.channel, [pattern(1000)])
    bob.flush()
    w.pairs[0]?.[1].carry()
    await w.clock.advance(2 * LOST_AFTER_MS)
    assert.deepEqual(alice.events, [])
  })

  it('stays when the answer was there before the end of the wait and this process had no time to read it', async () => {
    const w = new LinkWorld(createFakeClock())
    const [alice] = w.ends
    await w.rest()
    alice.links.check()
    await w.clock.advance(LIMITS.networkCheckMs)
    await w.rest()
    await w.clock.advance(2 * LOST_AFTER_MS)
    assert.deepEqual(alice.events, [])
  })

  it('because another link of the session was lost', async () => {
    const w = new LinkWorld(createFakeClock())
    const [alice] = w.ends
    const [spare] = w.attach('splice')
    await w.rest()
    spare.lose()
    assert.deepEqual(alice.events, ['spare gone splice'])
    // longer than after a change of the network: what was lost may have been the spare alone
    await w.clock.advance(LOST_AFTER_MS)
    assert.deepEqual(alice.events, ['spare gone splice'])
    await w.clock.advance(LIMITS.sessionBusySilenceMs - LIMITS.sessionBusyPingMs)
    assert.deepEqual(alice.events, ['spare gone splice', 'lost'])
  })
})

describe('keepalive', () => {
  it('gives what is asked after a change of the network three of its round trips, within limits', () => {
    assert.deepEqual([undefined, 0, 80, 150, 200, 5000].map(networkPatienceMs), [1_000, 400, 400, 450, 600, 1_000])
  })

  it('a busy link that was asked already gets no more time by being asked again', async () => {
    const clock = createFakeClock()
    let lostAtMs: number | undefined
    const nothing = (): void => {}
    const channelFrames = { onFrame: nothing, onData: nothing, onDataBytes: nothing }
    const owner: LinkOwner = { channelFrames, isWaiting: () => true, onQuiet: nothing, onBytes: nothing, onDrain: nothing, onViolation: nothing, onRoundTrip: nothing, onWorn: nothing, onGoaway: nothing, onLinkFrame: nothing, onGone: () => { lostAtMs = clock.monotonicMs() } }
    const link = new AttachedLink({ clock, owner }, { link: new MemoryLink('direct', 4096), decoder: new FrameDecoder(channelFrames), epoch: 1 })
    await clock.advance(LIMITS.sessionBusySilenceMs - 100)
    // as when a spare is lost shortly before the verdict
    link.check(LIMITS.sessionBusySilenceMs - LIMITS.sessionBusyPingMs)
    await clock.advance(200)
    assert.equal(lostAtMs, LIMITS.sessionBusySilenceMs)
  })

  const AIM_MS = { fast: 4_000, normal: 25_000, saver: 120_000 } as const

  for (const keepalive of KEEPALIVE_MODES) {
    it(`${keepalive}: a silent idle link is lost within ${AIM_MS[keepalive] / 1000} s, a busy one within 4 s`, async () => {
      for (const isWaiting of [false, true]) {
        const clock = createFakeClock()
        let lostAtMs: number | undefined
        const owner: LinkOwner = {
          channelFrames: { onFrame: () => {}, onData: () => {}, onDataBytes: () => {} },
          isWaiting: () => isWaiting,
          onQuiet: () => {},
          onBytes: () => {},
          onDrain: () => {},
          onViolation: () => {},
          onGone: () => { lostAtMs = clock.monotonicMs() },
          onRoundTrip: () => {},
          onWorn: () => {},
          onGoaway: () => {},
          onLinkFrame: () => {}
        }
        const link = new MemoryLink('stream', 4096)
        // eslint-disable-next-line no-new -- it is alive by itself
        new AttachedLink({ clock, owner, keepalive }, { link, decoder: new FrameDecoder(owner.channelFrames), epoch: 1 })
        await clock.advance(200_000)
        const aimMs = isWaiting ? 4_000 : AIM_MS[keepalive]
        assert.ok(lostAtMs !== undefined && lostAtMs <= aimMs && lostAtMs > aimMs / 2, `${String(lostAtMs)} ms`)
        assert.equal(clock.pendingTimerCount(), 0)
      }
    })
  }
})

describe('a change of the network', () => {
  it('makes sessions ask their links: what is silent is lost within a second', async () => {
    const clock = createFakeClock()
    const net = createFakeNetwork(clock)
    const [alice, bob] = [net.device({ resumeWindowMs: 60_000 }), net.device({ resumeWindowMs: 60_000 })]
    await Promise.all([alice.manager.start(), bob.manager.start()])
    await alice.manager.open(bob.did)
    await settle()
    const events: string[] = []
    alice.manager.on('session:lost', () => { events.push('lost') })
    alice.manager.on('session:resumed', () => { events.push('resumed') })
    alice.networkChanged()
    await clock.advance(2 * LIMITS.networkCheckMs)
    assert.deepEqual(events, [], 'a link that answers stays')
    net.pairs[0]?.hold(true)
    alice.networkChanged()
    await clock.advance(LOST_AFTER_MS)
    assert.deepEqual(events.slice(0, 1), ['lost'])
    await clock.advance(LIMITS.sessionRedialMaxMs)
    assert.deepEqual(events, ['lost', 'resumed'])
    await Promise.all([alice.manager.stop(), bob.manager.stop()])
  })

  it('makes the search for a link go on at once', async () => {
    const clock = createFakeClock()
    const net = createFakeNetwork(clock)
    const [alice, bob] = [net.device({ resumeWindowMs: 60_000 }), net.device({ resumeWindowMs: 60_000 })]
    await Promise.all([alice.manager.start(), bob.manager.start()])
    await alice.manager.open(bob.did)
    await settle()
    let dialCount = 0
    net.beforeDial.run = async () => {
      dialCount++
      throw new Error('no way')
    }
    net.pairs[0]?.lose()
    await clock.advance(20_000)
    const before = dialCount
    alice.networkChanged()
    await clock.advance(0)
    assert.equal(dialCount, before + 1)
    await Promise.all([alice.manager.stop(), bob.manager.stop()])
  })
})
