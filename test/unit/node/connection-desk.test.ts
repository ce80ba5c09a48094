import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { createConnectionDesk } from '../../../src/node/connection-desk.ts'
import { createInboundLimits } from '../../../src/node/inbound-limits.ts'
import { createPeerDirectory } from '../../../src/node/peer-directory.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const PEER = '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq'

test('I8: a connection that was dead when it opened takes no place of a stranger, because its end is never told', () => {
  const clock = createFakeClock()
  const limits = createInboundLimits()
  const opened: Connection[] = []
  const desk = createConnectionDesk({
    clock,
    peers: createPeerDirectory([]),
    levelOf: () => 'stranger',
    limits,
    gate: { open: (connection) => { opened.push(connection) }, closed: () => {} },
    onRefused: (_peer: PeerId, reason) => { assert.fail(reason) },
    abortStreams: () => {}
  })
  const connection = (id: string, status: Connection['status']): Connection => ({ id, status, direction: 'inbound', remotePeer: peerIdFromString(PEER) }) as unknown as Connection
  for (let count = 0; count < 5; count++) desk.opened(connection(`dead${count}`, count % 2 === 0 ? 'closed' : 'aborted'))
  assert.equal(limits.strangerCount(), 0)
  assert.equal(clock.pendingTimerCount(), 0)
  desk.opened(connection('alive', 'open'))
  assert.deepEqual(opened.map(({ id }) => id), ['alive'])
  assert.equal(limits.strangerCount(), 1)
  desk.stop()
})
