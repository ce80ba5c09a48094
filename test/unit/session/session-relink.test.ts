import assert from 'node:assert/strict'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import type { CarrierError } from '../../../src/base/index.ts'
import { FrameDecoder } from '../../../src/session/frame-decoder.ts'
import { encodeSessionFrame } from '../../../src/session/frames.ts'
import type { Frame } from '../../../src/session/frames.ts'
import { encodeHello, FEATURES, OWN_LIMITS, SESSION_MAJOR } from '../../../src/session/hello.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { waitFor } from '../../support/wait.ts'
import { createFakeNetwork, echo, settle } from './fake-node.ts'
import type { FakeDevice, FakeNetwork } from './fake-node.ts'
import { pattern } from './support.ts'

const WINDOW_MS = 60_000
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

function log (device: FakeDevice): string[] {
  const seen: string[] = []
  device.manager.on('session:opened', () => { seen.push('opened') })
  device.manager.on('session:lost', () => { seen.push('lost') })
  device.manager.on('session:resumed', ({ link }) => { seen.push(`resumed ${link}`) })
  device.manager.on('session:closed', ({ error }) => { seen.push(`closed ${error.code}`) })
  return seen
}

/** Lets time pass until it is true: dials and answers need both timers and turns. */
async function pass (what: string, isTrue: () => boolean): Promise<void> {
  await waitFor(what, async () => {
    if (isTrue()) return true
    await clock.advance(50)
    return isTrue()
  }, { deadlineMs: 20_000, intervalMs: 1 })
}

