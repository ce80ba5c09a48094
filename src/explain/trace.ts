/** `carrier trace`: takes the steps of a connection to a friend's service one by one and times each. The words are in trace-words.ts. */
import { CarrierError, errorCode, errorMessage, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { liveSession, openFriendSession, parseServiceReference, probeService } from '../forwarding/index.ts'
import type { Forwarding } from '../forwarding/index.ts'
import type { Friend, Friends } from '../friends/index.ts'
import type { RelayStatus } from '../node/index.ts'
import type { Session, SessionManager } from '../session/index.ts'
import type { TraceReport, TraceStep } from '../carrier-types.ts'
import { concludeTrace, describeAnswer, describeFailure, describeOpen, describeRelay, describeWay, noOffer } from './trace-words.ts'
import type { Answer, TraceFacts } from './trace-words.ts'

/** What a trace works with. */
export interface TraceComponents {
  friends: Pick<Friends, 'resolve'>
  sessions: Pick<SessionManager, 'get' | 'open'>
  forwarding: Pick<Forwarding, 'remoteServices' | 'dial'>
  relays: () => RelayStatus[]
  clock: Clock
}

/**
 * Traces. What goes wrong on the way stands in the report.
 *
 * @throws CarrierError ERR_UNKNOWN_FRIEND, ERR_INVALID_ARGUMENT, or the signal's reason
 */
export async function traceService (components: TraceComponents, to: string, options: { signal?: AbortSignal } = {}): Promise<TraceReport> {
  const { friends, sessions, forwarding, clock } = components
  const { who, service } = parseServiceReference(to)
  const friend = friends.resolve(who)
  const facts: TraceFacts = { label: friend.label, service }
  const steps: TraceStep[] = []

  /** One step with its time; undefined when it failed, and then the trace ends. */
  async function take<T> (step: TraceStep['step'], work: (signal: AbortSignal) => Promise<T>, describe: (value: T, ms: number) => Pick<TraceStep, 'text'> & Partial<TraceStep>): Promise<T | undefined> {
    const startedMs = clock.monotonicMs()
    try {
      using deadline = startDeadline(clock, LIMITS.traceStepMs, `no answer within ${LIMITS.traceStepMs / 1000} s`, options.signal)
      const value = await work(deadline.signal)
      const ms = clock.monotonicMs() - startedMs
      steps.push({ step, result: 'ok', ms, ...describe(value, ms) })
      return value
    } catch (err) {
      options.signal?.throwIfAborted()
      const code = errorCode(err)
      facts.failure = { step, code, message: errorMessage(err) }
      steps.push({ step, result: 'failed', ms: clock.monotonicMs() - startedMs, text: describeFailure(facts.failure, facts) })
      return undefined
    }
  }

  function end (): TraceReport {
    return { did: friend.owner, label: friend.label, service, steps, code: facts.failure?.code, ...concludeTrace(facts, components.relays()) }
  }

  await take('friend', async () => { assertFriend(friend) }, () => ({ ms: undefined, text: `${friend.label} is ${friend.owner}` }))
  if (facts.failure !== undefined) return end()

  const found = liveSession(sessions, friend)
  const session = await take('session', async (signal) => found ?? openFriendSession(sessions, friend, signal), (_session, ms) => {
    if (found !== undefined) return { ms: undefined, text: 'it is there already' }
    facts.dialMs = ms
    return { text: 'there was none: it was opened now, and is kept' }
  })
  if (session === undefined) return end()

  await take('way', async (signal) => medianRoundTrip(session, signal), (ms) => {
    facts.way = { link: session.link, path: session.path, relayPeerId: session.relayPeerId }
    facts.roundTripMs = ms
    return { ms, text: describeWay(facts.way) }
  })
  if (facts.failure !== undefined) return end()
  const relay = components.relays().find(({ peerId }) => peerId === session.relayPeerId)
  if (relay?.rttMs !== undefined) {
    facts.relayMs = relay.rttMs
    steps.push({ step: 'relay', result: 'ok', ms: relay.rttMs, text: describeRelay(facts, relay.rttMs) })
  }

  await take('offer', async (signal) => forwarding.remoteServices(friend.owner, { signal }), (names) => {
    // what the list leaves out is asked for all the same: only the answer to that counts
    return names.includes(service) ? { text: `${friend.label} lets you dial it` } : { result: 'failed', text: noOffer() }
  })
  if (facts.failure !== undefined) return end()

  await take('open', async (signal) => { await probeService(session, service, signal) }, (_value, ms) => {
    facts.openMs = ms
    return { text: describeOpen(facts, ms) }
  })
  if (facts.failure !== undefined) return end()

  await take('answer', async (signal) => {
    facts.answer = await firstAnswer(forwarding, `${friend.owner}/${service}`, clock, signal)
    return facts.answer
  }, (answer, ms) => {
    facts.answerMs = ms
    return { text: describeAnswer(answer) }
  })
  return end()
}

function assertFriend (friend: Friend): void {
  if (friend.state === 'requested') throw new CarrierError('ERR_PEER_OFFLINE', `${friend.label} has not accepted your request yet`)
}

/** Median of a few, one after the other; the first of a session that slept may be an outlier. */
async function medianRoundTrip (session: Session, signal: AbortSignal): Promise<number> {
  const times: number[] = []
  for (let count = 0; count < LIMITS.tracePingCount; count++) times.push(await session.ping({ signal }))
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0
}

/**
 * A connection as any other, also in the friend's audit log: says at once that no byte will come from us and waits for what
 * comes first. Some programs greet, most others close; one that does neither is left after LIMITS.traceAnswerMs.
 */
async function firstAnswer (forwarding: Pick<Forwarding, 'dial'>, to: string, clock: Clock, signal: AbortSignal): Promise<Answer> {
  const channel = await forwarding.dial(to, { signal })
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const timer = clock.setTimer(() => { resolve('silent') }, LIMITS.traceAnswerMs)
      signal.addEventListener('abort', () => { reject(toCarrierError(signal.reason, 'ERR_CANCELLED', 'the trace was cancelled')) }, { once: true })
      channel.once('data', () => { resolve('spoke') })
      channel.once('end', () => { resolve('closed') })
      channel.on('error', (err: unknown) => { reject(toCarrierError(err, 'ERR_LINK_LOST')) })
      channel.once('close', () => {
        timer.cancel()
        reject(new CarrierError('ERR_LINK_LOST', 'the connection ended without a word'))
      })
      channel.end()
    })
  } finally {
    channel.destroy()
  }
}
