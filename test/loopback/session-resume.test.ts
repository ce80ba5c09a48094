/** Sessions without nodes below them: many channels with one that stands still, a relay that spoils every splice, and the end of the resume window. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import { createCarrier } from '../../src/index.ts'
import type { Carrier } from '../../src/index.ts'
import type { Channel, ChannelHandler, SessionEvents } from '../../src/session/index.ts'
import { createByteSource } from '../support/byte-stream.ts'
import { startTraffic } from '../support/channel-traffic.ts'
import { createHostileMiddle, TAMPERINGS } from '../support/hostile-middle.ts'
import { openLivePair } from '../support/live-pair.ts'
import { createSocketNetwork } from '../support/socket-network.ts'
import { printFigure } from '../support/statistics.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { pause, timed, waitFor, within } from '../support/wait.ts'

const MIB = 1024 * 1024
const DEADLINE_MS = 60_000

describe('channels of one session', () => {
  it('I8: 500 channels with one whose reader stands still: the others are unaffected, and the one loses nothing', async () => {
    const handlers = new Map<string, ChannelHandler>()
    let stalled: Channel | undefined
    handlers.set('echo', async (request) => {
      const channel = request.accept()
      channel.pipe(channel)
    })
    handlers.set('stall', async (request) => { stalled = request.accept() })
    const pair = await openLivePair({ handlers })
    try {
      const { session } = pair.controller
      const echoOne = async (index: number): Promise<void> => {
        const sent = createByteSource(`echo ${index}`)(128 * 1024)
        const channel = session.openChannel('echo', new Uint8Array(0))
        const hash = createHash('sha256')
        channel.on('data', (chunk: Buffer) => { hash.update(chunk) })
        channel.end(sent)
        await once(channel, 'close')
        assert.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'), `echo ${index}`)
      }
      const echoAll = async (): Promise<number> => {
        const { elapsedMs } = await timed(async () => within('499 echoes', DEADLINE_MS, Promise.all(Array.from({ length: 499 }, async (_unused, index) => echoOne(index)))))
        return elapsedMs
      }
      await echoAll()
      const aloneMs = await echoAll()

      const slow = session.openChannel('stall', new Uint8Array(0))
      const block = createByteSource('stall')(32 * MIB)
      let isWritten = false
      slow.end(block, () => { isWritten = true })
      await waitFor('the stalled channel to take no more', async () => {
        const taken = slow.bytesWritten
        await pause(50)
        return stalled !== undefined && slow.bytesWritten === taken
      }, { deadlineMs: DEADLINE_MS })
      const besideMs = await echoAll()
      printFigure('499 echoes of 128 KiB alone', aloneMs, 'ms')
      printFigure('499 echoes of 128 KiB beside a channel that stands still', besideMs, 'ms')
      assert.ok(!isWritten, 'the channel did not stand still')

      const reader = stalled
      assert.ok(reader !== undefined)
      const hash = createHash('sha256')
      reader.on('data', (chunk: Buffer) => { hash.update(chunk) })
      await within('the end of the stalled channel', DEADLINE_MS, once(reader, 'end'))
      assert.equal(hash.digest('hex'), createHash('sha256').update(block).digest('hex'))
    } finally {
      await pair.close()
    }
  })
})

describe('a session whose relay spoils every splice', () => {
  it('I1, I5: it moves to the splice, back to the stream and again; every byte is right', async () => {
    const middles: Array<ReturnType<typeof createHostileMiddle>> = []
    const network = createSocketNetwork({
      middle: () => {
        const hostile = createHostileMiddle()
        middles.push(hostile)
        return hostile.middle
      }
    })
    const devices = [await network.device(), await network.device()] as const
    const stories = devices.map(({ sessions }) => {
      const story: string[] = []
      for (const name of ['session:opened', 'session:link', 'session:lost', 'session:resumed', 'session:closed'] as const satisfies ReadonlyArray<keyof SessionEvents>) {
        sessions.on(name, (payload) => { story.push('link' in payload ? `${name} ${payload.link}` : name) })
      }
      return story
    })
    const handlers = new Map<string, ChannelHandler>()
    try {
      for (const { sessions } of devices) {
        sessions.onChannel('traffic', async (request) => { await handlers.get('traffic')?.(request) })
        await sessions.start()
      }
      const [one, other] = await Promise.all([devices[0].sessions.open(devices[1].did), devices[1].sessions.open(devices[0].did)])
      const traffic = startTraffic([one, other], handlers, { channelCount: 2, leastBytes: MIB, seed: 'spoilt' })
      const told = (): string => JSON.stringify(stories)
      const until = async (what: string, isSo: () => boolean): Promise<void> => {
        try {
          await waitFor(what, isSo, { deadlineMs: DEADLINE_MS, intervalMs: 5 })
        } catch (err) {
          throw new Error(`${String(err)}; ${told()}`, { cause: err })
        }
      }
      const someBytes = async (): Promise<void> => {
        const target = traffic.receivedBytes() + MIB
        await until('bytes to pass', () => traffic.receivedBytes() >= target)
      }
      for (let round = 0; round < 2; round++) {
        await until(`the session to be on splice ${round + 1}`, () => one.link === 'splice' && other.link === 'splice')
        await someBytes()
        // the newest one is in use
        const inUse = middles.at(-1)
        inUse?.arm(TAMPERINGS[round] ?? 'flips a bit', round === 0 ? 'far' : 'near')
        await until('the session to go on', () => stories.every((story) => story.filter((line) => line.startsWith('session:resumed')).length > round))
        assert.equal(inUse?.tampered(), 1)
      }
      await someBytes()
      traffic.finish()
      await within('the end of the traffic', DEADLINE_MS, traffic.done)
      traffic.assertSame()
      for (const story of stories) {
        assert.ok(!story.includes('session:closed'), told())
        assert.equal(story.filter((line) => line === 'session:resumed stream').length, 2, told())
      }
    } finally {
      await Promise.all(devices.map(async ({ sessions }) => { await sessions.stop() }))
      for (const middle of middles) middle.close()
    }
  })
})

describe('the resume window', () => {
  const WINDOW_MS = 1500

  it('I4: when it is over, channels fail with ERR_LINK_LOST and sockets are reset: never an end', async (t) => {
    const directory = makeTempDirectory('window')
    const relay = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: join(directory, 'relay'), listen: ['/ip4/127.0.0.1/tcp/0'], health: { host: '127.0.0.1', port: 0 } })
    await relay.start()
    const held: Socket[] = []
    const target = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => { /* the reset is what is expected */ })
      socket.on('data', (chunk: Buffer) => { socket.write(chunk) })
      // the probe of a new forward sends nothing
      socket.once('data', () => { held.push(socket) })
    })
    target.listen(0, '127.0.0.1')
    await once(target, 'listening')
    const [office, laptop] = await Promise.all(['office', 'laptop'].map(async (name) => {
      const carrier = await createCarrier({ dataDirectory: join(directory, name), relays: relay.addresses().slice(0, 1), resumeWindowMs: WINDOW_MS })
      await carrier.start()
      return carrier
    })) as [Carrier, Carrier]
    let isRelayUp = true
    t.after(async () => {
      await Promise.all([office.stop(), laptop.stop()])
      if (isRelayUp) await relay.stop()
      for (const socket of held) socket.destroy()
      target.close()
    })
    await befriend(laptop, office)
    office.forwarding.serve('echo', String((target.address() as AddressInfo).port), { allow: ['laptop'] })
    const forward = await laptop.forwarding.openForward({ port: 0, to: 'office/echo' })
    const channel = await laptop.forwarding.dial('office/echo')
    const socket = connect(Number(forward.listen.split(':')[1]), '127.0.0.1')
    const ends: string[] = []
    const outcome = (name: string, stream: Channel | Socket): Promise<void> => new Promise((resolve) => {
      stream.on('end', () => { ends.push(name) })
      stream.on('error', () => { /* the close comes next */ })
      stream.on('close', () => { resolve() })
    })
    channel.write('one')
    socket.write('two')
    await Promise.all([once(channel, 'data'), once(socket, 'data')])
    assert.equal(held.length, 2)
    let failure: unknown
    channel.once('error', (err) => { failure = err })
    const outcomes = Promise.all([outcome('channel', channel), outcome('local socket', socket), ...held.map(async (one) => outcome('target', one))])
    let lostAtMs = Infinity
    let failedAtMs = 0
    laptop.onAnyEvent((name) => { if (name === 'session:lost') lostAtMs = Math.min(lostAtMs, performance.now()) })
    channel.once('close', () => { failedAtMs = performance.now() })
    isRelayUp = false
    await relay.stop()
    await within('everything to fail', DEADLINE_MS, outcomes)
    assert.deepEqual(ends, [])
    assert.equal((failure as { code?: string }).code, 'ERR_LINK_LOST')
    // timers may be a millisecond early
    assert.ok(failedAtMs - lostAtMs >= WINDOW_MS - 5, `failed ${failedAtMs - lostAtMs} ms after the loss`)
    printFigure(`channels failed after the loss, window ${WINDOW_MS} ms`, failedAtMs - lostAtMs, 'ms')
  })
})

async function befriend (asker: Carrier, asked: Carrier): Promise<void> {
  const { address } = asked.addresses.current() ?? {}
  assert.ok(address !== undefined)
  asker.friends.add(address, { hello: 'hello' })
  const isOnline = (carrier: Carrier): boolean => carrier.status().friends.some(({ presence }) => presence === 'online')
  await waitFor('the request', () => asked.status().requestCount === 1, { deadlineMs: DEADLINE_MS })
  asked.friends.accept(asker.identity.did, { label: 'laptop' })
  asker.friends.label(asked.identity.did, 'office')
  await waitFor('both to be online', () => isOnline(asker) && isOnline(asked), { deadlineMs: DEADLINE_MS })
}
