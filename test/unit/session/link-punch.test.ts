import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { CarrierError, createTaskOwner, LIMITS, silentLogger } from '../../../src/base/index.ts'
import type { HostAndPort } from '../../../src/base/index.ts'
import type { Did } from '../../../src/identity/index.ts'
import type { PunchPort } from '../../../src/node/index.ts'
import { createLinkPunch } from '../../../src/session/link-punch.ts'
import type { LinkPunch } from '../../../src/session/link-punch.ts'
import type { PunchAnswer } from '../../../src/session/frames.ts'
import type { Link } from '../../../src/session/link.ts'
import type { LiveSession } from '../../../src/session/live-session.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const HERE: HostAndPort = { host: '50.1.0.2', port: 20_001 }
const THERE: HostAndPort = { host: '50.2.0.2', port: 20_002 }
const device = 'did:key:z6MkFriend' as Did

/** One end with a router that lets `arriving` sockets through; `secure` decides what each is worth. */
function world (init: { mapping?: PunchPort['mapping'], arriving?: number, secure?: (index: number, signal: AbortSignal) => Promise<Link>, canPunch?: boolean, answer?: PunchAnswer } = {}) {
  const clock = createFakeClock()
  const events: string[] = []
  let openPorts = 0
  let secureCount = 0
  const port = (): PunchPort => {
    openPorts++
    return {
      candidates: [HERE],
      mapping: init.mapping ?? 'independent',
      observed: [HERE],
      connect: async (offered, rttMs, onSocket) => {
        events.push(`connect ${offered.map(({ host }) => host).join()} ${rttMs}`)
        await Promise.all(Array.from({ length: init.arriving ?? 1 }, async () => onSocket(new Socket())))
      },
      close: () => { openPorts-- }
    }
  }
  const punch: LinkPunch = createLinkPunch({
    node: { canPunch: () => init.canPunch ?? true, preparePunch: async () => port() },
    opener: {
      secure: async (_socket, _device, way, signal) => {
        events.push(`secure ${way.kind} ${way.path}`)
        return init.secure === undefined ? fakeLink('first', events) : init.secure(secureCount++, signal)
      }
    },
    clock,
    log: silentLogger,
    tasks: createTaskOwner(silentLogger),
    receive: (socket, from, way) => {
      events.push(`receive ${from === device} ${way.path}`)
      socket.destroy()
    }
  })
  const session = {
    peer: { device, owner: device },
    links: { sending: { rttMs: 80 } },
    asks: {
      askPunch: async (candidates: readonly HostAndPort[]) => {
        events.push(`ask ${candidates.length}`)
        return init.answer ?? [THERE]
      }
    }
  } as unknown as LiveSession
  return { clock, events, punch, session, openPorts: () => openPorts }
}

function fakeLink (name: string, events: string[]): Link {
  return { abort: () => { events.push(`abort ${name}`) } } as unknown as Link
}

const forever = new AbortController().signal

describe('the controller punches', () => {
  it('asks, connects to what was answered, and gives the link whose other end is proven', async () => {
    const { punch, session, events, openPorts } = world()
    assert.ok(await punch.open(session, forever))
    assert.deepEqual(events, ['ask 1', 'connect 50.2.0.2 80', 'secure direct punched'])
    assert.equal(openPorts(), 0)
  })

  it('does not ask when its own router maps per destination', async () => {
    const { punch, session, events, openPorts } = world({ mapping: 'dependent' })
    await assert.rejects(punch.open(session, forever), { code: 'ERR_NOT_AVAILABLE' })
    assert.deepEqual(events, [])
    assert.equal(openPorts(), 0)
  })

  it('gives up when the other side says no, and when nothing comes through', async () => {
    const declined = world({ answer: 'no' })
    await assert.rejects(declined.punch.open(declined.session, forever), { code: 'ERR_NOT_AVAILABLE' })
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
})

describe('the other end', () => {
  async function ask (of: ReturnType<typeof world>): Promise<PunchAnswer> {
    let answers = 0
    const answer = await new Promise<PunchAnswer>((resolve) => {
      of.punch.asked(of.session, [THERE], (candidates) => {
        answers++
        resolve(candidates)
      })
    })
    await of.clock.advance(LIMITS.punchTimeoutMs)
    assert.equal(answers, 1)
    return answer
  }

  it('answers, lets the answer arrive, connects, and hands on what comes', async () => {
    const end = world()
    assert.deepEqual(await ask(end), [HERE])
    assert.deepEqual(end.events, ['connect 50.2.0.2 80', 'receive true punched'])
    assert.equal(end.openPorts(), 0)
  })

  it('says no where it cannot: no relay to ask, or a router that maps per destination', async () => {
    assert.equal(await ask(world({ canPunch: false })), 'no')
    const dependent = world({ mapping: 'dependent' })
    assert.equal(await ask(dependent), 'hard')
    assert.deepEqual(dependent.events, [])
    assert.equal(dependent.openPorts(), 0)
  })

  it('I8: says no to a friend who asks faster than once a second, or more than six times a minute', async () => {
    const end = world()
    const first: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { first.push(candidates) })
    const second: unknown[] = []
    end.punch.asked(end.session, [THERE], (candidates) => { second.push(candidates) })
    assert.deepEqual(second, ['no'])
    await end.clock.advance(LIMITS.punchTimeoutMs)
    assert.deepEqual(first, [[HERE]])
    for (let count = 1; count < LIMITS.punchAnswerCount; count++) assert.deepEqual(await ask(end), [HERE])
    assert.equal(await ask(end), 'no', 'six a minute are enough')
    await end.clock.advance(LIMITS.punchAnswerSpanMs)
    assert.deepEqual(await ask(end), [HERE])
  })
})
