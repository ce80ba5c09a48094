/** Read back-pressure over real yamux: a reader that was fast, then pauses, loses nothing and holds a bounded amount. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import test, { after, before } from 'node:test'
import { LIMITS } from '../../src/base/index.ts'
import { befriend, makeNode } from '../support/node-pair.ts'
import type { TestNode } from '../support/node-pair.ts'
import { PATIENCE_MS, pause, untilStill, waitFor, within } from '../support/wait.ts'

const BULK = '/carrier/test-bulk/1.0.0'
const MIB = 1024 * 1024
const TOTAL_BYTES = 96 * MIB
/** The reader takes so much at full speed first, which makes yamux open its window. */
const FAST_BYTES = 24 * MIB
/** A resume hands one full window to the adapter and opens the next; the rest is the adapter's queue, sockets and the sender's own buffers. */
const MOST_HELD_BYTES = 2 * LIMITS.streamWindowBytes + LIMITS.streamReadQueueBytes + 3 * MIB

let office: TestNode
let laptop: TestNode
/** There is no relay: the laptop is told where the office listens. */
const addresses: string[] = []
let readBytes = 0
let sentBytes = 0
const outcome = Promise.withResolvers<{ sha256: string, mostHeldBytes: number }>()

before(async () => {
  office = await makeNode({ listen: 'lan', loopback: true })
  laptop = await makeNode({ loopback: true }, { addressStore: { recall: () => addresses, remember: () => {} } })
  befriend(office, laptop)
  office.node.handle(BULK, async (stream) => {
    const hash = createHash('sha256')
    let mostHeldBytes = 0
    let restedBytes = 0
    try {
      for await (const chunk of stream.source) {
        hash.update(chunk)
        readBytes += chunk.length
        restedBytes += chunk.length
        mostHeldBytes = Math.max(mostHeldBytes, sentBytes - readBytes)
        if (readBytes < FAST_BYTES || restedBytes < 2 * MIB) continue
        restedBytes = 0
        // however slow the machine is, the sender comes as far ahead as it may
        if (mostHeldBytes < LIMITS.streamWindowBytes) await untilStill('the sender', () => sentBytes, 60)
        else await pause(50)
      }
      outcome.resolve({ sha256: hash.digest('hex'), mostHeldBytes })
    } catch (err) {
      outcome.reject(err)
    }
  }, { levels: ['friend'], maxStreamsPerPeer: 2 })
  await office.node.start()
  await laptop.node.start()
  addresses.push(...office.node.listenAddresses())
})

after(async () => {
  await laptop.node.stop()
  await office.node.stop()
})

test('I4, I8: a reader that pauses after it was fast gets every byte, and what waits for it stays bounded', async () => {
  const { stream, peer } = await laptop.node.openStream(office.did, BULK)
  assert.equal(peer.path, 'lan')
  const hash = createHash('sha256')
  const block = new Uint8Array(randomBytes(64 * 1024))
  const sending = stream.sink((async function * () {
    for (let index = 0; sentBytes < TOTAL_BYTES; index++) {
      const piece = Uint8Array.from(block)
      new DataView(piece.buffer).setUint32(0, index)
      hash.update(piece)
      sentBytes += piece.length
      yield piece
    }
  })())
  const [{ sha256, mostHeldBytes }] = await within('all bytes', 2 * PATIENCE_MS, Promise.all([outcome.promise, sending]))
  console.log(`at most ${(mostHeldBytes / MIB).toFixed(1)} MiB waited for the reader`)
  assert.equal(readBytes, TOTAL_BYTES)
  assert.equal(sha256, hash.digest('hex'))
  assert.ok(mostHeldBytes <= MOST_HELD_BYTES, `${mostHeldBytes} bytes waited`)
  assert.ok(mostHeldBytes > 2 * MIB, 'the reader was never slower than the sender: this test showed nothing')
  await waitFor('the stream to be gone', async () => (await office.metrics.text()).includes('carrier_node_open_streams 0'), { deadlineMs: PATIENCE_MS })
})
