/** The splice port against sockets that come late, twice, wrong, slowly, alone or in thousands. Time is the test's. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { LIMITS, silentLogger } from '../../src/base/index.ts'
import { createSplicePort } from '../../src/bootstrap/splice-port.ts'
import type { LegName, SplicePair } from '../../src/bootstrap/splice-port.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import type { FakeClock } from '../support/fake-clock.ts'
import { quiet, readAll, readBytes, say } from '../support/splice-pair.ts'
import { waitFor, within } from '../support/wait.ts'

const PREFACE = Buffer.from('carrier-splice/1\n')

interface Fixture {
  clock: FakeClock
  port: number
  refused: Map<string, number>
  splicePort: ReturnType<typeof createSplicePort>
  /** A pair, and what became of it. */
  open: () => { pair: SplicePair, outcome: Promise<Record<LegName, Socket> | string> }
}

async function start (t: TestContext): Promise<Fixture> {
  const clock = createFakeClock()
  const refused = new Map<string, number>()
  const splicePort = createSplicePort({ clock, log: silentLogger, onRefused: (reason) => { refused.set(reason, (refused.get(reason) ?? 0) + 1) } }, { addresses: [{ host: '127.0.0.1', port: 0 }], mayMove: true })
  await splicePort.start()
  t.after(async () => {
    await splicePort.stop()
    assert.equal(clock.pendingTimerCount(), 0)
  })
  return {
    clock,
    port: splicePort.port ?? 0,
    refused,
    splicePort,
    open: () => {
      const { promise: outcome, resolve } = Promise.withResolvers<Record<LegName, Socket> | string>()
      const pair = splicePort.openPair({
        onFailed: resolve,
        onJoined: (sockets) => {
          for (const socket of Object.values(sockets)) t.after(() => { quiet(socket).destroy() })
          resolve(sockets)
        }
      })
      return { pair, outcome }
    }
  }
}

/** The socket gets nothing but an end. */
async function assertClosedSilently (socket: Socket): Promise<void> {
  const { byteCount } = await within('the port to close a socket', 30_000, readAll(socket))
  assert.equal(byteCount, 0)
  socket.destroy()
}

const leg = (ticket: Uint8Array): Buffer => Buffer.concat([PREFACE, ticket])

test('two legs with their tickets are joined; bytes behind a ticket are kept', async (t) => {
  const { open, port } = await start(t)
  const { pair, outcome } = open()
  const caller = await say(port, Buffer.concat([leg(pair.tickets.caller), Buffer.from('early')]))
  const called = await say(port, leg(pair.tickets.called))
  const sockets = await within('the pair', 30_000, outcome)
  assert.ok(typeof sockets !== 'string')
  assert.equal((await readBytes(sockets.caller, 5)).toString(), 'early')
  caller.destroy()
  called.destroy()
})

test('a ticket in pieces is a ticket', async (t) => {
  const { open, port, splicePort } = await start(t)
  const { pair, outcome } = open()
  const whole = leg(pair.tickets.caller)
  const caller = await say(port, whole.subarray(0, 5))
  await waitFor('the socket to wait', () => splicePort.waitingCount === 1, { deadlineMs: 30_000, intervalMs: 5 })
  for (const byte of whole.subarray(5)) caller.write(Uint8Array.of(byte))
  await say(port, leg(pair.tickets.called))
  assert.notEqual(typeof await within('the pair', 30_000, outcome), 'string')
  caller.destroy()
})

test('the first wrong byte of the preface ends a socket, without an answer', async (t) => {
  const { port, refused } = await start(t)
  await assertClosedSilently(await say(port, Buffer.from('GET / HTTP/1.1\r\n')))
  await assertClosedSilently(await say(port, Buffer.from('carrier-splice/2')))
  await assertClosedSilently(await say(port, Buffer.from('carrier-link/1\n')))
  assert.deepEqual([...refused], [['preface', 3]])
})

test('wrong, used and foreign tickets are refused, and a ticket is good for its own leg only', async (t) => {
  const { open, port, refused } = await start(t)
  const { pair, outcome } = open()
  await assertClosedSilently(await say(port, leg(randomBytes(32))))
  const caller = await say(port, leg(pair.tickets.caller))
  const other = open()
  // a used one, while its leg waits
  await waitFor('the first leg', async () => {
    const again = await say(port, leg(pair.tickets.caller))
    await assertClosedSilently(again)
    return true
  }, { deadlineMs: 30_000 })
  // the ticket of another pair joins that pair, never this one
  const foreign = await say(port, leg(other.pair.tickets.called))
  const called = await say(port, leg(pair.tickets.called))
  const sockets = await within('the pair', 30_000, outcome)
  assert.ok(typeof sockets !== 'string')
  assert.equal(sockets.called.remotePort, called.localPort)
  assert.equal(sockets.caller.remotePort, caller.localPort)
  await assertClosedSilently(await say(port, leg(pair.tickets.called)))
  assert.equal(refused.get('ticket'), 3)
  for (const socket of [caller, called]) socket.destroy()
  foreign.resetAndDestroy()
  assert.equal(await within('the other pair', 30_000, other.outcome), 'lost')
})

