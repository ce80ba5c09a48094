import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { LIMITS } from '../../../src/base/index.ts'
import type { RelayStatus } from '../../../src/node/index.ts'
import { traceService } from '../../../src/explain/trace.ts'
import type { TraceReport } from '../../../src/carrier-types.ts'
import { concludeTrace } from '../../../src/explain/trace-words.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { startForwardingPair } from '../../support/forwarding-pair.ts'
import type { ForwardingPair } from '../../support/forwarding-pair.ts'
import { freePort, startEcho, startTarget } from '../../support/target-server.ts'
import type { TargetServer } from '../../support/target-server.ts'
import { PATIENT, waitFor } from '../../support/wait.ts'

const RELAY: RelayStatus = { peerId: 'relay', address: '/a', state: 'reserved', rttMs: 7, loadPermille: undefined, isChosen: true, reason: undefined }
const steps = (report: TraceReport): string[] => report.steps.map(({ step, result }) => `${step} ${result}`)
const textOf = (report: TraceReport, step: string): string => report.steps.find((item) => item.step === step)?.text ?? ''

describe('a trace', () => {
  let pair: ForwardingPair
  let echo: TargetServer
  let greeter: TargetServer
  let mute: TargetServer

  before(async () => {
    echo = await startEcho()
    greeter = await startTarget((socket) => { socket.write('hello\n') })
    mute = await startTarget((socket) => { socket.resume() })
    pair = await startForwardingPair()
    for (const [name, { target }] of Object.entries({ echo, greeter, mute })) pair.office.forwarding.serve(name, target, { allow: ['laptop'] })
    pair.office.forwarding.serve('hidden', echo.target)
    pair.office.forwarding.serve('down', String(await freePort()), { allow: ['laptop'] })
  })
  after(async () => {
    await pair.stop()
    await Promise.all([echo, greeter, mute].map(async (target) => target.close()))
  })
  beforeEach(() => {
    pair.office.audit.entries.length = 0
    pair.office.audit.refusals.length = 0
  })

  const isRecorded = (event: string, service: string): boolean => pair.office.audit.entries.some((entry) => entry.event === event && entry.service === service)

  async function trace (to: string, init: { clock?: ReturnType<typeof createFakeClock>, signal?: AbortSignal } = {}): Promise<TraceReport> {
    const { forwarding, friends } = pair.laptop
    const clock = init.clock ?? createFakeClock()
    return traceService({ friends, sessions: pair.sessions.bob, forwarding, relays: () => [RELAY], clock }, to, init.signal === undefined ? {} : { signal: init.signal })
  }

  it('takes every step to a service that answers, and is on record as an access', async () => {
    const report = await trace('office/echo')
    assert.deepEqual(steps(report), ['friend ok', 'session ok', 'way ok', 'relay ok', 'offer ok', 'open ok', 'answer ok'])
    assert.deepEqual([report.did, report.label, report.service, report.code], [pair.office.did, 'office', 'echo', undefined])
    assert.equal(textOf(report, 'way'), 'there and back, relayed through relay, link: stream')
    assert.equal(report.steps.find(({ step }) => step === 'relay')?.ms, 7)
    assert.match(textOf(report, 'answer'), /until the program closed it/)
    assert.match(report.summary, /^a connection to office\/echo takes /)
    await waitFor('the end of the access', () => isRecorded('conn.close', 'echo'), PATIENT)
    assert.deepEqual(pair.office.audit.entries.map(({ event, service, owner }) => [event, service, owner]), [
      ['conn.open', 'echo', pair.laptop.did], ['conn.close', 'echo', pair.laptop.did]], 'the probe is counted, the connection recorded')
  })

  it('tells a session that was there from one that it opened', async () => {
    await pair.sessions.loseLink()
    const first = await trace('office/echo')
    assert.match(textOf(first, 'session'), /opened now/)
    assert.match(first.summary, /opening the session took/)
    const second = await trace('office/echo')
    assert.match(textOf(second, 'session'), /there already/)
    assert.equal(second.steps.find(({ step }) => step === 'session')?.ms, undefined)
    assert.doesNotMatch(second.summary, /opening the session/)
  })

  it('sees the first byte of a program that speaks first', async () => {
    assert.match(textOf(await trace('office/greeter'), 'answer'), /first byte/)
  })

  it('leaves a program that waits for its client after a while', async () => {
    const clock = createFakeClock()
    const traced = trace('office/mute', { clock })
    await waitFor('the connection', () => isRecorded('conn.open', 'mute'), PATIENT)
    await waitFor('the answer', async () => {
      await clock.advance(LIMITS.traceAnswerMs)
      return Promise.race([traced, Promise.resolve(undefined)])
    }, PATIENT)
    const report = await traced
    assert.equal(report.code, undefined)
    assert.match(textOf(report, 'answer'), /waits for its client to speak/)
    await waitFor('the connection to be gone', () => isRecorded('conn.close', 'mute'), PATIENT)
  })

  it('I3: hidden and missing are one report in the words of a connection', async () => {
    const [hidden, missing] = await Promise.all(['hidden', 'missing'].map(async (name) => {
      const report = await trace(`office/${name}`)
      return JSON.stringify(report, (key, value: unknown) => key === 'ms' ? undefined : value).replaceAll(name, 'X')
    }))
    assert.equal(hidden, missing)
    const report = await trace('office/hidden')
    assert.equal(report.code, 'ERR_NOT_AVAILABLE')
    assert.deepEqual(steps(report).slice(-2), ['offer failed', 'open failed'])
    assert.equal(textOf(report, 'offer'), 'not offered to you, or not there')
    assert.equal(textOf(report, 'open'), 'not offered to you, or not there')
    assert.match(report.summary, /^office does not offer "hidden" to you, or it is not there; ask them for: carrier grant YOU hidden$/)
    assert.ok(pair.office.audit.refusals.length > 0, 'the refusal is on record there')
    assert.ok(!isRecorded('conn.open', 'hidden'))
  })

  it('says that a target is down', async () => {
    const report = await trace('office/down')
    assert.equal(report.code, 'ERR_TARGET_UNREACHABLE')
    assert.deepEqual(steps(report).slice(-2), ['offer ok', 'open failed'])
    assert.match(report.summary, /the program behind "down" did not/)
    assert.ok(report.advice.length > 0)
  })

  it('says that the friend cannot be reached, or has not accepted yet', async () => {
    await pair.sessions.loseLink()
    pair.sessions.setOffline(true)
    const report = await trace('office/echo')
    pair.sessions.setOffline(false)
    assert.deepEqual([steps(report), report.code], [['friend ok', 'session failed'], 'ERR_PEER_OFFLINE'])
    assert.match(report.summary, /^office cannot be reached: no path/)
    assert.match(report.advice.join(), /carrier status/)
    pair.laptop.friends.add(pair.office.did, 'office', 'requested')
    const asked = await trace('office/echo')
    pair.laptop.friends.add(pair.office.did, 'office')
    assert.deepEqual([steps(asked), asked.code], [['friend failed'], 'ERR_PEER_OFFLINE'])
  })

  it('gives a friend who keeps silent up', async () => {
    await pair.sessions.loseLink()
    pair.sessions.setSilent(true)
    const clock = createFakeClock()
    const traced = trace('office/echo', { clock })
    await clock.advance(LIMITS.traceStepMs)
    const report = await traced
    pair.sessions.setSilent(false)
    assert.equal(report.code, 'ERR_TIMEOUT')
    assert.equal(clock.pendingTimerCount(), 0)
  })

  it('throws for a name that nobody has, for a service that is no name, and when it is cancelled', async () => {
    await assert.rejects(trace('bob/echo'), { code: 'ERR_UNKNOWN_FRIEND' })
    await assert.rejects(trace('office'), { code: 'ERR_INVALID_ARGUMENT' })
    const gone = new Error('the client went away')
    await assert.rejects(trace('office/echo', { signal: AbortSignal.abort(gone) }), (err) => err === gone)
  })
})

