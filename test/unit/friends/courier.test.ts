import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, createMetrics, createTaskOwner, silentLogger } from '../../../src/base/index.ts'
import { createCourier } from '../../../src/friends/courier.ts'
import type { Courier } from '../../../src/friends/courier.ts'
import { encodeFriendAnswer } from '../../../src/friends/messages.ts'
import type { OutboxEntry } from '../../../src/friends/store.ts'
import type { Peer, PeerStream } from '../../../src/node/index.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { didNumber } from '../../support/friends-world.ts'

const OWNER = didNumber(1)

function entryNumber (seq: number): OutboxEntry {
  return { seq, owner: OWNER, devices: [OWNER], notice: { kind: 'accept', id: '0'.repeat(31) + seq }, nospam: undefined, hello: undefined, isSent: false }
}

/** A peer that answers everything with yes. */
function agreeableStream (): PeerStream {
  async function * source (): AsyncGenerator<Uint8Array> { yield encodeFriendAnswer(true) }
  return { source: source(), sink: async (bytes) => { for await (const chunk of bytes) assert.ok(chunk.length > 0) }, abort: () => {}, closed: Promise.resolve() }
}

test('a notice that is written at the very moment when the outbox seemed empty is delivered, too', async () => {
  for (let delayTurns = 0; delayTurns < 12; delayTurns++) {
    const clock = createFakeClock()
    const tasks = createTaskOwner(silentLogger)
    const delivered: number[] = []
    let entry: OutboxEntry | undefined = entryNumber(1)
    let hasWritten = false
    const courier: Courier = createCourier({
      outbox: {
        owners: () => entry === undefined ? [] : [OWNER],
        peek: () => {
          if (entry === undefined && !hasWritten) {
            hasWritten = true
            void (async () => {
              for (let turn = 0; turn < delayTurns; turn++) await Promise.resolve()
              entry = entryNumber(2)
              courier.kick(OWNER)
            })()
          }
          return entry
        },
        claim: () => true,
        settle: ({ seq }) => {
          delivered.push(seq)
          entry = undefined
        }
      },
      node: { openStream: async () => ({ stream: agreeableStream(), peer: { device: OWNER } as Peer }) },
      clock,
      random: () => 0.5,
      log: silentLogger,
      tasks,
      deliveries: createMetrics().counter('deliveries_total', 'test', ['kind', 'result'])
    })
    courier.kick(OWNER)
    for (let turn = 0; turn < 20; turn++) await clock.advance(0)
    assert.deepEqual(delivered, [1, 2], `${delayTurns} turns later`)
    courier.stop()
    await tasks.stop()
    assert.equal(clock.pendingTimerCount(), 0)
  }
})

test('a delivery that the stop of the list cuts short is not planned again', async () => {
  const clock = createFakeClock()
  const tasks = createTaskOwner(silentLogger)
  const courier = createCourier({
    outbox: { owners: () => [OWNER], peek: () => entryNumber(1), claim: () => true, settle: () => {} },
    node: { openStream: async (_device, _protocol, options = {}) => new Promise((_resolve, reject) => { options.signal?.addEventListener('abort', () => { reject(new CarrierError('ERR_CLOSED', 'stopped')) }) }) },
    clock,
    random: () => 0.5,
    log: silentLogger,
    tasks,
    deliveries: createMetrics().counter('deliveries_total', 'test', ['kind', 'result'])
  })
  courier.kickAll()
  await clock.advance(0)
  courier.stop()
  await tasks.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
