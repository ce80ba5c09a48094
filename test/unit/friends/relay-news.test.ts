import assert from 'node:assert/strict'
import test from 'node:test'
import { CarrierError, createMetrics, createTaskOwner, encodeCbor, encodeFrame, errorCode, LIMITS, silentLogger } from '../../../src/base/index.ts'
import { createRelayNewsHandler, encodeRelayNews } from '../../../src/friends/relay-news.ts'
import type { RelayNews } from '../../../src/friends/relay-news.ts'
import { createRelayTeller } from '../../../src/friends/relay-teller.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { CarrierNode, Peer } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { createStreamPair, didNumber } from '../../support/friends-world.ts'

const NEWS: RelayNews = { record: new Uint8Array(20), lookUpSecret: new Uint8Array(32) }

function peerOf (device: Did): Peer {
  return { device, owner: device, level: 'friend', instanceId: undefined, path: 'relayed', relayPeerId: undefined }
}

test('I8: a friend that tells its relays without end is cut off for a minute, others are not; nonsense is reset', async () => {
  const clock = createFakeClock()
  const taken: Did[] = []
  const handler = createRelayNewsHandler({ clock, signal: new AbortController().signal, take: (device) => { taken.push(device) } })
  const send = async (device: Did, frame: Uint8Array): Promise<string> => {
    const { near, far } = createStreamPair()
    const sent = near.sink((async function * () { yield frame })())
    try {
      await handler(far, peerOf(device))
      await sent
      return 'ok'
    } catch (err) {
      return errorCode(err)
    }
  }
  const frame = encodeFrame(encodeRelayNews(NEWS))
  const codes: string[] = []
  for (let index = 0; index < LIMITS.relayRecordsPerMinuteCount + 5; index++) codes.push(await send(didNumber(1), frame))
  assert.equal(codes.filter((code) => code === 'ok').length, LIMITS.relayRecordsPerMinuteCount)
  assert.equal(codes.at(-1), 'ERR_LIMIT')
  assert.equal(await send(didNumber(2), frame), 'ok')
  for (const bad of [encodeFrame(encodeCbor({ ls: new Uint8Array(31), r: new Uint8Array(20), v: 1 })), encodeFrame(encodeCbor({ v: 2 })), encodeFrame(new Uint8Array(LIMITS.relayEnvelopeBytes + 1))]) {
    assert.equal(await send(didNumber(3), bad), 'ERR_PROTOCOL')
  }
  await clock.advance(60_000)
  assert.equal(await send(didNumber(1), frame), 'ok')
  assert.equal(taken.length, LIMITS.relayRecordsPerMinuteCount + 2)
})

/** A node whose friends answer as a test says. */
function makeTeller (answers: () => Promise<void>): { clock: ReturnType<typeof createFakeClock>, teller: ReturnType<typeof createRelayTeller>, asked: Did[], version: { text: string }, stop: () => Promise<void>, running: { now: number, most: number } } {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const asked: Did[] = []
  const running = { now: 0, most: 0 }
  const version = { text: 'first' }
  const node: Pick<CarrierNode, 'openStream'> = {
    openStream: async (device) => {
      asked.push(device)
      running.now++
      running.most = Math.max(running.most, running.now)
      try {
        await answers()
      } finally {
        running.now--
      }
      const { near, far } = createStreamPair()
      void far.sink((async function * () { yield encodeFrame(encodeCbor({ ok: true })) })())
      return { stream: near, peer: peerOf(device) }
    }
  }
  const teller = createRelayTeller({
    node,
    clock,
    log: silentLogger,
    tasks,
    isThere: () => true,
    news: () => ({ news: NEWS, version: version.text }),
    tellings: createMetrics().counter('carrier_test_total', 'Test.', ['direction', 'result'])
  })
  return { clock, teller, asked, version, stop: tasks.stop, running }
}

test('a friend is told once, and again when there is something new', async () => {
  const { clock, teller, asked, version, stop } = makeTeller(async () => {})
  for (let index = 0; index < 5; index++) {
    teller.tell(didNumber(1))
    await clock.advance(100)
  }
  assert.equal(asked.length, 1)
  version.text = 'second'
  teller.tell(didNumber(1))
  await clock.advance(100)
  teller.forgetAll()
  teller.tell(didNumber(1))
  await clock.advance(100)
  assert.equal(asked.length, 3)
  await stop()
})

test('a friend of an earlier release is asked a few times at a contact, and again at the next', async () => {
  const { clock, teller, asked, stop } = makeTeller(async () => { throw new CarrierError('ERR_NOT_AVAILABLE', 'refused') })
  teller.tell(didNumber(1))
  await clock.advance(3_600_000)
  assert.equal(asked.length, 4)
  teller.noteGone(didNumber(1))
  teller.tell(didNumber(1))
  await clock.advance(100)
  assert.equal(asked.length, 5)
  await stop()
  assert.equal(clock.pendingTimerCount(), 0)
})

test('I8: however many friends there are, few are told at once, and all in the end', async () => {
  const gate = Promise.withResolvers<void>()
  const { clock, teller, asked, stop, running } = makeTeller(async () => gate.promise)
  for (let index = 0; index < 50; index++) teller.tell(didNumber(index))
  await clock.advance(100)
  assert.equal(asked.length, LIMITS.relayTellCount)
  gate.resolve()
  await clock.advance(1_000)
  assert.equal(new Set(asked).size, 50)
  assert.ok(running.most <= LIMITS.relayTellCount)
  await stop()
})