describe('the sentence at the end of a trace', () => {
  const facts = { label: 'office', service: 'db', way: { link: 'splice', path: 'spliced', relayPeerId: 'r' } as const, roundTripMs: 80, openMs: 90, answerMs: 100, answer: 'closed' as const }

  it('says where the time goes, and what would help there', () => {
    assert.deepEqual(concludeTrace(facts, []), {
      summary: 'a connection to office/db takes 100 ms: 80 ms the way there and back, 20 ms at office (deciding, recording, the program)',
      advice: ['most of it is the way, which is not direct; what would help is in: carrier why office']
    })
    assert.deepEqual(concludeTrace({ ...facts, way: { link: 'direct', path: 'punched', relayPeerId: undefined } }, []).advice, [])
    assert.match(concludeTrace({ ...facts, answerMs: 500 }, []).advice.join(), /most of it is at office/)
    assert.deepEqual(concludeTrace({ ...facts, roundTripMs: 8, answerMs: 10 }, []).advice, [], 'nobody feels it')
    assert.match(concludeTrace({ ...facts, dialMs: 1234 }, []).summary, /; opening the session took 1234 ms more, once$/)
  })

  it('does not count the silence of a program that waits for its client', () => {
    assert.match(concludeTrace({ ...facts, answerMs: 2000, answer: 'silent' }, []).summary, /takes 90 ms/)
  })
})
