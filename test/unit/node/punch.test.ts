import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { CarrierError, encodeAddress, LIMITS, silentLogger, systemClock } from '../../../src/base/index.ts'
import type { Clock, HostAndPort } from '../../../src/base/index.ts'
import { pauseAfter } from '../../../src/node/punch-knock.ts'
import { createPuncher } from '../../../src/node/punch.ts'
import type { Puncher } from '../../../src/node/punch.ts'
import { SPLICE_PREFACE, TICKET_BYTES } from '../../../src/node/ticket-door.ts'
import { freePort } from '../../support/free-port.ts'
import { waitFor, within } from '../../support/wait.ts'

const servers: Server[] = []
const sockets = new Set<Socket>()
after(() => {
  for (const server of servers) server.close()
  for (const socket of sockets) socket.destroy()
})

/** On a machine that stands still for a while the second relay gets its time too. */
const patientClock: Clock = { ...systemClock, setTimer: (callback, delayMs) => [LIMITS.punchObserveGraceMs, LIMITS.punchHedgeMs].includes(delayMs) ? { cancel: () => {} } : systemClock.setTimer(callback, delayMs) }

/** A server on loopback; gives its port and how often it was reached. */
async function serve (onSocket: (socket: Socket) => void): Promise<{ port: number, arrived: Socket[] }> {
  const arrived: Socket[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    sockets.add(socket)
    arrived.push(socket)
    onSocket(socket)
  })
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, arrived }
}

/** A relay that answers a ticket with the socket's real address, or with what `lie` makes of it. */
async function observer (lie: (real: HostAndPort) => HostAndPort | undefined = (real) => real): Promise<{ port: number, arrived: Socket[] }> {
  return serve((socket) => {
    let received = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length < SPLICE_PREFACE.length + TICKET_BYTES) return
      const answer = lie({ host: String(socket.remoteAddress), port: Number(socket.remotePort) })
      if (answer === undefined) socket.destroy()
      else socket.write(encodeAddress(answer))
    })
  })
}

function parts (relays: ReadonlyArray<{ port: number }>): Parameters<typeof createPuncher>[0] {
  return {
    clock: patientClock,
    log: silentLogger,
    random: Math.random,
    observers: () => relays.map((_relay, index) => String(index)),
    askObserve: async (relay) => ({ host: '127.0.0.1', port: relays[Number(relay)]?.port ?? 0, ticket: new Uint8Array(TICKET_BYTES) }),
    relayHosts: () => [],
    interfaces: () => ({}),
    mayDialDirectly: () => true
  }
}

function puncher (relays: ReadonlyArray<{ port: number }>, init: { random?: () => number, mayUseLoopback?: boolean, mayDialDirectly?: (host: string) => boolean } = {}): Puncher {
  const { random = Math.random, mayDialDirectly = () => true, mayUseLoopback = true } = init
  return createPuncher({ ...parts(relays), random, mayDialDirectly }, { mayUseLan: false, mayUseLoopback })
}

const forever = new AbortController().signal

describe('a port to punch through', () => {
  it('is one local port that two relays see; its sockets stay open until it is closed', async () => {
    const relays = [await observer(), await observer()]
    const port = await puncher(relays).prepare(forever)
    assert.equal(port.mapping, 'independent')
    const [candidate, ...others] = port.candidates
    assert.deepEqual(others, [])
    for (const { arrived } of relays) {
      assert.equal(arrived.length, 1)
      assert.equal(arrived[0]?.remotePort, candidate?.port)
      assert.equal(arrived[0]?.readyState, 'open')
    }
    port.close()
    port.close()
    await waitFor('their ends', () => relays.every(({ arrived }) => arrived[0]?.destroyed === true), { deadlineMs: 30_000, intervalMs: 5 })
  })

  it('a router that maps per destination is told', async () => {
    const port = await puncher([await observer(), await observer((real) => ({ ...real, port: real.port + 1 }))]).prepare(forever)
    assert.equal(port.mapping, 'dependent')
    port.close()
  })

  it('one relay that does not answer is left out; when none does there is no port', async () => {
    const port = await puncher([await observer(() => undefined), await observer()]).prepare(forever)
    assert.equal(port.candidates.length, 1)
    port.close()
    await assert.rejects(puncher([await observer(() => undefined)]).prepare(forever), { code: 'ERR_NOT_AVAILABLE' })
    await assert.rejects(puncher([]).prepare(forever), { code: 'ERR_NOT_AVAILABLE' })
    assert.equal(puncher([]).canPunch(), false)
  })

  it('a local port that is in use makes way for another', async () => {
    const relay = await observer()
    const first = await puncher([relay], { random: () => 0.25 }).prepare(forever)
    // the same relay from the same port: the kernel refuses the second connection
    const draws = [0.25, 0.25, 0.5]
    const second = await puncher([relay], { random: () => draws.shift() ?? 0.75 }).prepare(forever)
    assert.notEqual(second.candidates[0]?.port, first.candidates[0]?.port)
    first.close()
    second.close()
  })

  it('is given up at once when it is not wanted any more', async () => {
    const stop = new AbortController()
    const silent = await serve((socket) => { socket.resume() })
    const preparing = puncher([silent]).prepare(stop.signal)
    await waitFor('the question', () => silent.arrived.length === 1, { deadlineMs: 30_000, intervalMs: 5 })
    stop.abort(new CarrierError('ERR_CANCELLED', 'not wanted'))
    await assert.rejects(preparing, { code: 'ERR_CANCELLED' })
    await waitFor('the end', () => silent.arrived[0]?.destroyed === true, { deadlineMs: 30_000, intervalMs: 5 })
  })
})

