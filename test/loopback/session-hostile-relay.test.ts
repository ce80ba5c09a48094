/** A relay that tampers with a splice, or joins it to somebody else, against sessions that have another link. */
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { systemClock } from '../../src/base/index.ts'
import type { CarrierError } from '../../src/base/index.ts'
import { openTlsLink } from '../../src/session/tls-link.ts'
import type { ChannelHandler } from '../../src/session/types.ts'
import { startTraffic } from '../support/channel-traffic.ts'
import { createHostileMiddle, TAMPERINGS } from '../support/hostile-middle.ts'
import type { HostileMiddle } from '../support/hostile-middle.ts'
import { makeLinkIdentity, openLinkPair, openLivePair, openSocketPair, switchTo } from '../support/live-pair.ts'
import type { LivePair } from '../support/live-pair.ts'
import { waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const DEADLINE_MS = 60_000

describe('a malicious relay on a splice', () => {
  for (const tampering of TAMPERINGS) {
    for (const towards of ['far', 'near'] as const) {
      it(`I1, I4: it ${tampering} on its way to the ${towards === 'far' ? 'other end' : 'controller'}: no wrong byte, and the session goes on over the stream`, async () => {
        const hostile = createHostileMiddle()
        await onSplice(hostile, async (pair, someBytes) => {
          hostile.arm(tampering, towards)
          await onStream(pair)
          assert.equal(hostile.tampered(), 1)
          await someBytes()
        })
      })
    }
  }

  for (const towards of ['far', 'near'] as const) {
    it(`I4: it flips a bit towards the ${towards === 'far' ? 'other end' : 'controller'} and never tells that this end hung up: the session goes on all the same`, async () => {
      const hostile = createHostileMiddle({ isSilent: true })
      await onSplice(hostile, async (pair, someBytes) => {
        hostile.arm('flips a bit', towards)
        await onStream(pair)
        await someBytes()
      })
    })
  }

  it('I5: other sessions through the same relay are untouched', async () => {
    const [hostile, beside] = [createHostileMiddle(), createHostileMiddle()]
    await onSplice(beside, async (other, otherBytes) => {
      await onSplice(hostile, async (pair, someBytes) => {
        hostile.arm('injects bytes', 'far')
        await onStream(pair)
        await Promise.all([someBytes(), otherBytes()])
      })
      assert.deepEqual([other.controller.events, other.other.events], [[{ what: 'switched', link: 'splice' }], [{ what: 'switched', link: 'splice' }]])
    })
  })

  it('I2: it joins either end to a third device: TLS refuses it, and the session does not notice', async () => {
    const handlers = new Map<string, ChannelHandler>()
    const pair = await openLivePair({ handlers })
    const mallory = await makeLinkIdentity()
    const sockets: Socket[] = []
    try {
      const traffic = startTraffic([pair.controller.session, pair.other.session], handlers, { channelCount: 2, leastBytes: MIB, seed: 'wrong pair' })
      for (const [victim, isController, expected] of [[pair.controller, true, pair.other], [pair.other, false, pair.controller]] as const) {
        const [mine, theirs] = await openSocketPair()
        sockets.push(mine, theirs)
        const path = { kind: 'splice', path: 'spliced', relayPeerId: 'relay' } as const
        const wrong = openTlsLink({ clock: systemClock }, { socket: theirs, isController: !isController, certificate: mallory.certificate, device: victim.identity.did, ...path })
        wrong.then((link) => { link.open({ onBytes: () => { assert.fail('a byte for a stranger') }, onDrain: () => {}, onClosed: () => {} }) }, () => { /* refused on this side as well */ })
        await assert.rejects(openTlsLink({ clock: systemClock }, { socket: mine, isController, certificate: victim.certificate, device: expected.identity.did, ...path }), (err: CarrierError) => err.code === 'ERR_PROTOCOL')
        await waitFor('both sockets to be gone', () => mine.destroyed && theirs.destroyed, { deadlineMs: DEADLINE_MS, intervalMs: 5 })
      }
      traffic.finish()
      await within('the end of the traffic', DEADLINE_MS, traffic.done)
      traffic.assertSame()
      assert.deepEqual([pair.controller.events, pair.other.events], [[], []])
    } finally {
      for (const socket of sockets) socket.destroy()
      await pair.close()
    }
  })
})

/** A session that was moved to a splice through `hostile`, which is closed in the end, under load in both directions; every byte is compared in the end. */
async function onSplice (hostile: HostileMiddle, use: (pair: LivePair, someBytes: () => Promise<void>) => Promise<void>): Promise<void> {
  const handlers = new Map<string, ChannelHandler>()
  const pair = await openLivePair({ handlers })
  try {
    pair.attach(await openLinkPair('splice', pair.controller, pair.other, hostile.middle))
    const traffic = startTraffic([pair.controller.session, pair.other.session], handlers, { channelCount: 2, leastBytes: MIB / 2, seed: 'hostile' })
    const someBytes = async (): Promise<void> => {
      const target = traffic.receivedBytes() + MIB / 2
      await waitFor(`bytes to pass: ${JSON.stringify([pair.controller.events, pair.other.events])}`, () => traffic.receivedBytes() >= target, { deadlineMs: DEADLINE_MS, intervalMs: 2 })
    }
    await switchTo(pair, 'splice')
    await someBytes()
    await use(pair, someBytes)
    traffic.finish()
    await within('the end of the traffic', DEADLINE_MS, traffic.done)
    traffic.assertSame()
  } finally {
    await pair.close()
    hostile.close()
  }
}

/** Both ends have lost the splice, for good, and go on over the stream. */
async function onStream (pair: LivePair): Promise<void> {
  for (const { session, events } of [pair.controller, pair.other]) {
    await waitFor(`the session to go on over the stream: ${JSON.stringify([pair.controller.events, pair.other.events])}`, () => session.state === 'live' && session.link === 'stream' && events.some(({ what }) => what === 'resumed'), { deadlineMs: DEADLINE_MS, intervalMs: 2 })
    assert.deepEqual(session.links.all().map(({ link }) => link.kind), ['stream'])
  }
}