test('a ticket ends after 15 s', async (t) => {
  const { open, port, clock, splicePort } = await start(t)
  const { pair, outcome } = open()
  await clock.advance(LIMITS.spliceTicketMs)
  assert.equal(await outcome, 'expired')
  await assertClosedSilently(await say(port, leg(pair.tickets.caller)))
  assert.equal(splicePort.pairCount, 0)
})

test('a socket that has not shown its ticket after 3 s is closed', async (t) => {
  const { port, clock, splicePort, refused } = await start(t)
  const slow = await say(port, PREFACE)
  const silent = await say(port, new Uint8Array(0))
  await waitFor('both to wait', () => splicePort.waitingCount === 2, { deadlineMs: 30_000, intervalMs: 5 })
  await clock.advance(LIMITS.ticketWaitMs - 1)
  assert.equal(splicePort.waitingCount, 2)
  await clock.advance(1)
  assert.equal(splicePort.waitingCount, 0)
  assert.equal(refused.get('late'), 2)
  await Promise.all([assertClosedSilently(slow), assertClosedSilently(silent)])
})

test('a leg without the other one is closed after 10 s, and one that goes takes its pair with it', async (t) => {
  const { open, port, clock, splicePort } = await start(t)
  const alone = open()
  const caller = await say(port, leg(alone.pair.tickets.caller))
  await waitFor('its timer', () => splicePort.waitingCount === 0 && splicePort.pairCount === 1, { deadlineMs: 30_000, intervalMs: 5 })
  // the ticket was taken for certain when a second use of it is refused
  await assertClosedSilently(await say(port, leg(alone.pair.tickets.caller)))
  await clock.advance(LIMITS.splicePairMs)
  assert.equal(await within('the end of the pair', 30_000, alone.outcome), 'unpaired')
  await assertClosedSilently(caller)

  const left = open()
  const gone = await say(port, leg(left.pair.tickets.called))
  await assertClosedSilently(await say(port, leg(left.pair.tickets.called)))
  gone.resetAndDestroy()
  assert.equal(await within('the end of the pair', 30_000, left.outcome), 'lost')
  await assertClosedSilently(await say(port, leg(left.pair.tickets.caller)))
})

test('I8: sockets without a ticket: at most 32 of one address wait, the oldest goes first, and an honest leg passes the flood', async (t) => {
  const { open, port, splicePort, refused } = await start(t)
  const flood: Socket[] = []
  t.after(() => { for (const socket of flood) socket.destroy() })
  for (let index = 0; index < 100; index++) {
    flood.push(await say(port, index % 2 === 0 ? PREFACE : new Uint8Array(0)))
  }
  await waitFor('the flood to be cut', () => refused.get('full') === 100 - LIMITS.ticketWaitingPerPrefixCount, { deadlineMs: 30_000, intervalMs: 5 })
  assert.equal(splicePort.waitingCount, LIMITS.ticketWaitingPerPrefixCount)
  const { pair, outcome } = open()
  const caller = await say(port, leg(pair.tickets.caller))
  const called = await say(port, leg(pair.tickets.called))
  const sockets = await within('the honest pair', 30_000, outcome)
  assert.ok(typeof sockets !== 'string')
  caller.write('x')
  assert.equal((await readBytes(sockets.caller, 1)).toString(), 'x')
  caller.destroy()
  called.destroy()
})

test('I8: when too many pairs wait for their legs, the oldest one is given up', async (t) => {
  const { open, splicePort } = await start(t)
  const first = open()
  for (let index = 1; index < LIMITS.relaySpliceTicketCount; index++) open()
  assert.equal(splicePort.pairCount, LIMITS.relaySpliceTicketCount)
  open()
  assert.equal(await first.outcome, 'displaced')
  assert.equal(splicePort.pairCount, LIMITS.relaySpliceTicketCount)
})

test('a port that is in use is replaced when it was chosen by default, and is an error when it was said', async (t) => {
  const { port } = await start(t)
  const make = (mayMove: boolean): ReturnType<typeof createSplicePort> => createSplicePort({ clock: createFakeClock(), log: silentLogger, onRefused: () => {} }, { addresses: [{ host: '127.0.0.1', port }], mayMove })
  const moved = make(true)
  await moved.start()
  assert.ok(moved.port !== undefined && moved.port !== port)
  await moved.stop()
  const stubborn = make(false)
  await assert.rejects(stubborn.start(), /choose another address with --splice/)
  await stubborn.stop()
})

test('the end of the port ends what waits there', async (t) => {
  const { open, port, splicePort } = await start(t)
  const { pair, outcome } = open()
  const waiting = await say(port, new Uint8Array(0))
  const alone = await say(port, leg(pair.tickets.caller))
  await assertClosedSilently(await say(port, leg(pair.tickets.caller)))
  await splicePort.stop()
  assert.equal(await outcome, 'cancelled')
  await Promise.all([assertClosedSilently(waiting), assertClosedSilently(alone)])
  await assert.rejects(say(port, new Uint8Array(0)), /ECONNREFUSED/)
})
