import assert from 'node:assert/strict'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { CarrierError, LIMITS } from '../../../src/base/index.ts'
import type { SessionManager } from '../../../src/session/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { createFakeNetwork, echo, settle } from './fake-node.ts'
import type { FakeDevice, FakeNetwork } from './fake-node.ts'
import { pattern } from './support.ts'

let clock: FakeClock
let net: FakeNetwork
let alice: FakeDevice
let bob: FakeDevice
const started: FakeDevice[] = []

async function start (...devices: FakeDevice[]): Promise<void> {
  for (const device of devices) {
    await device.manager.start()
    started.push(device)
  }
}

function log (manager: SessionManager): string[] {
  const seen: string[] = []
  manager.on('session:opened', () => { seen.push('opened') })
  manager.on('session:closed', ({ error }) => { seen.push(`closed ${error.code}`) })
  return seen
}

describe('session manager', () => {
  beforeEach(() => {
    clock = createFakeClock()
    net = createFakeNetwork(clock)
    alice = net.device()
    bob = net.device()
  })

  afterEach(async () => {
    const stops = started.splice(0).map(async (device) => { await device.manager.stop() })
    for (let turn = 0; turn < 3; turn++) await clock.advance(LIMITS.sessionCloseTimeoutMs)
    await Promise.all(stops)
    await settle()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left behind')
  })

  it('either end may dial; both see one session with one id', async () => {
    for (const [from, to] of [[alice, bob], [bob, alice]] as const) {
      await start(...[from, to].filter((device) => !started.includes(device)))
      const session = await from.manager.open(to.did)
      await settle()
      assert.deepEqual(to.manager.get(from.did)?.id, session.id)
      assert.equal(await from.manager.open(to.did), session)
      await session.close()
      await settle()
      assert.equal(to.manager.get(from.did), undefined)
    }
  })

  it('echoes a megabyte with half-close in both directions', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.end(pattern(1_000_000))
    const back = await buffer(channel)
    assert.equal(Buffer.compare(back, pattern(1_000_000)), 0)
    await clock.advance(LIMITS.sessionAckDelayMs)
    assert.equal(channel.bytesRead, 1_000_000)
    assert.equal(channel.bytesWritten, 1_000_000)
    await settle()
    assert.equal(session.channelCount, 0)
    assert.equal(bob.manager.get(alice.did)?.channelCount, 0)
  })

  it('both ends dialling at once end with exactly one session and no lost channel, whatever the order', async () => {
    for (let round = 0; round < 40; round++) {
      const [one, other] = [net.device(), net.device()]
      for (const device of [one, other]) echo(device)
      await start(one, other)
      const seen = [log(one.manager), log(other.manager)]
      let delay = round
      net.beforeDial.run = async () => { for (let turn = 0; turn < (delay = (delay * 7 + 3) % 11); turn++) await new Promise<void>((resolve) => { setImmediate(resolve) }) }
      const use = async (from: FakeDevice, to: FakeDevice): Promise<void> => {
        const session = await from.manager.open(to.did)
        const channel = session.openChannel('echo', new Uint8Array(0))
        channel.end('hello')
        assert.equal((await buffer(channel)).toString(), 'hello')
      }
      await Promise.all([use(one, other), use(other, one), use(one, other)])
      await settle()
      assert.deepEqual(one.manager.get(other.did)?.id, other.manager.get(one.did)?.id)
      assert.deepEqual(seen, [['opened'], ['opened']], `round ${round}`)
      await clock.advance(LIMITS.sessionCloseTimeoutMs)
      assert.equal(one.streamCount + other.streamCount, 1, 'redundant links are closed')
    }
  })

  it('I4: a lost link fails all channels with ERR_LINK_LOST, then the session closes', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const seen = [log(alice.manager), log(bob.manager)]
    const channels = Array.from({ length: 5 }, () => session.openChannel('echo', new Uint8Array(0)))
    for (const channel of channels) channel.write('x')
    await settle()
    const failed = Promise.all(channels.map(async (channel) => {
      let hasEnded = false
      channel.on('end', () => { hasEnded = true }).resume()
      const [err] = await once(channel, 'error') as [CarrierError]
      assert.equal(err.code, 'ERR_LINK_LOST')
      assert.equal(hasEnded, false)
    }))
    net.pairs[0]?.lose()
    await failed
    await settle()
    assert.deepEqual(seen, [['closed ERR_LINK_LOST'], ['closed ERR_LINK_LOST']])
    assert.equal(alice.manager.get(bob.did), undefined)
    const again = await alice.manager.open(bob.did)
    assert.notDeepEqual(again.id, session.id)
  })

  it('an end that noticed the loss first gets a new session at once; the stale one of the other end fails', async () => {
    echo(bob)
    echo(alice)
    await start(alice, bob)
    for (const [first, second] of [[alice, bob], [bob, alice]] as const) {
      const old = await first.manager.open(second.did)
      await settle()
      const stale = second.manager.get(first.did)
      assert.ok(stale)
      const channel = stale.openChannel('echo', new Uint8Array(0))
      const failure = once(channel, 'error')
      await settle()
      // the first end loses the link, the other does not learn of it: its half hangs
      const pair = net.pairs.at(-1)
      assert.ok(pair)
      pair.hold(true)
      const closing = old.close(new CarrierError('ERR_LINK_LOST', 'only this end knows'))
      const fresh = await first.manager.open(second.did)
      const [err] = await failure as [CarrierError]
      assert.equal(err.code, 'ERR_LINK_LOST')
      await settle()
      assert.deepEqual(second.manager.get(first.did)?.id, fresh.id)
      assert.notDeepEqual(fresh.id, old.id)
      await clock.advance(2 * LIMITS.sessionCloseTimeoutMs)
      await closing
      const closed = fresh.close()
      await clock.advance(2 * LIMITS.sessionCloseTimeoutMs)
      await closed
      await settle()
    }
  })

  it('a restarted process replaces its session; the old process that comes back is refused', async () => {
    await start(alice, bob)
    const duplicates: string[] = []
    bob.manager.on('session:duplicate-identity', ({ device }) => { duplicates.push(device) })
    await alice.manager.open(bob.did)
    const twin = net.device({ like: alice })
    await start(twin)
    const session = await twin.manager.open(bob.did)
    await settle()
    assert.deepEqual(bob.manager.get(alice.did)?.id, session.id)
    assert.equal(alice.manager.get(bob.did), undefined)
    await assert.rejects(alice.manager.open(bob.did), { code: 'ERR_DUPLICATE_IDENTITY' })
    assert.deepEqual(duplicates, [alice.did])
    assert.deepEqual(bob.manager.get(alice.did)?.id, session.id, 'the newer process keeps its session')
  })

  it('I4: when a channel fails, every write and end that was not done is told, with the error', async () => {
    bob.manager.onChannel('mute', async (request) => { request.accept() })
    await start(alice, bob)
    for (const fail of ['lose', 'destroy'] as const) {
      const session = await alice.manager.open(bob.did)
      const channel = session.openChannel('mute', new Uint8Array(0))
      const told = Promise.all(Array.from({ length: 3 }, async () => new Promise((resolve) => { channel.write(pattern(1_000_000), resolve) })))
      const ended = new Promise((resolve) => { channel.end(resolve) })
      await settle()
      if (fail === 'lose') net.pairs.at(-1)?.lose()
      else channel.destroy()
      const code = fail === 'lose' ? 'ERR_LINK_LOST' : 'ERR_RESET'
      const [first, ...others] = await told as CarrierError[]
      assert.equal(first?.code, code)
      for (const err of [...others, await ended]) assert.ok(err instanceof Error)
    }
  })

  it('whichever side ends first, both see a clean end', async () => {
    bob.manager.onChannel('greeter', async (request) => {
      const channel = request.accept()
      channel.end('welcome')
      channel.resume()
    })
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    for (let round = 0; round < 20; round++) {
      const channel = session.openChannel('greeter', new Uint8Array(0))
      channel.on('error', () => {})
      channel.resume()
      // not buffer(): the async iterator of a Duplex destroys it after `end`
      await once(channel, 'end')
      for (let turn = 0; turn < round % 4; turn++) await settle()
      await clock.advance(LIMITS.sessionAckDelayMs)
      channel.end('thank you')
      // the acknowledgement of an end waits a moment for company
      for (let turn = 0; !channel.closed && turn < 1000; turn++) await clock.advance(LIMITS.sessionEndAckDelayMs)
      assert.equal(channel.closed, true)
      assert.equal(channel.errored, null)
      assert.equal(channel.writableFinished, true)
    }
  })

  it('refusals carry their code: unknown kind, refused, thrown by the handler, undecided', async () => {
    bob.manager.onChannel('refused', async (request) => { request.refuse(new CarrierError('ERR_TARGET_UNREACHABLE', 'down')) })
    bob.manager.onChannel('thrown', async () => { throw new CarrierError('ERR_LIMIT', 'full') })
    bob.manager.onChannel('undecided', async () => {})
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    for (const [kind, code] of [['unknown', 'ERR_NOT_AVAILABLE'], ['refused', 'ERR_TARGET_UNREACHABLE'], ['thrown', 'ERR_LIMIT'], ['undecided', 'ERR_INTERNAL']] as const) {
      const channel = session.openChannel(kind, pattern(10))
      channel.write('data on the way')
      const [err] = await once(channel, 'error') as [CarrierError]
      assert.equal(err.code, code)
      assert.equal(session.channelCount, 0)
    }
  })

  it('the signal of a request fires when the opener gives up before the decision', async () => {
    const decided = Promise.withResolvers<string>()
    bob.manager.onChannel('slow', async (request) => {
      await once(request.signal, 'abort')
      const channel = request.accept()
      await new Promise((resolve) => { channel.once('close', resolve) })
      decided.resolve((channel.errored as CarrierError).code)
    })
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('slow', new Uint8Array(0))
    await settle()
    channel.destroy(new CarrierError('ERR_CANCELLED', 'no longer wanted'))
    assert.equal(await decided.promise, 'ERR_CANCELLED')
  })

  it('a channel whose user forgot an error listener, or whose listener throws, harms nobody else', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const bad = session.openChannel('echo', new Uint8Array(0))
    bad.on('data', () => { throw new Error('a bug of the user') })
    const good = session.openChannel('echo', new Uint8Array(0))
    bad.write('boom')
    good.end(pattern(100_000))
    assert.equal((await buffer(good)).length, 100_000)
    await settle()
    assert.equal(bad.destroyed, true)
  })

  it('a thousand parallel channels carry their own bytes', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    await Promise.all(Array.from({ length: 1000 }, async (_unused, index) => {
      const channel = session.openChannel('echo', new Uint8Array(0))
      channel.end(pattern(2000, index))
      assert.equal(Buffer.compare(await buffer(channel), pattern(2000, index)), 0)
    }))
    await settle()
    assert.equal(session.channelCount, 0)
  })

  it('a silent link is pinged and then given up', async () => {
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    await settle()
    assert.equal(typeof session.rttMs, 'number')
    const seen = log(alice.manager)
    await clock.advance(60_000)
    assert.deepEqual(seen, [], 'pings keep it alive')
    assert.equal(await session.ping(), 0)
    net.pairs[0]?.hold(true)
    await clock.advance(LIMITS.sessionPingMs + LIMITS.sessionPongTimeoutMs + 1)
    assert.deepEqual(seen, ['closed ERR_LINK_LOST'])
    await assert.rejects(session.ping(), { code: 'ERR_CLOSED' })
  })

  it('an unreachable or mute peer is an error with a code, within a bounded time', async () => {
    await start(alice, bob)
    const stranger = net.device()
    net.beforeDial.run = async (_from, to) => { if (to === stranger.did) throw new CarrierError('ERR_NO_RELAY', 'no relay') }
    await assert.rejects(alice.manager.open(stranger.did), { code: 'ERR_NO_RELAY' })
    // a handler that takes the stream and never says hello
    bob.handlers.set('/carrier/session/1.0.0', async (stream) => { await stream.closed })
    const attempt = assert.rejects(alice.manager.open(bob.did), { code: 'ERR_TIMEOUT' })
    await clock.advance(LIMITS.sessionHelloTimeoutMs + 1)
    await attempt
    const controller = new AbortController()
    const aborted = assert.rejects(alice.manager.open(bob.did, { signal: controller.signal }), { name: 'AbortError' })
    controller.abort()
    await aborted
    await clock.advance(LIMITS.sessionHelloTimeoutMs + 1)
    await assert.rejects(alice.manager.open(alice.did), { code: 'ERR_INVALID_ARGUMENT' })
  })

  it('close ends the session at once and the other side learns the code', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const seen = log(bob.manager)
    const channel = session.openChannel('echo', new Uint8Array(0))
    const failed = once(channel, 'error')
    await settle()
    const closing = alice.manager.close(bob.did, new CarrierError('ERR_REVOKED', 'no friends any more'))
    const [err] = await failed as [CarrierError]
    assert.equal(err.code, 'ERR_REVOKED')
    await settle()
    assert.deepEqual(seen, ['closed ERR_REVOKED'])
    await closing
  })

  it('I8: at the limit the least recently used idle session gives way; with none idle the new one is refused', async () => {
    alice.manager.onChannel('hold', async (request) => { request.accept() })
    await start(alice)
    const guests: FakeDevice[] = []
    for (let index = 0; index < LIMITS.sessionCount; index++) {
      const guest = net.device()
      await start(guest)
      const session = await guest.manager.open(alice.did)
      if (index > 0) session.openChannel('hold', new Uint8Array(0))
      guests.push(guest)
      await clock.advance(1)
    }
    const early = net.device()
    await start(early)
    await assert.rejects(early.manager.open(alice.did), { code: 'ERR_LIMIT' })
    assert.notEqual(alice.manager.get(guests[0]?.did ?? early.did), undefined, 'a session that was used a moment ago is not idle')
    await clock.advance(LIMITS.sessionIdleMs)
    const late = net.device()
    await start(late)
    const lateSession = await late.manager.open(alice.did)
    lateSession.openChannel('hold', new Uint8Array(0))
    await settle()
    assert.equal(alice.manager.list().length, LIMITS.sessionCount)
    assert.equal(alice.manager.get(guests[0]?.did ?? late.did), undefined, 'the idle one is gone')
    const tooLate = net.device()
    await start(tooLate)
    await assert.rejects(tooLate.manager.open(alice.did), { code: 'ERR_LIMIT' })
  })

  it('I8: sessions that are begun at the same moment do not share one place', async () => {
    alice = net.device({ creditBytes: 2 * LIMITS.sessionOpenCreditCount * LIMITS.channelInitialCreditBytes })
    await start(alice)
    const guests = Array.from({ length: 3 }, () => net.device())
    await start(...guests)
    const results = await Promise.allSettled(guests.map(async (guest) => {
      const session = await guest.manager.open(alice.did)
      await settle()
      return session.ping()
    }))
    await settle()
    assert.equal(alice.manager.list().length, 2)
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 2)
  })

  it('a dial under way when the friendship ends makes no session', async () => {
    await start(alice, bob)
    const gate = Promise.withResolvers<void>()
    net.beforeDial.run = async () => { await gate.promise }
    const attempt = assert.rejects(alice.manager.open(bob.did), { code: 'ERR_CLOSED' })
    await alice.manager.close(bob.did, new CarrierError('ERR_CLOSED', 'the friendship ended'))
    await attempt
    gate.resolve()
    await settle()
    assert.equal(alice.manager.get(bob.did), undefined)
    assert.equal(bob.manager.get(alice.did), undefined)
    // also when nobody told the manager
    net.levels.set(bob.did, 'stranger')
    await assert.rejects(alice.manager.open(bob.did), { code: 'ERR_NOT_AVAILABLE' })
    assert.equal(bob.manager.get(alice.did), undefined)
    net.levels.delete(bob.did)
    await alice.manager.open(bob.did)
  })
})
