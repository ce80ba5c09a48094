import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection, Stream } from '@libp2p/interface'
import { createMetrics, createTaskOwner, silentLogger } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { AuthenticatedConnection, AuthGate } from '../../../src/node/auth-gate.ts'
import { createPeerDirectory } from '../../../src/node/peer-directory.ts'
import { createProtocolDoor } from '../../../src/node/protocol-door.ts'
import type { PeerStream } from '../../../src/node/types.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const PROTOCOL = '/carrier/test/1.0.0'
const DEVICE = 'did:key:zTest' as Did

/** A stream of which only the reset matters. */
function makeStream (): Stream & { isReset: boolean } {
  const stream = Object.assign(new EventTarget(), {
    status: 'open',
    readStatus: 'readable',
    remoteWriteStatus: 'writable',
    readBufferLength: 0,
    isReset: false,
    closeRead: async () => {},
    close: async () => {},
    abort: () => {
      stream.status = 'aborted'
      stream.isReset = true
      stream.dispatchEvent(new Event('close'))
    }
  })
  return stream as unknown as Stream & { isReset: boolean }
}

test('I4: a stream that comes, passes auth or is opened while the node stops is reset, and no handler keeps the stop waiting', async () => {
  const tasks = createTaskOwner(silentLogger)
  const auth = Promise.withResolvers<AuthenticatedConnection>()
  const counter = createMetrics().counter('carrier_test_total', 'Test.', ['direction'])
  const gauge = createMetrics().gauge('carrier_test', 'Test.')
  let handledCount = 0
  const door = createProtocolDoor({
    clock: createFakeClock(),
    log: silentLogger,
    tasks: () => tasks,
    gate: { passed: async () => auth.promise } as unknown as AuthGate,
    peers: createPeerDirectory([]),
    levelOf: () => 'friend',
    describe: () => ({ device: DEVICE, owner: DEVICE, level: 'friend', instanceId: undefined, path: 'lan', relayPeerId: undefined }),
    onRefused: (_peer, reason) => { assert.fail(reason) },
    streams: counter,
    openStreams: gauge
  })
  door.register(PROTOCOL, {
    handler: async () => {
      handledCount++
      await new Promise(() => {})
    },
    levels: ['friend'],
    maxStreamsPerPeer: 10
  })
  const connection = {} as Connection
  const waiting = makeStream()
  door.route(waiting, PROTOCOL)
  door.enter(waiting, connection)

  const stopped = tasks.stop()
  // auth succeeds in the very moment of the stop
  auth.resolve({ connection, device: DEVICE, instanceId: undefined, addresses: [] })
  door.abortAll(new Error('stop'))
  const late = makeStream()
  door.route(late, PROTOCOL)
  door.enter(late, connection)
  const opened: Error[] = []
  door.track({ abort: (err: Error) => { opened.push(err) }, closed: Promise.resolve() } as unknown as PeerStream, DEVICE)
  await stopped

  assert.equal(handledCount, 0)
  assert.equal(waiting.isReset, true)
  assert.equal(late.isReset, true)
  assert.equal(opened.length, 1)
})
