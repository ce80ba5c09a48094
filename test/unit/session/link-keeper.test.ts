/** Spares over other relays and moves away from relays that leave, with a clock that the test moves. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import type { PunchPort } from '../../../src/node/index.ts'
import type { Session } from '../../../src/session/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { heldLinks } from '../../support/relay-sessions.ts'
import { waitFor } from '../../support/wait.ts'
import { createFakeNetwork, echo, settle } from './fake-node.ts'
import type { FakeDevice, FakeNetwork } from './fake-node.ts'

let clock: FakeClock
let net: FakeNetwork
let alice: FakeDevice
let bob: FakeDevice

/** Where the links of a session run; the first is the oldest. */
function ways (session: Session | undefined): string {
  return heldLinks(session).map(({ relayPeerId }) => relayPeerId).join(' ')
}

async function pass (what: string, isTrue: () => boolean): Promise<void> {
  await waitFor(`${what}: ${ways(alice.manager.list()[0])}`, async () => {
    if (isTrue()) return true
    await clock.advance(50)
    return isTrue()
  }, { deadlineMs: 20_000, intervalMs: 1 })
}

/** A moment in which everything that is due happens. */
async function moment (ms = 200): Promise<void> {
  for (let turn = 0; turn < 10; turn++) {
    await clock.advance(ms / 10)
    await settle()
  }
}

/** A session that nobody has used for so long that it is idle. */
async function openIdle (): Promise<Session> {
  const session = await alice.manager.open(bob.did)
  await clock.advance(LIMITS.sessionLinkIdleMs + 1)
  await settle()
  return session
}

