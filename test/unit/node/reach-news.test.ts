import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, createTaskOwner, encodeFrame, errorCode, LIMITS, silentLogger } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import { createReachNews, decodeReachNews, encodeReachNews } from '../../../src/node/reach-news.ts'
import type { Peer, PeerLevel, PeerStream } from '../../../src/node/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const [office, laptop] = ['did:key:office' as Did, 'did:key:laptop' as Did]

/** A stream that says `frames` and ends; what is written to it is kept. */
function fakeStream (frames: Uint8Array[]): PeerStream & { written: Uint8Array[], isAborted: () => boolean } {
  const written: Uint8Array[] = []
  const state = { isAborted: false }
  return {
    written,
    isAborted: () => state.isAborted,
    source: (async function * () { yield * frames })(),
    sink: async (source) => { for await (const piece of source) written.push(Uint8Array.from(piece)) },
    abort: () => { state.isAborted = true },
    closed: Promise.resolve()
  }
}

function setUp () {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const state = { addresses: ['/ip4/192.0.2.1/tcp/1'], friends: [office, laptop], strangers: [] as Did[], onOpen: undefined as (() => Promise<void>) | undefined }
  const sent: Array<{ device: Did, stream: ReturnType<typeof fakeStream> }> = []
  const heard: Array<{ device: Did, addresses: string[] }> = []
  const levelOf = (device: Did): PeerLevel => state.strangers.includes(device) ? 'stranger' : 'friend'
  const news = createReachNews({
    clock,
    log: silentLogger,
    tasks: () => tasks,
    openStream: async (device) => {
      if (device === office && state.friends.length === 3) throw new CarrierError('ERR_NOT_AVAILABLE', 'an older release')
      await state.onOpen?.()
      const stream = fakeStream([])
      sent.push({ device, stream })
      return { stream, peer: { ...peerOf(device), level: levelOf(device) } }
    },
    levelOf,
    connectedFriends: () => [...state.friends],
    addresses: () => state.addresses,
    onNews: (device, addresses) => { heard.push({ device, addresses }) }
  })
  return { clock, tasks, state, sent, heard, news }
}

function peerOf (device: Did): Peer {
  return { device, owner: device, level: 'friend', instanceId: undefined, path: 'relayed', relayPeerId: undefined }
}

test('who is told: each friend once, again after a change, and what changed meanwhile afterwards', async () => {
  const { clock, tasks, state, sent, news } = setUp()
  const devices = (): Did[] => sent.map(({ device }) => device)
  news.meet(office)
  news.meet(office)
  await clock.advance(0)
  news.meet(office)
  await clock.advance(0)
  assert.deepEqual(devices(), [office])
  assert.deepEqual(Buffer.concat(sent[0]?.stream.written ?? []), Buffer.from(encodeFrame(encodeReachNews(state.addresses))))
  state.addresses = ['/ip4/192.0.2.2/tcp/1']
  news.tell()
  await clock.advance(0)
  assert.deepEqual(devices(), [office, laptop], 'the office has just had news and would refuse more')
  await clock.advance(2 * LIMITS.reachNewsSpanMs)
  assert.deepEqual(devices(), [office, laptop, office])
  state.addresses = []
  news.tell()
  await clock.advance(2 * LIMITS.reachNewsSpanMs)
  assert.deepEqual(devices().slice(3).sort(), [laptop, office].sort(), 'that there are none any more is news too')
  news.tell()
  news.meet(laptop)
  await clock.advance(100 * LIMITS.reachNewsSpanMs)
  assert.equal(sent.length, 5)
  await tasks.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('a node that listens on nothing tells nobody anything', async () => {
  const { clock, tasks, state, sent, news } = setUp()
  state.addresses = []
  news.meet(office)
  news.tell()
  await clock.advance(0)
  assert.equal(sent.length, 0)
  await tasks.stop()
})

test('a friend that cannot be told keeps nobody else from it, and is told later', async () => {
  const { clock, tasks, state, sent, news } = setUp()
  state.friends = [office, laptop, 'did:key:phone' as Did]
  news.tell()
  await clock.advance(0)
  assert.deepEqual(sent.map(({ device }) => device).sort(), ['did:key:laptop', 'did:key:phone'])
  state.friends = [office, laptop]
  news.meet(office)
  await clock.advance(2 * LIMITS.reachNewsSpanMs)
  assert.equal(sent.length, 3)
  await tasks.stop()
})

test('who was removed while it waited, or while the stream was opened, is told nothing', async () => {
  const { clock, tasks, state, sent, news } = setUp()
  news.meet(office)
  await clock.advance(0)
  assert.equal(sent.length, 1)
  state.addresses = ['/ip4/192.0.2.2/tcp/1']
  news.meet(office)
  state.strangers = [office]
  await clock.advance(2 * LIMITS.reachNewsSpanMs)
  assert.equal(sent.length, 1, 'removed while its turn was waited for')
  state.onOpen = async () => { state.strangers = [office, laptop] }
  news.meet(laptop)
  await clock.advance(0)
  assert.equal(sent.length, 2)
  assert.deepEqual([sent[1]?.stream.written, sent[1]?.stream.isAborted()], [[], true], 'removed while the stream was opened')
  state.strangers = []
  state.onOpen = undefined
  news.meet(office)
  await clock.advance(2 * LIMITS.reachNewsSpanMs)
  assert.deepEqual(sent.map(({ device }) => device), [office, laptop, office], 'a friend again')
  await tasks.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('I8: what a friend says is bounded in size, shape and rate', async () => {
  const { clock, heard, news } = setUp()
  const good = encodeReachNews(['/ip4/192.0.2.9/tcp/9'])
  await news.handle(fakeStream([encodeFrame(good)]), peerOf(office))
  assert.deepEqual(heard, [{ device: office, addresses: ['/ip4/192.0.2.9/tcp/9'] }])
  await assert.rejects(news.handle(fakeStream([encodeFrame(good)]), peerOf(office)), (err) => errorCode(err) === 'ERR_LIMIT')
  await news.handle(fakeStream([encodeFrame(good)]), peerOf(laptop))
  await clock.advance(LIMITS.reachNewsSpanMs)
  const many = Array.from({ length: LIMITS.rememberedAddressCount + 1 }, () => 'x')
  assert.equal(decodeReachNews(encodeReachNews(many)).length, LIMITS.rememberedAddressCount)
  for (const bad of [new Uint8Array(LIMITS.reachNewsBytes + 1), Uint8Array.of(0xa0), encodeReachNews(['x'.repeat(257)])]) {
    await clock.advance(LIMITS.reachNewsSpanMs)
    await assert.rejects(news.handle(fakeStream([encodeFrame(bad)]), peerOf(office)), (err) => errorCode(err) === 'ERR_PROTOCOL')
  }
  await clock.advance(LIMITS.reachNewsSpanMs)
  await assert.rejects(news.handle(fakeStream([]), peerOf(office)), (err) => errorCode(err) === 'ERR_PROTOCOL')
  assert.equal(heard.length, 2)
})
