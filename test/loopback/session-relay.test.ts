import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import { createMetrics, silentLogger, systemClock } from '../../src/base/index.ts'
import type { CarrierError } from '../../src/base/index.ts'
import { createSessionManager } from '../../src/session/index.ts'
import type { SessionManager } from '../../src/session/index.ts'
import { befriend, makeNode, reserved } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { PATIENCE_MS, waitFor } from '../support/wait.ts'

interface Device extends TestNode { sessions: SessionManager }

describe('sessions over a stock relay', () => {
  let relay: Awaited<ReturnType<typeof prepareStockRelay>>
  let alice: Device
  let bob: Device
  const stops: Array<() => Promise<void>> = []

  async function device (): Promise<Device> {
    const test = await makeNode({ relays: [relay.address] })
    const sessions = createSessionManager({ node: test.node, identity: test.identity, clock: systemClock, log: silentLogger, metrics: createMetrics(), random: Math.random })
    sessions.onChannel('echo', async (request) => {
      const channel = request.accept()
      channel.pipe(channel)
    })
    sessions.onChannel('hash', async (request) => {
      const channel = request.accept()
      const hash = createHash('sha256')
      channel.on('data', (chunk: Uint8Array) => { hash.update(chunk) })
      channel.on('end', () => { channel.end(hash.digest()) })
    })
    return { ...test, sessions }
  }

  before(async () => {
    relay = await prepareStockRelay('session-relay')
    await relay.start()
    stops.push(async () => { await relay.kill() })
    alice = await device()
    bob = await device()
    befriend(alice, bob)
    for (const { node, sessions } of [alice, bob]) {
      await sessions.start()
      await node.start()
      stops.push(async () => {
        await sessions.stop()
        await node.stop()
      })
    }
    await Promise.all([reserved(alice), reserved(bob)])
  })

  after(async () => {
    for (const stop of stops.reverse()) await stop()
  })

  it('both ends dial at once and share one session; bytes arrive whole in both directions, with half-close', async () => {
    const [one, other] = await Promise.all([alice.sessions.open(bob.did), bob.sessions.open(alice.did)])
    assert.deepEqual(one.id, other.id)
    assert.equal(one.path, 'relayed')
    assert.equal(one.link, 'stream')
    assert.ok(await one.ping({ signal: AbortSignal.timeout(PATIENCE_MS) }) < PATIENCE_MS)
    const sent = Buffer.alloc(24 * 1024 * 1024, 'carrier')
    const channels = [one.openChannel('hash', new Uint8Array(0)), other.openChannel('hash', new Uint8Array(0))]
    await Promise.all(channels.map(async (channel) => {
      channel.end(sent)
      const answer: Buffer[] = []
      channel.on('data', (chunk: Buffer) => { answer.push(chunk) })
      await once(channel, 'close')
      assert.equal(channel.errored, null)
      assert.equal(Buffer.concat(answer).toString('hex'), createHash('sha256').update(sent).digest('hex'))
    }))
  })

  it('two hundred channels at once, first data together with the open', async () => {
    const session = await alice.sessions.open(bob.did)
    await Promise.all(Array.from({ length: 200 }, async (_unused, index) => {
      const channel = session.openChannel('echo', new Uint8Array(0))
      channel.end(`number ${index}`)
      const [chunk] = await once(channel, 'data') as [Buffer]
      assert.equal(chunk.toString(), `number ${index}`)
      if (!channel.closed) await once(channel, 'close')
    }))
    await waitFor('all channels closed', () => session.channelCount === 0, { deadlineMs: PATIENCE_MS })
  })

  it('I3: a stranger gets no session', async () => {
    const stranger = await device()
    stranger.levels.set(bob.did, 'friend')
    await stranger.sessions.start()
    await stranger.node.start()
    try {
      await assert.rejects(stranger.sessions.open(bob.did, { signal: AbortSignal.timeout(PATIENCE_MS) }), (err: CarrierError) => ['ERR_NOT_AVAILABLE', 'ERR_PEER_OFFLINE'].includes(err.code))
      assert.equal(bob.sessions.get(stranger.did), undefined)
    } finally {
      await stranger.sessions.stop()
      await stranger.node.stop()
    }
  })

  it('I5: a connection that is cut costs a pause: the channel goes on over the next one', async () => {
    const session = await alice.sessions.open(bob.did)
    const channel = session.openChannel('echo', new Uint8Array(0))
    const received: Buffer[] = []
    channel.on('data', (chunk: Buffer) => { received.push(chunk) })
    channel.write('before ')
    await waitFor('the first echo', () => Buffer.concat(received).toString() === 'before ', { deadlineMs: PATIENCE_MS })
    const resumed = new Promise<void>((resolve) => { alice.sessions.on('session:resumed', () => { resolve() }) })
    await bob.node.disconnect(alice.did)
    channel.end('after')
    await resumed
    await waitFor('the end', () => channel.readableEnded, { deadlineMs: PATIENCE_MS })
    assert.equal(Buffer.concat(received).toString(), 'before after')
    assert.equal(alice.sessions.get(bob.did), session)
  })
})