describe('links over several relays', () => {
  beforeEach(async () => {
    clock = createFakeClock()
    net = createFakeNetwork(clock)
    net.relays.push('relay2', 'relay3')
    alice = net.device({ resumeWindowMs: 60_000 })
    bob = net.device({ resumeWindowMs: 60_000 })
    for (const device of [alice, bob]) {
      echo(device)
      await device.manager.start()
    }
  })

  afterEach(async () => {
    const stops = [alice, bob].map(async (device) => { await device.manager.stop() })
    for (let turn = 0; turn < 3; turn++) await clock.advance(LIMITS.sessionCloseTimeoutMs)
    await Promise.all(stops)
    await settle()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left behind')
  })

  it('I5: a session in use gets one spare over another relay, and resumes on it when the first one ends', async () => {
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.write('before ')
    await pass('the spare', () => ways(session) === 'relay relay2' && ways(bob.manager.list()[0]) === 'relay relay2')
    await moment(5_000)
    assert.equal(ways(session), 'relay relay2', 'one is enough')
    // a dial that leads nowhere: what the session goes on over was there before
    net.beforeDial.run = async () => { await dialling.promise }
    const dialling = Promise.withResolvers<void>()
    net.relays.shift()
    net.pairs[0]?.lose()
    await moment(10)
    assert.equal(session.state, 'live')
    assert.equal(session.relayPeerId, 'relay2')
    dialling.resolve()
    await pass('another spare', () => ways(session) === 'relay2 relay3')
    channel.end('after')
    const chunks: Buffer[] = []
    channel.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    await pass('the end', () => channel.readableEnded)
    assert.equal(Buffer.concat(chunks).toString(), 'before after')
  })

  it('with one relay nothing is tried, and nothing fails', async () => {
    net.relays.splice(1)
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    await moment(5_000)
    assert.equal(ways(session), 'relay')
    assert.doesNotMatch(await alice.metrics.text(), /carrier_session_link_failed_total\{/)
    channel.destroy()
  })

  it('a spare that cannot be had is tried rarely, and at once when a relay changes', async () => {
    const session = await alice.manager.open(bob.did)
    let tries = 0
    net.beforeDial.run = async () => {
      tries++
      throw new Error('not over this one')
    }
    session.openChannel('echo', new Uint8Array(0)).on('error', () => {})
    await moment(60_000)
    assert.ok(tries >= 3 && tries <= 8, `${tries} attempts in a minute`)
    net.beforeDial.run = async () => {}
    alice.noteLeaving('relay3')
    await pass('the spare', () => ways(session) === 'relay relay2')
  })

  it('an idle session has one link, and loses its second one when it becomes idle', async () => {
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    await pass('the spare', () => ways(session) === 'relay relay2')
    channel.end()
    channel.resume()
    const closed = once(channel, 'close')
    await pass('the end', () => channel.destroyed)
    await closed
    await moment(LIMITS.sessionLinkIdleMs + 2_000)
    assert.equal(ways(session), 'relay')
    assert.equal(ways(bob.manager.list()[0]), 'relay')
  })

  it('I5: both ends are told that the relay leaves: the session moves as planned, and nothing stays there', async () => {
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    await pass('the spare', () => ways(session) === 'relay relay2')
    const lost: string[] = []
    for (const device of [alice, bob]) device.manager.on('session:lost', () => { lost.push(device.did) })
    for (const device of [alice, bob]) device.noteLeaving('relay')
    await pass('the move', () => session.relayPeerId === 'relay2' && ways(session) === 'relay2 relay3')
    assert.deepEqual(lost, [])
    channel.destroy()
  })

  it('an idle session moves too, and keeps one link', async () => {
    const session = await openIdle()
    assert.equal(ways(session), 'relay')
    for (const device of [alice, bob]) device.noteLeaving('relay')
    await pass('the move', () => session.relayPeerId === 'relay2' && ways(session) === 'relay2' && ways(bob.manager.list()[0]) === 'relay2')
  })

  it('I5: only the end that does not control the session is told: it opens the way, after a while, and the end of the relay is a short one', async () => {
    const session = await alice.manager.open(bob.did)
    const { relayPeerId: first } = session
    // there was one relay only, so the controller has made no spare
    net.relays.splice(1)
    const channel = session.openChannel('echo', new Uint8Array(0))
    await moment(1_000)
    assert.equal(ways(session), 'relay')
    net.relays.push('relay2')
    bob.noteLeaving('relay')
    await moment(LIMITS.linkMoveHelpMs - 500)
    assert.equal(ways(session), 'relay', 'the controller would be first')
    await pass('the help', () => ways(session) === 'relay relay2' && ways(bob.manager.list()[0]) === 'relay relay2')
    assert.equal(session.relayPeerId, first, 'the controller decides, and sees no reason')
    net.pairs[0]?.lose()
    await moment(10)
    assert.equal(session.relayPeerId, 'relay2')
    channel.destroy()
  })

  it('every relay leaves: nothing is closed early', async () => {
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    await pass('the spare', () => ways(session) === 'relay relay2')
    for (const relay of net.relays) for (const device of [alice, bob]) device.noteLeaving(relay)
    await moment(10_000)
    assert.equal(session.state, 'live')
    assert.notEqual(ways(session), '')
    channel.destroy()
  })
})

describe('punches', () => {
  it('I8: end with their session, at both ends: a friend whose sessions come and go has no more of them under way', async () => {
    clock = createFakeClock()
    net = createFakeNetwork(clock)
    const knocking = new Map<string, AbortSignal>()
    const openPorts = new Set<PunchPort>()
    const [one, other] = ['alice', 'bob'].map((name) => net.device({
      resumeWindowMs: 60_000,
      node: {
        canPunch: () => true,
        preparePunch: async () => {
          const port: PunchPort = {
            candidates: [{ host: '50.1.0.2', port: 20_001 }],
            mapping: 'independent',
            observed: [],
            connect: async (_offered, _onSocket, signal) => {
              knocking.set(name, signal)
              await new Promise((resolve) => { signal.addEventListener('abort', resolve, { once: true }) })
            },
            close: () => { openPorts.delete(port) }
          }
          openPorts.add(port)
          return port
        }
      }
    }))
    assert.ok(one !== undefined && other !== undefined)
    alice = one
    bob = other
    for (const device of [alice, bob]) await device.manager.start()
    await alice.manager.open(bob.did)
    await pass('the punch', () => knocking.size === 2)
    assert.deepEqual([...knocking.values()].map(({ aborted }) => aborted), [false, false])
    const closing = bob.manager.close(alice.did, new CarrierError('ERR_CLOSED', 'enough'))
    await moment(10)
    assert.deepEqual([...knocking].flatMap(([name, { aborted }]) => aborted ? [] : [name]), [])
    assert.equal(openPorts.size, 0)
    const stops = [closing, ...[alice, bob].map(async (device) => { await device.manager.stop() })]
    for (let turn = 0; turn < 3; turn++) await clock.advance(LIMITS.sessionCloseTimeoutMs)
    await Promise.all(stops)
    await settle()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left behind')
  })
})