describe('a session that loses its link', () => {
  beforeEach(() => {
    clock = createFakeClock()
    net = createFakeNetwork(clock)
    alice = net.device({ resumeWindowMs: WINDOW_MS })
    bob = net.device({ resumeWindowMs: WINDOW_MS })
  })

  afterEach(async () => {
    const stops = started.splice(0).map(async (device) => { await device.manager.stop() })
    for (let turn = 0; turn < 3; turn++) await clock.advance(LIMITS.sessionCloseTimeoutMs)
    await Promise.all(stops)
    await settle()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left behind')
  })

  it('I5: goes on over the next one: every byte arrives, both ways, whoever controls', async () => {
    echo(alice)
    echo(bob)
    await start(alice, bob)
    for (const [from, to] of [[alice, bob], [bob, alice]] as const) {
      const session = await from.manager.open(to.did)
      const seen = [log(from), log(to)]
      const channel = session.openChannel('echo', new Uint8Array(0))
      const back = buffer(channel)
      for (let round = 0; round < 5; round++) {
        channel.write(pattern(200_000, round))
        await settle()
        net.pairs.at(-1)?.lose()
        await pass('the resume', () => session.state === 'live' && to.manager.get(from.did) !== undefined)
      }
      channel.end()
      await pass('the end', () => channel.readableEnded || channel.destroyed)
      const expected = Buffer.concat(Array.from({ length: 5 }, (_unused, round) => pattern(200_000, round)))
      assert.ok(expected.equals(await back))
      assert.equal(channel.errored, null)
      for (const events of seen) {
        assert.equal(events.filter((event) => event === 'lost').length, 5, events.join())
        assert.equal(events.filter((event) => event === 'resumed stream').length, 5, events.join())
        assert.ok(!events.some((event) => event.startsWith('closed') || event === 'opened'), events.join())
      }
    }
  })

  it('both ends dial: one link is left', async () => {
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    await settle()
    net.pairs.at(-1)?.lose()
    await pass('the resume', () => session.state === 'live' && bob.manager.get(alice.did) !== undefined)
    await clock.advance(2_000)
    await settle()
    assert.equal(alice.streamCount + bob.streamCount, 1)
  })

  it('only one end notices: its new link brings the other one along', async () => {
    echo(bob)
    echo(alice)
    await start(alice, bob)
    for (const [first, second] of [[alice, bob], [bob, alice]] as const) {
      const session = await first.manager.open(second.did)
      await settle()
      const channel = session.openChannel('echo', new Uint8Array(0))
      channel.write('before')
      await settle()
      // bytes stop in both directions, and only the first end is told
      net.pairs.at(-1)?.hold(true)
      const { links } = session as unknown as { links: { all: () => Array<{ onClosed: (err: Error) => void }> } }
      links.all()[0]?.onClosed(new Error('the interface is gone'))
      await pass('the resume', () => session.state === 'live' && second.manager.get(first.did)?.state === 'live')
      const chunks: Buffer[] = []
      channel.on('data', (chunk: Buffer) => { chunks.push(chunk) })
      channel.end(' after')
      await pass('the end', () => channel.readableEnded)
      assert.equal(Buffer.concat(chunks).toString(), 'before after')
      const closing = session.close()
      await clock.advance(2 * LIMITS.sessionCloseTimeoutMs)
      await closing
      await settle()
    }
  })

  it('I4: ends with an error, never an end, when the window is over', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const seen = [log(alice), log(bob)]
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.write('x')
    await settle()
    let hasEnded = false
    channel.on('end', () => { hasEnded = true }).resume()
    const failed = once(channel, 'error') as Promise<[CarrierError]>
    net.beforeDial.run = async () => { throw new Error('no way') }
    net.pairs.at(-1)?.lose()
    await settle()
    assert.equal(session.state, 'resuming')
    assert.equal(alice.manager.get(bob.did), undefined, 'what resumes is not live')
    await clock.advance(WINDOW_MS - 1)
    assert.equal(channel.destroyed, false)
    await clock.advance(1)
    const [err] = await failed
    assert.equal(err.code, 'ERR_LINK_LOST')
    assert.equal(hasEnded, false)
    await settle()
    assert.deepEqual(seen, [['lost', 'closed ERR_LINK_LOST'], ['lost', 'closed ERR_LINK_LOST']])
  })

  it('who opens meanwhile waits for the resume; a channel that was opened just before is not lost', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    await settle()
    net.pairs.at(-1)?.lose()
    const early = session.openChannel('echo', new Uint8Array(0))
    early.end('early')
    const waiting = alice.manager.open(bob.did)
    const reading = buffer(early)
    await pass('the resume', () => session.state === 'live')
    assert.equal(await waiting, session)
    await pass('the answer', () => early.readableEnded)
    assert.equal((await reading).toString(), 'early')
  })

  it('a restarted process is another one: channels fail and a new session begins', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.on('error', () => {})
    channel.write('x')
    await settle()
    const again = net.device({ like: bob, resumeWindowMs: WINDOW_MS })
    await start(again)
    net.pairs.at(-1)?.lose()
    await pass('the new session', () => again.manager.get(alice.did) !== undefined && alice.manager.get(bob.did) !== undefined)
    assert.equal((channel.errored as CarrierError | null)?.code, 'ERR_LINK_LOST')
    assert.notDeepEqual(alice.manager.get(bob.did)?.id, session.id)
  })

  it('an end without the feature loses its sessions with their links, and so does the other one', async () => {
    const old = net.device({ resumeWindowMs: 0 })
    await start(alice, old)
    const session = await alice.manager.open(old.did)
    const seen = [log(alice), log(old)]
    await settle()
    net.pairs.at(-1)?.lose()
    await settle()
    assert.equal(session.state, 'closed')
    assert.deepEqual(seen, [['closed ERR_LINK_LOST'], ['closed ERR_LINK_LOST']])
  })

  it('a resume with a wrong token, an old number or of nothing is refused, and the session does not notice', async () => {
    echo(bob)
    await start(alice, bob)
    const session = await alice.manager.open(bob.did)
    await settle()
    const seen = [log(alice), log(bob)]
    const { token } = session as unknown as { token: Uint8Array }
    const cases: Array<[string, Frame]> = [
      ['wrong token', { type: 'resume', sessionId: session.id, token: new Uint8Array(32), epoch: 7 }],
      ['old number', { type: 'resume', sessionId: session.id, token, epoch: 1 }],
      ['unknown session', { type: 'resume', sessionId: new Uint8Array(16), token, epoch: 7 }]
    ]
    for (const [name, frame] of cases) {
      const stream = net.rawStream(alice, bob)
      const answers: Frame[] = []
      const decoder = new FrameDecoder({ onFrame: (answer) => { answers.push(answer) }, onData: () => {}, onDataBytes: () => {} })
      const reading = (async () => { for await (const chunk of stream.source) decoder.push(chunk) })().catch(() => { /* the other end ends the stream */ })
      const hello = encodeHello({ major: SESSION_MAJOR, features: [...FEATURES], limits: OWN_LIMITS, instanceId: alice.instanceId, sequence: 1, sessionId: session.id, epoch: 1 })
      const over = Promise.withResolvers<undefined>()
      const writing = stream.sink((async function * () {
        yield encodeSessionFrame({ type: 'hello', body: hello })
        yield encodeSessionFrame(frame)
        await over.promise
      })()).catch(() => { /* the other end ends the stream */ })
      await pass(`the answer to ${name}`, () => answers.some((answer) => answer.type === 'goaway'))
      await clock.advance(LIMITS.sessionCloseTimeoutMs)
      over.resolve(undefined)
      await Promise.all([reading, writing])
    }
    assert.deepEqual(seen, [[], []])
    const channel = session.openChannel('echo', new Uint8Array(0))
    channel.end('still here')
    assert.equal((await buffer(channel)).toString(), 'still here')
  })
})
