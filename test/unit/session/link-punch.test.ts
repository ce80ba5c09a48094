import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { CarrierError, createTaskOwner, LIMITS, silentLogger, sleep } from '../../../src/base/index.ts'
import type { HostAndPort } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { PunchPort } from '../../../src/node/index.ts'
import { createLinkPunch } from '../../../src/session/link-punch.ts'
import type { LinkPunch } from '../../../src/session/link-punch.ts'
import type { PunchAnswer } from '../../../src/session/frames.ts'
import type { Link } from '../../../src/session/link.ts'
import type { LiveSession } from '../../../src/session/live-session.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { within } from '../../support/wait.ts'

const HERE: HostAndPort = { host: '50.1.0.2', port: 20_001 }
const THERE: HostAndPort = { host: '50.2.0.2', port: 20_002 }
const device = 'did:key:z6MkFriend' as Did

/** One end with a router that lets `arriving` sockets through; `secure` decides what each is worth. */
interface WorldInit {
  mapping?: PunchPort['mapping']
  /** Sockets that come through; by the number of the port, from 0. */
  arriving?: number | ((portIndex: number) => number)
  /** The next one comes when the last was of no use. */
  isOneByOne?: boolean
  secure?: (index: number, signal: AbortSignal) => Promise<Link>
  canPunch?: boolean
  /** By the number of the question, from 0, or always the same. */
  answer?: PunchAnswer | ((askIndex: number) => PunchAnswer)
  prepare?: (signal: AbortSignal) => Promise<void>
  /** What comes of a socket at the other end. */
  receive?: () => Promise<boolean>
}

function world (init: WorldInit = {}) {
  const clock = createFakeClock()
  const events: string[] = []
  let openPorts = 0
  let portCount = 0
  let secureCount = 0
  let askCount = 0
  const port = (): PunchPort => {
    const index = portCount++
    let isOpen = true
    openPorts++
    return {
      candidates: [HERE],
      mapping: init.mapping ?? 'independent',
      observed: [HERE],
      connect: async (offered, onSocket, signal) => {
        events.push(`connect ${offered.map(({ host }) => host).join()}`)
        const { arriving = 1 } = init
        const count = typeof arriving === 'number' ? arriving : arriving(index)
        // a port that hears nothing goes on trying
        if (count < 0) await sleep(clock, LIMITS.punchTimeoutMs, signal).catch(() => { /* it is over */ })
        if (init.isOneByOne === true) {
          for (let arrived = 0; arrived < count; arrived++) if (signal.aborted || await onSocket(new Socket())) return
        } else await Promise.all(Array.from({ length: Math.max(0, count) }, async () => onSocket(new Socket())))
      },
      close: () => {
        if (isOpen) openPorts--
        isOpen = false
      }
    }
  }
  const tasks = createTaskOwner(silentLogger)
  const punch: LinkPunch = createLinkPunch({
    node: {
      canPunch: () => init.canPunch ?? true,
      preparePunch: async (signal) => {
        await init.prepare?.(signal)
        return port()
      }
    },
    opener: {
      makeReady: () => { events.push('certificate') },
      secure: async (_socket, _device, way, signal) => {
        events.push(`secure ${way.kind} ${way.path}`)
        return init.secure === undefined ? fakeLink('first', events) : init.secure(secureCount++, signal)
      }
    },
    clock,
    log: silentLogger,
    tasks,
    receive: async (socket, from, way) => {
      events.push(`receive ${from === device} ${way.path}`)
      socket.destroy()
      return init.receive === undefined ? true : init.receive()
    }
  })
  const session = {
    peer: { device, owner: device },
    links: { sending: { rttMs: 80 } },
    asks: {
      askPunch: async (candidates: readonly HostAndPort[]) => {
        events.push(`ask ${candidates.length}`)
        return typeof init.answer === 'function' ? init.answer(askCount++) : init.answer ?? [THERE]
      }
    }
  } as unknown as LiveSession
  return { clock, events, punch, session, tasks, openPorts: () => openPorts, portCount: () => portCount }
}

