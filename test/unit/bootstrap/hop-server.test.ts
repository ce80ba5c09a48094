import assert from 'node:assert/strict'
import { test } from 'node:test'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import type { Connection, Stream, StreamHandler, StreamHandlerOptions } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { LIMITS, createMetrics, encodeFrame, silentLogger } from '../../../src/base/index.ts'
import { admitAll } from '../../../src/bootstrap/admission.ts'
import { createHopServer } from '../../../src/bootstrap/hop-server.ts'
import type { HopServerComponents } from '../../../src/bootstrap/hop-server.ts'
import { createQuotaBook } from '../../../src/bootstrap/quota-book.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const RESERVE = encodeFrame(Uint8Array.from([0x08, 0x00]))

/** A hop stream on which RESERVE is waiting; sending the answer works or fails. */
function makeStream (canSend: boolean): Stream {
  const stream = Object.assign(new EventTarget(), {
    status: 'open',
    readStatus: 'paused',
    readBufferLength: RESERVE.length,
    resume: () => { stream.dispatchEvent(Object.assign(new Event('message'), { data: RESERVE })) },
    pause: () => {},
    send: () => {
      if (!canSend) throw new Error('the stream is gone')
      return true
    },
    close: async () => {},
    abort: () => { stream.status = 'aborted' }
  })
  return stream as unknown as Stream
}

test('a refresh whose answer cannot be sent leaves the reservation that its holder knows; a first one leaves nothing', async () => {
  const privateKey = await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(1))
  const remotePeer = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', new Uint8Array(32).fill(2)))
  const connection = { id: 'c', remotePeer, remoteAddr: multiaddr('/ip4/203.0.113.1/tcp/1') } as unknown as Connection
  let ask: StreamHandler = () => {}
  let maxInboundStreams = 0
  const node = Object.assign(new EventTarget(), {
    peerId: peerIdFromPrivateKey(privateKey),
    handle: async (_protocol: string, handler: StreamHandler, options: StreamHandlerOptions) => {
      ask = handler
      maxInboundStreams = options.maxInboundStreams ?? 0
    },
    unhandle: async () => {},
    getConnections: () => [connection],
    getMultiaddrs: () => []
  }) as unknown as HopServerComponents['node']
  const clock = createFakeClock()
  const hop = createHopServer({ node, privateKey, admit: admitAll(undefined), quotas: createQuotaBook(clock, { friend: {}, member: {}, stranger: {}, strangers: {} }), classOf: () => 'stranger', clock, log: silentLogger, metrics: createMetrics() }, { maxCircuitsPerCaller: 1 })
  await hop.start()
  // libp2p is told once, the settings may be raised later: as far as they go
  assert.ok(maxInboundStreams >= 100_000 + LIMITS.relayPendingHandshakesPerPeerCount)
  await ask(makeStream(false), connection)
  assert.equal(hop.reservationCount, 0)
  await ask(makeStream(true), connection)
  assert.equal(hop.reservationCount, 1)
  await ask(makeStream(false), connection)
  assert.equal(hop.reservationCount, 1)
  await hop.stop()
  assert.equal(clock.pendingTimerCount(), 0)
})
