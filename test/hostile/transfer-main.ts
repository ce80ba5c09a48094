/**
 * One of two friends with a splice and a circuit between them that live as long as the process: `transfer-main.ts RELAY`.
 * Orders: `{befriend: DID}`; `{connect: true}` opens both ways to that friend; `{pump: MS}` sends through them in turn, as fast as they take it;
 * `{look: true}` tells what came and what went. A way that ended is told by every answer.
 */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import type { Did } from '../../src/identity/index.ts'
import { makeNode, reserved } from '../support/node-pair.ts'
import { PATIENCE_MS, PATIENT, pause, waitFor } from '../support/wait.ts'
import { takeOrders } from './worker.ts'

const SINK = '/carrier/test-sink/1.0.0'
/** How long one way is used before it is the other one's turn. */
const SLICE_MS = 500

type Way = 'splice' | 'circuit'
interface Order { befriend?: Did, connect?: boolean, pump?: number, look?: boolean }

const relay = process.argv[2] ?? ''
const device = await makeNode({ relays: [relay], punch: false })
const received: Record<Way, number> = { splice: 0, circuit: 0 }
const activeMs: Record<Way, number> = { splice: 0, circuit: 0 }
const lost: string[] = []
let friend: Did | undefined
let turn: Way | undefined
let wake = Promise.withResolvers<void>()

device.node.handle(SINK, async ({ source }) => {
  for await (const chunk of source) received.circuit += chunk.byteLength
}, { levels: ['friend'], maxStreamsPerPeer: 4 })
device.node.handleSplices({
  admits: () => true,
  onSocket: (socket) => { watch(socket).on('data', (chunk: Buffer) => { received.splice += chunk.length }).resume() }
})
await device.node.start()
await reserved(device, PATIENCE_MS)

function watch (socket: Socket): Socket {
  // 'close' follows
  return socket.on('error', () => {}).on('close', () => { lost.push('splice') })
}

function isTurnOf (way: Way): boolean { return turn === way }

async function untilTurn (way: Way): Promise<void> {
  while (!isTurnOf(way)) await wake.promise
}

function setTurn (next: Way | undefined): void {
  turn = next
  wake.resolve()
  wake = Promise.withResolvers()
}

async function connectWays (to: Did): Promise<void> {
  const relayId = relay.split('/').at(-1) ?? ''
  await waitFor('the splice port to be known', () => device.node.canSplice(relayId), PATIENT)
  const socket = watch(await device.node.openSplice(to, relayId)).resume()
  void (async () => {
    const block = Buffer.alloc(256 * 1024)
    for (;;) {
      await untilTurn('splice')
      if (!socket.write(block)) await once(socket, 'drain')
    }
  })().catch(() => { lost.push('splice') })
  const { stream: { sink } } = await device.node.openStream(to, SINK)
  const block = new Uint8Array(64 * 1024)
  void sink((async function * () {
    for (;;) {
      await untilTurn('circuit')
      yield block
    }
  })()).then(() => { lost.push('circuit') }, (err: unknown) => { lost.push(`circuit (${err instanceof Error ? err.message : String(err)})`) })
}

takeOrders<Order>(async (order) => {
  if (order.befriend !== undefined) {
    friend = order.befriend
    device.levels.set(friend, 'friend')
  }
  if (order.connect === true && friend !== undefined) await connectWays(friend)
  const untilMs = performance.now() + (order.pump ?? 0)
  for (let way: Way = 'splice'; performance.now() < untilMs; way = way === 'splice' ? 'circuit' : 'splice') {
    const startedAtMs = performance.now()
    setTurn(way)
    await pause(SLICE_MS)
    activeMs[way] += performance.now() - startedAtMs
  }
  setTurn(undefined)
  return { did: device.did, received, activeMs, lost }
})
