/** A session without a link looks for one at once when its relay comes back, and when it is the one that lost its last relay. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { createFakeNetwork, settle } from './fake-node.ts'
import type { FakeDevice } from './fake-node.ts'

interface World { clock: FakeClock, controller: FakeDevice, other: FakeDevice, dialCount: (device: FakeDevice) => number }

/** A session whose link is lost; nobody gets through. */
async function withLostSession (run: (world: World) => Promise<void>): Promise<void> {
  const clock = createFakeClock()
  const net = createFakeNetwork(clock)
  const [controller, other] = [net.device({ resumeWindowMs: 60_000 }), net.device({ resumeWindowMs: 60_000 })]
  await Promise.all([controller.manager.start(), other.manager.start()])
  await controller.manager.open(other.did)
  await settle()
  const dials: string[] = []
  net.beforeDial.run = async (from) => {
    dials.push(from)
    throw new Error('no way')
  }
  net.pairs[0]?.lose()
  await clock.advance(0)
  await run({ clock, controller, other, dialCount: (device) => dials.filter((did) => did === device.did).length })
  await Promise.all([controller.manager.stop(), other.manager.stop()])
}

describe('the search for a link', () => {
  it('goes on at once over a relay that is there again', async () => {
    await withLostSession(async ({ clock, controller, dialCount }) => {
      await clock.advance(20_000)
      const before = dialCount(controller)
      controller.relayIs('reserved')
      await clock.advance(0)
      assert.equal(dialCount(controller), before + 1)
    })
  })

  it('is left to the controller for a moment, unless no relay is left over which that could find this end', async () => {
    await withLostSession(async ({ clock, controller, other, dialCount }) => {
      assert.deepEqual([dialCount(controller), dialCount(other)], [1, 0])
      other.relayIs('connecting')
      await clock.advance(0)
      assert.equal(dialCount(other), 1)
    })
    await withLostSession(async ({ clock, other, dialCount }) => {
      await clock.advance(LIMITS.sessionRedialFirstMs - 1)
      assert.equal(dialCount(other), 0)
      await clock.advance(1)
      assert.equal(dialCount(other), 1)
    })
  })
})