describe('hostile relays', () => {
  it('I8: one that says more than the address is cut', async () => {
    const relay = await observer()
    const port = await puncher([relay]).prepare(forever)
    relay.arrived[0]?.write(Buffer.alloc(64))
    await waitFor('the cut', () => relay.arrived[0]?.destroyed === true, { deadlineMs: 30_000, intervalMs: 5 })
    port.close()
  })

  it('a relay that is late is not waited for once another one sees the very port that was taken', async () => {
    const delaysMs: number[] = []
    let answer: (() => void) | undefined
    const clock: Clock = {
      ...systemClock,
      setTimer: (callback, delayMs) => {
        delaysMs.push(delayMs)
        // the deadline of the late one never comes: only the grace ends the wait
        return delayMs === LIMITS.punchObserveGraceMs ? systemClock.setTimer(callback, 0) : { cancel: () => {} }
      }
    }
    const silent = await serve((socket) => { answer = () => { socket.destroy() } })
    const port = await within('the port', 60_000, createPuncher({ ...parts([silent, await observer()]), clock }, { mayUseLan: false, mayUseLoopback: true }).prepare(forever))
    assert.equal(port.observed.length, 1)
    assert.equal(port.mapping, 'independent')
    assert.ok(delaysMs.includes(LIMITS.punchObserveGraceMs))
    port.close()
    answer?.()
  })

  it('a packet that is lost on the way to a relay costs no second: another port is tried beside', async () => {
    const delaysMs: number[] = []
    const clock: Clock = {
      ...systemClock,
      setTimer: (callback, delayMs) => {
        delaysMs.push(delayMs)
        // only the second port ends the wait
        return delayMs === LIMITS.punchHedgeMs ? systemClock.setTimer(callback, 0) : { cancel: () => {} }
      }
    }
    let count = 0
    const lossy = await serve((socket) => {
      if (count++ === 0) socket.resume()
      else socket.once('data', () => { socket.write(encodeAddress({ host: String(socket.remoteAddress), port: Number(socket.remotePort) })) })
    })
    const port = await within('the port', 60_000, createPuncher({ ...parts([lossy]), clock }, { mayUseLan: false, mayUseLoopback: true }).prepare(forever))
    assert.equal(port.observed[0]?.port, lossy.arrived[1]?.remotePort)
    assert.ok(delaysMs.includes(LIMITS.punchHedgeMs))
    await waitFor('the first to be given up', () => lossy.arrived[0]?.destroyed === true, { deadlineMs: 30_000, intervalMs: 5 })
    port.close()
  })

  it('one that never answers keeps nobody from punching, nor does one whose ticket never comes', async () => {
    const silent = await serve((socket) => { socket.resume() })
    const port = await within('the port', 60_000, puncher([silent, await observer()]).prepare(forever))
    assert.equal(port.candidates.length, 1)
    await waitFor('the silent one to be given up', () => silent.arrived[0]?.destroyed === true, { deadlineMs: 30_000, intervalMs: 5 })
    port.close()
    const stuck = createPuncher({ ...parts([await observer()]), observers: () => ['0', 'stuck'], askObserve: async (relay, signal) => relay === 'stuck' ? new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason as Error) }) }) : parts([await observer()]).askObserve('0', signal) }, { mayUseLan: false, mayUseLoopback: true })
    const second = await within('the port', 60_000, stuck.prepare(forever))
    assert.equal(second.candidates.length, 1)
    second.close()
  })

  it('I8: what was answered before the attempt was given up is closed', async () => {
    const stop = new AbortController()
    const [good, silent] = [await observer(), await serve((socket) => { socket.resume() })]
    const preparing = puncher([good, silent]).prepare(stop.signal)
    await waitFor('both questions', () => good.arrived.length === 1 && silent.arrived.length === 1, { deadlineMs: 30_000, intervalMs: 5 })
    await waitFor('the answer', () => (good.arrived[0]?.bytesWritten ?? 0) > 0, { deadlineMs: 30_000, intervalMs: 5 })
    stop.abort(new CarrierError('ERR_CANCELLED', 'not wanted'))
    await assert.rejects(preparing, { code: 'ERR_CANCELLED' })
    await waitFor('their ends', () => [good, silent].every(({ arrived }) => arrived[0]?.destroyed === true), { deadlineMs: 30_000, intervalMs: 5 })
  })

  it('an address that nobody can have is no answer', async () => {
    for (const host of ['0.0.0.0', '224.0.0.1', '169.254.0.1']) await assert.rejects(puncher([await observer((real) => ({ ...real, host }))]).prepare(forever), { code: 'ERR_NOT_AVAILABLE' })
  })
})

