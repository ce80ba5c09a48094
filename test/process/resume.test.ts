/** Forwarded connections outlive their relay: real processes on loopback. The lab's form is test/natlab/full-resume.test.ts. */
import { after, afterEach, before, describe, it } from 'node:test'
import { openLoopback } from '../support/network.ts'
import { assertOneSession, bothRelaysDown, openResumeWorld, relayKilledAgainAndAgain, relayKilledDuringTransfer } from '../support/resume-scenarios.ts'
import type { ResumeWorld } from '../support/resume-scenarios.ts'

const MIB = 1024 * 1024

describe('a forwarded connection and the relay in use', () => {
  let world: ResumeWorld

  before(async () => { world = await openResumeWorld(openLoopback()) })
  afterEach(async () => {
    assertOneSession(world)
    await world.relaysBack()
  })
  after(async () => { await world?.close() })

  it('I5: relay killed at 40 % of 32 MiB: every byte arrives', async () => {
    await relayKilledDuringTransfer(world, { downBytes: 32 * MIB, upBytes: 16 * MIB, bytesPerSecond: 8 * MIB })
  })
  it('I5: five kills in a row: every byte arrives', async () => {
    await relayKilledAgainAndAgain(world, { kills: 5, bytesPerSecond: 4 * MIB })
  })
  it('I5: both relays down for 5 s: the connection stands still and goes on', async () => {
    await bothRelaysDown(world, { downMs: 5000, bytesPerSecond: 4 * MIB })
  })
})