function fakeLink (name: string, events: string[]): Link {
  return { abort: () => { events.push(`abort ${name}`) } } as unknown as Link
}

const forever = new AbortController().signal

describe('the controller punches', () => {
  it('asks, connects to what was answered, and gives the link whose other end is proven', async () => {
    const { punch, session, events, openPorts } = world()
    assert.ok(await punch.open(session, forever))
    assert.deepEqual(events, ['ask 1', 'connect 50.2.0.2', 'secure direct punched'])
    assert.equal(openPorts(), 0)
  })

  it('does not ask when its own router maps per destination', async () => {
    const { punch, session, events, openPorts } = world({ mapping: 'dependent' })
    await assert.rejects(within('the end', 20_000, punch.open(session, forever)), { code: 'ERR_NOT_AVAILABLE' })
    assert.deepEqual(events, [])
    assert.equal(openPorts(), 0)
  })

  it('gives up when the other side says no, and when nothing comes through', async () => {
    const declined = world({ answer: 'no' })
    await assert.rejects(within('the end', 20_000, declined.punch.open(declined.session, forever)), { code: 'ERR_NOT_AVAILABLE' })
    const silent = world({ arriving: 0 })
    await assert.rejects(silent.punch.open(silent.session, forever), { code: 'ERR_PEER_OFFLINE' })
    assert.equal(declined.openPorts() + silent.openPorts(), 0)
  })

  it('I2: a connection to somebody else is no link, and does not stop the right one; what is too late is closed', async () => {
    const aborted: string[] = []
    const { punch, session } = world({
      arriving: 3,
      secure: async (index, signal) => {
        if (index === 0) throw new CarrierError('ERR_PROTOCOL', 'another key')
        if (index === 1) return fakeLink('right', aborted)
        // this one does not notice that it is not wanted any more
        await new Promise((resolve) => { signal.addEventListener('abort', resolve, { once: true }) })
        return fakeLink('late', aborted)
      }
    })
    assert.ok(await punch.open(session, forever))
    assert.deepEqual(aborted, ['abort late'])
  })

  it('a second round from another port begins beside the first when that leads to nothing, and the first link ends both', async () => {
    const { punch, session, clock, events, openPorts } = world({ arriving: (index) => index === 0 ? -1 : 1 })
    const opening = punch.open(session, forever)
    await clock.advance(LIMITS.punchSecondMs - 1)
    assert.deepEqual(events, ['ask 1', 'connect 50.2.0.2'])
    await clock.advance(1)
    assert.ok(await within('the link', 20_000, opening))
    assert.deepEqual(events, ['ask 1', 'connect 50.2.0.2', 'ask 1', 'connect 50.2.0.2', 'secure direct punched'])
    await clock.advance(0)
    assert.equal(openPorts(), 0)
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('the second round follows at once when the first met nobody; there is no third', async () => {
    const { punch, session, events, clock } = world({ arriving: 0 })
    await assert.rejects(punch.open(session, forever), { code: 'ERR_PEER_OFFLINE' })
    assert.deepEqual(events, ['ask 1', 'connect 50.2.0.2', 'ask 1', 'connect 50.2.0.2'])
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('I8: who declines is not asked again', async () => {
    const { punch, session, events, clock } = world({ answer: 'hard' })
    await assert.rejects(within('the end', 20_000, punch.open(session, forever)), { code: 'ERR_NOT_AVAILABLE', message: /other side/ })
    await clock.advance(LIMITS.punchTimeoutMs)
    assert.deepEqual(events, ['ask 1'])
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('the failure is that of the first round, also when the second is declined while the first goes on', async () => {
    const { punch, session, clock, openPorts } = world({ arriving: -1, answer: (askIndex) => askIndex === 0 ? [THERE] : 'no' })
    const failed = assert.rejects(punch.open(session, forever), { code: 'ERR_PEER_OFFLINE' })
    await clock.advance(LIMITS.punchSecondMs + LIMITS.punchTimeoutMs)
    await within('the end', 20_000, failed)
    assert.equal(openPorts(), 0)
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('I8: a friend whose sessions come and go gets so many rounds a minute, and no port or question after that', async () => {
    const { punch, session, clock, events, portCount } = world()
    for (let count = 0; count < LIMITS.punchAnswerCount; count++) assert.ok(await punch.open(session, forever))
    events.length = 0
    await assert.rejects(within('the end', 20_000, punch.open(session, forever)), { code: 'ERR_NOT_AVAILABLE' })
    assert.deepEqual(events, [])
    assert.equal(portCount(), LIMITS.punchAnswerCount)
    await clock.advance(LIMITS.punchAnswerSpanMs)
    assert.ok(await punch.open(session, forever))
  })
})

describe('ports that are made ready', () => {
  it('one that is ready is taken, one that is on its way is waited for', async () => {
    const going = Promise.withResolvers<undefined>()
    const { punch, session, events, portCount, openPorts } = world({ prepare: async () => { await going.promise } })
    punch.makeReady(device)
    punch.makeReady(device)
    const opening = punch.open(session, forever)
    going.resolve(undefined)
    assert.ok(await opening)
    assert.equal(portCount(), 1)
    assert.equal(openPorts(), 0)
    assert.equal(events[0], 'certificate')
  })

  it('I8: there are so many at once, and what nobody needs is closed', async () => {
    const { punch, clock, portCount, openPorts } = world()
    for (let count = 0; count < 10; count++) punch.makeReady(`did:key:z6MkFriend${count}` as Did)
    await clock.advance(LIMITS.punchReadyMs - 1)
    assert.equal(portCount(), LIMITS.punchReadyCount)
    assert.equal(openPorts(), LIMITS.punchReadyCount)
    await clock.advance(1)
    assert.equal(openPorts(), 0)
  })

  it('another network, or the end, closes them, also those that are not there yet', async () => {
    const { punch, clock, openPorts } = world()
    punch.makeReady(device)
    punch.clear()
    await clock.advance(0)
    assert.equal(openPorts(), 0)
    assert.equal(clock.pendingTimerCount(), 0)
    const stopped = world()
    stopped.punch.makeReady(device)
    await stopped.clock.advance(0)
    assert.equal(stopped.openPorts(), 1)
    await stopped.tasks.stop()
    await stopped.clock.advance(0)
    assert.equal(stopped.openPorts(), 0)
    stopped.punch.makeReady(device)
    assert.equal(stopped.portCount(), 1)
    assert.equal(stopped.clock.pendingTimerCount(), 0)
  })

  it('where none could be made another one is tried', async () => {
    let failures = 1
    const { punch, session, portCount } = world({
      prepare: async () => {
        if (failures-- > 0) throw new CarrierError('ERR_NOT_AVAILABLE', 'no relay told where this node is seen')
      }
    })
    punch.makeReady(device)
    assert.ok(await punch.open(session, forever))
    assert.equal(portCount(), 1)
  })

  it('I8: where none can be made, or no friend could use it, none is made ready until one was of use or the network changes', async () => {
    let isFailing = true
    let count = 0
    const { punch, session, clock } = world({
      prepare: async () => {
        count++
        if (isFailing) throw new CarrierError('ERR_NOT_AVAILABLE', 'no relay told where this node is seen')
      }
    })
    async function connectAgain (): Promise<void> {
      for (let again = 0; again < 10; again++) {
        punch.makeReady(device)
        await clock.advance(0)
      }
    }
    await connectAgain()
    assert.equal(count, 1, 'the relays are asked at the pace of a friend')
    punch.clear()
    await connectAgain()
    assert.equal(count, 2)
    isFailing = false
    assert.ok(await punch.open(session, forever))
    await connectAgain()
    assert.equal(count, 4)
    punch.clear()
    const dependent = world({ mapping: 'dependent' })
    for (const friend of ['a', 'b', 'c']) {
      dependent.punch.makeReady(`did:key:z6MkFriend${friend}` as Did)
      await dependent.clock.advance(0)
    }
    assert.equal(dependent.portCount(), 1)
    dependent.punch.clear()
  })

  it('I8: a node that cannot punch makes nothing ready, no certificate either', async () => {
    const { punch, events, portCount } = world({ canPunch: false })
    punch.makeReady(device)
    assert.deepEqual(events, [])
    assert.equal(portCount(), 0)
  })
})

describe('the other end', () => {
  async function ask (of: ReturnType<typeof world>, thenMs: number = LIMITS.punchTimeoutMs): Promise<PunchAnswer> {
    let answers = 0
    const answer = await new Promise<PunchAnswer>((resolve) => {
      of.punch.asked(of.session, [THERE], (candidates) => {
        answers++
        resolve(candidates)
      })
    })
    await of.clock.advance(thenMs)
    assert.equal(answers, 1)
    return answer
  }

  it('answers, lets the answer arrive, connects, and hands on what comes', async () => {
    const end = world()
    assert.deepEqual(await ask(end), [HERE])
    assert.deepEqual(end.events, ['connect 50.2.0.2', 'receive true punched'])
    assert.equal(end.openPorts(), 0)
  })

  it('a guest who is not the friend does not end the attempts', async () => {
    let guests = 0
    const end = world({ arriving: 3, isOneByOne: true, receive: async () => ++guests > 1 })
    const taken: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { taken.push(candidates) })
    await end.clock.advance(LIMITS.punchTimeoutMs)
    assert.deepEqual(taken, [[HERE]])
    assert.equal(guests, 2)
    assert.equal(end.openPorts(), 0)
  })

  it('the first proven link ends both rounds, and the end of the session does', async () => {
    const end = world({ arriving: (index) => index === 1 ? 1 : -1 })
    const answers: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { answers.push(candidates) })
    await end.clock.advance(LIMITS.punchAnswerMs)
    assert.equal(end.openPorts(), 1)
    end.punch.asked(end.session, [THERE], (candidates) => { answers.push(candidates) })
    await end.clock.advance(LIMITS.punchAnswerMs)
    assert.deepEqual(answers, [[HERE], [HERE]])
    assert.ok(end.events.includes('receive true punched'))
    assert.equal(end.openPorts(), 0)
    end.punch.asked(end.session, [THERE], () => {})
    await end.clock.advance(LIMITS.punchAnswerMs)
    assert.equal(end.openPorts(), 1)
    end.punch.forget(end.session)
    await end.clock.advance(0)
    assert.equal(end.openPorts(), 0)
    assert.equal(end.clock.pendingTimerCount(), 0)
  })

  it('says no where it cannot: no relay to ask, or a router that maps per destination', async () => {
    assert.equal(await ask(world({ canPunch: false })), 'no')
    const dependent = world({ mapping: 'dependent' })
    assert.equal(await ask(dependent), 'hard')
    assert.deepEqual(dependent.events, [])
    assert.equal(dependent.openPorts(), 0)
  })

  it('I8: says no to a friend who asks too fast, or too often in a minute', async () => {
    const end = world()
    const first: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { first.push(candidates) })
    const second: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { second.push(candidates) })
    assert.deepEqual(second, ['no'])
    await end.clock.advance(LIMITS.punchAnswerMs)
    assert.deepEqual(first, [[HERE]])
    for (let count = 1; count < LIMITS.punchAnswerCount; count++) assert.deepEqual(await ask(end, LIMITS.punchAnswerMs), [HERE])
    assert.equal(await ask(end, LIMITS.punchAnswerMs), 'no', 'so many a minute are enough')
    await end.clock.advance(LIMITS.punchAnswerSpanMs)
    assert.deepEqual(await ask(end), [HERE])
  })
})
