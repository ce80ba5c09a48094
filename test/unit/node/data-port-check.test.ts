import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CarrierError, LIMITS, systemClock } from '../../../src/base/index.ts'
import { checkDataPort } from '../../../src/node/data-port-check.ts'
import type { DataPortCheckComponents } from '../../../src/node/data-port-check.ts'
import { SPLICE_PREFACE } from '../../../src/node/ticket-door.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { freePort, startTarget } from '../../support/target-server.ts'
import { PATIENT, waitFor } from '../../support/wait.ts'

const TICKET = new Uint8Array(32).fill(7)

function components (port: number, change: Partial<DataPortCheckComponents> = {}): DataPortCheckComponents {
  return { clock: systemClock, canSplice: () => true, askObserve: async () => ({ host: '127.0.0.1', port, ticket: TICKET }), ...change }
}

test('a relay that offers no data port is not asked', async () => {
  assert.deepEqual(await checkDataPort(components(1, { canSplice: () => false, askObserve: async () => assert.fail('asked') }), 'relay'), { kind: 'none' })
})

test('the port answers once it has seen the ticket', async () => {
  const relay = await startTarget((socket) => {
    let seen = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk])
      if (seen.equals(Buffer.concat([SPLICE_PREFACE, TICKET]))) socket.write(Buffer.alloc(19))
    })
    socket.on('end', () => { socket.end() })
  })
  try {
    const answer = await checkDataPort(components(relay.port), 'relay')
    assert.deepEqual([answer.kind, answer.kind === 'answered' && answer.port], ['answered', relay.port])
    await waitFor('the socket to be gone', () => relay.sockets.size === 0, PATIENT)
  } finally {
    await relay.close()
  }
})

test('a port that refuses, ends at once or keeps silent is told apart, and no socket stays', async (t) => {
  await assert.rejects(checkDataPort(components(await freePort()), 'relay'), { code: 'ERR_PEER_OFFLINE' })
  await assert.rejects(checkDataPort(components(1, { askObserve: async () => { throw new CarrierError('ERR_LIMIT', 'later') } }), 'relay'), { code: 'ERR_LIMIT' })

  const ending = await startTarget((socket) => { socket.end() })
  t.after(ending.close)
  await assert.rejects(checkDataPort(components(ending.port), 'relay'), { code: 'ERR_LINK_LOST' })

  const silent = await startTarget((socket) => { socket.resume().on('end', () => { socket.end() }) })
  t.after(silent.close)
  const clock = createFakeClock()
  const checking = assert.rejects(checkDataPort(components(silent.port, { clock }), 'relay'), { code: 'ERR_TIMEOUT' })
  await waitFor('the connection', () => silent.sockets.size === 1, PATIENT)
  await clock.advance(LIMITS.doctorTargetMs)
  await checking
  await waitFor('the socket to be gone', () => silent.sockets.size === 0, PATIENT)
  assert.equal(clock.pendingTimerCount(), 0)
})