describe('punching', () => {
  it('connects from the port that the relay saw, and gives the socket away', async () => {
    const relay = await observer()
    const friend = await serve(() => {})
    const port = await puncher([relay]).prepare(forever)
    const found: Socket[] = []
    await within('the connection', 30_000, port.connect([{ host: '127.0.0.1', port: friend.port }], (socket) => found.push(socket) > 0, forever))
    assert.equal(found[0]?.localPort, port.candidates[0]?.port)
    assert.equal(friend.arrived.length, 1)
    port.close()
    assert.equal(found[0]?.destroyed, false)
    found[0]?.destroy()
  })

  it('I10: what may not be tried is not tried', async () => {
    const target = await serve(() => {})
    const port = await puncher([await observer((real) => ({ ...real, host: '50.1.0.2' }))], { mayUseLoopback: false }).prepare(forever)
    await port.connect([{ host: '127.0.0.1', port: target.port }, { host: '169.254.1.1', port: target.port }], () => assert.fail('a connection'), forever)
    port.close()
    const proxied = await puncher([await observer()], { mayDialDirectly: () => false }).prepare(forever)
    await proxied.connect([{ host: '127.0.0.1', port: target.port }], () => assert.fail('a connection past the proxy'), forever)
    proxied.close()
    assert.equal(target.arrived.length, 0)
  })

  it('tries again until the other side is there: eight times at most', async () => {
    const theirs = await freePort()
    const port = await puncher([await observer()]).prepare(forever)
    const startedMs = performance.now()
    const knocking = port.connect([{ host: '127.0.0.1', port: theirs }], () => assert.fail('nobody is there'), forever)
    await within('the last attempt', 60_000, knocking)
    assert.ok(performance.now() - startedMs >= (LIMITS.punchSynCount - 1) * LIMITS.punchRetryMs * 0.9)
    const again = port.connect([{ host: '127.0.0.1', port: theirs }], (socket) => sockets.add(socket).size > 0, forever)
    const late = createServer((socket) => { sockets.add(socket) })
    servers.push(late)
    late.listen(theirs, '127.0.0.1')
    await within('the connection', 60_000, again)
    assert.ok([...sockets].some((socket) => socket.localPort === theirs || socket.remotePort === theirs))
    port.close()
  })

  it('ends with its signal and with its port', async () => {
    // closed ports answer with a reset, so that the attempts go on until they are ended
    const port = await puncher([await observer()]).prepare(forever)
    const stop = new AbortController()
    const refused = [{ host: '127.0.0.1', port: 1025 }]
    const first = port.connect(refused, () => true, stop.signal)
    stop.abort()
    await within('the end by the signal', 30_000, first)
    const second = port.connect(refused, () => true, forever)
    port.close()
    await within('the end by the port', 30_000, second)
  })
})

describe('the rhythm of the attempts', () => {
  it('two ends whose routers answer with a reset meet soon, however far apart they begin', () => {
    const oneWayMs = 40
    /** When each attempt begins, if all of them are refused. */
    function begins (atMs: number, random: () => number): number[] {
      return Array.from({ length: LIMITS.punchSynCount }, (_attempt, count) => {
        const beginMs = atMs
        atMs += 2 * oneWayMs + pauseAfter(count, 2 * oneWayMs, random)
        return beginMs
      })
    }
    let seed = 1
    const random = (): number => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed / 2_147_483_647
    }
    let meetings = 0
    let soon = 0
    const rounds = 2000
    for (let round = 0; round < rounds; round++) {
      const one = begins(0, random)
      const other = begins(400 * random(), random)
      const metMs = one.filter((beginMs) => other.some((otherMs) => Math.abs(otherMs - beginMs) < oneWayMs))
      if (metMs.length > 0) meetings++
      if (metMs.some((atMs) => atMs < 800)) soon++
    }
    assert.ok(meetings / rounds > 0.99, `${meetings} of ${rounds} met`)
    assert.ok(soon / rounds > 0.98, `${soon} of ${rounds} met within 0.8 s`)
  })

  it('an answer from near does not make it faster, and silence is not waited after', () => {
    assert.equal(pauseAfter(0, 1, () => 0), LIMITS.punchRetryMs - 1)
    assert.equal(pauseAfter(0, LIMITS.punchTryMs, () => 0), 0)
    assert.ok(pauseAfter(6, 10_000, () => 1) <= LIMITS.punchRetryMaxGapMs)
  })
})
