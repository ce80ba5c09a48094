/**
 * A hostile stranger, as a process of its own: knows the DID and the relay of its victim, but no address. It asks for
 * everything a stranger could ask for and prints one JSON line with what came back for each question.
 * Argument: JSON of {@link StrangerInit}.
 */
import { randomBytes } from 'node:crypto'
import { createMetrics, errorCode, silentLogger, systemClock } from '../../src/base/index.ts'
import { encodeFriendMessage, FRIEND_PROTOCOL } from '../../src/friends/messages.ts'
import { openKeystore, parseDid } from '../../src/identity/index.ts'
import type { Did } from '../../src/identity/index.ts'
import { createNode } from '../../src/node/index.ts'
import type { CarrierNode } from '../../src/node/index.ts'
import { FRAME_TYPE, HEADER_BYTES } from '../../src/session/frames.ts'
import { waitFor } from './wait.ts'

/** What the stranger knows, and the service that it hopes for. */
export interface StrangerInit { did: string, relay: string, dataDirectory: string, service: string }

/** The answer to one question: everything but the time must be the same whether the service exists or not. */
export interface StrangerAnswer { question: string, outcome: string, receivedBytes: number[], elapsedMs: number }

const init = JSON.parse(process.argv[2] ?? '{}') as StrangerInit
const identity = await openKeystore({ directory: init.dataDirectory })
const node = createNode({
  identity, clock: systemClock, log: silentLogger, metrics: createMetrics(), levelOf: () => 'friend', ownerOf: (device) => device, onStranger: () => { /* nobody calls a stranger */ }
}, { relays: [init.relay], listen: 'none', port: 0 })
await node.start()
const victim = parseDid(init.did)
await waitFor('the relay', () => node.isReachable(), { deadlineMs: 10_000 })
const answers: StrangerAnswer[] = []
for (const [question, protocol, bytes] of questions()) answers.push(await ask(node, victim, question, protocol, bytes))
await node.stop()
console.log(JSON.stringify(answers))
process.exit(0)

function questions (): Array<[string, string, Uint8Array]> {
  return [
    ['a request with a wrong secret', FRIEND_PROTOCOL, encodeFriendMessage({ notice: { kind: 'request', id: randomBytes(16).toString('hex') }, nospam: randomBytes(8), hello: 'let me in' })],
    ['a session', '/carrier/session/1.0.0', openFrame(init.service)],
    ['a protocol that does not exist', '/carrier/no-such/1.0.0', openFrame(init.service)]
  ]
}

/** A frame that opens a channel to the service, as a friend's session would send it. */
function openFrame (service: string): Uint8Array {
  const kind = Buffer.from('forward')
  const body = Buffer.concat([Buffer.from([kind.length]), kind, Buffer.from(service)])
  const header = Buffer.alloc(HEADER_BYTES)
  header[0] = FRAME_TYPE.open
  header.writeUInt16BE(body.length, 2)
  header.writeUInt32BE(2, 4)
  return Buffer.concat([header, body])
}

async function ask (from: CarrierNode, device: Did, question: string, protocol: string, bytes: Uint8Array): Promise<StrangerAnswer> {
  const startedAtMs = performance.now()
  const receivedBytes: number[] = []
  const finish = (outcome: string): StrangerAnswer => ({ question, outcome, receivedBytes, elapsedMs: performance.now() - startedAtMs })
  try {
    const { stream } = await from.openStream(device, protocol, { signal: AbortSignal.timeout(15_000) })
    const sending = stream.sink(once(bytes))
    sending.catch(() => { /* the answer below tells how the stream ended */ })
    for await (const chunk of stream.source) receivedBytes.push(chunk.byteLength)
    return finish('ended')
  } catch (err) {
    return finish(errorCode(err))
  }
}

async function * once (bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
