/** What the steps of a trace mean: sentences, and where the time goes. Pure. */
import { explainFailure } from '../forwarding/index.ts'
import { CarrierError } from '../base/index.ts'
import type { ErrorCode } from '../base/index.ts'
import type { RelayStatus } from '../node/index.ts'
import type { Session } from '../session/index.ts'
import type { TraceReport, TraceStep } from '../carrier-types.ts'
import { offlineAdvice } from './way-report.ts'

/** How the program behind a service answered: it spoke first, it closed when we did, or it keeps silent. */
export type Answer = 'spoke' | 'closed' | 'silent'

/** What the steps found; times in milliseconds, undefined where a step was not reached. */
export interface TraceFacts {
  label: string
  service: string
  /** Undefined: there was a session already. */
  dialMs?: number
  way?: Pick<Session, 'link' | 'path' | 'relayPeerId'>
  roundTripMs?: number
  relayMs?: number
  openMs?: number
  answerMs?: number
  answer?: Answer
  failure?: { step: TraceStep['step'], code: ErrorCode, message: string }
}

/** The one answer for hidden, missing and not allowed (I3). */
export function noOffer (): string {
  return 'not offered to you, or not there'
}

/** How bytes go. */
export function describeWay ({ path, link, relayPeerId }: NonNullable<TraceFacts['way']>): string {
  return `there and back, ${path}${relayPeerId === undefined ? '' : ` through ${relayPeerId}`}, link: ${link}`
}

/** What the figure of the relay says; it is the relay's own, of another moment. */
export function describeRelay ({ label, roundTripMs = 0 }: TraceFacts, relayMs: number): string {
  return `from here to the relay and back, as last measured${relayMs < roundTripMs ? `; the rest of the way is between the relay and ${label}` : ''}`
}

/** What a passed probe says. */
export function describeOpen ({ label, roundTripMs }: TraceFacts, openMs: number): string {
  return `${label} allowed it and its program took a connection; ${formatMs(Math.max(0, openMs - (roundTripMs ?? 0)))} of it over there`
}

/** What the program did. */
export function describeAnswer (answer: Answer): string {
  switch (answer) {
    case 'spoke': return 'a connection, recorded over there as any other, until the first byte of the program'
    case 'closed': return 'a connection, recorded over there as any other, until the program closed it because we did'
    case 'silent': return 'a connection, recorded over there as any other; the program took it and waits for its client to speak'
  }
}

/** Why a step failed. */
export function describeFailure ({ code, message, step }: NonNullable<TraceFacts['failure']>, { label, service }: TraceFacts): string {
  if (code === 'ERR_NOT_AVAILABLE' && (step === 'open' || step === 'answer')) return noOffer()
  return step === 'open' || step === 'answer' ? explain(code, message, { label, service }) : message
}

/** The sentence at the end, and what would help. */
export function concludeTrace (facts: TraceFacts, relays: readonly RelayStatus[]): Pick<TraceReport, 'summary' | 'advice'> {
  return facts.failure === undefined ? concludeSuccess(facts) : concludeFailure(facts, facts.failure, relays)
}

function concludeFailure ({ label, service }: TraceFacts, failure: NonNullable<TraceFacts['failure']>, relays: readonly RelayStatus[]): Pick<TraceReport, 'summary' | 'advice'> {
  const { step, code, message } = failure
  if (step === 'friend') return { summary: message, advice: ['wait for the answer; "carrier friend list" shows it'] }
  if (step === 'session') return { summary: `${label} cannot be reached: ${message}`, advice: offlineAdvice(label, code, relays) }
  if (step === 'way' || step === 'offer') return { summary: `${label} was there, but did not answer: ${message}`, advice: [`try again; if it stays so, look at "carrier why ${label}"`] }
  const summary = explain(code, message, { label, service })
  if (code === 'ERR_TARGET_UNREACHABLE') return { summary, advice: [`ask ${label} to look at the program, and at: carrier doctor`] }
  if (code === 'ERR_LIMIT') return { summary, advice: ['close some of them: "carrier forward list" counts yours'] }
  return { summary, advice: code === 'ERR_LINK_LOST' || code === 'ERR_TIMEOUT' ? [`look at the way: carrier why ${label}`] : [] }
}

/** As a forward says it, but that nothing is tried again by itself here. */
function explain (code: ErrorCode, message: string, names: Pick<TraceFacts, 'label' | 'service'>): string {
  return explainFailure(new CarrierError(code, message), names).replace(/(?:;|,) it is tried again by itself$/, '')
}

function concludeSuccess (facts: TraceFacts): Pick<TraceReport, 'summary' | 'advice'> {
  const { label, service, dialMs, way, roundTripMs = 0, openMs = 0, answerMs = 0, answer } = facts
  // a program that waits for its client says nothing about time: the probe does
  const wholeMs = answer === 'silent' ? openMs : answerMs
  const thereMs = Math.max(0, wholeMs - roundTripMs)
  const opened = dialMs === undefined ? '' : `; opening the session took ${formatMs(dialMs)} more, once`
  const summary = `a connection to ${label}/${service} takes ${formatMs(wholeMs)}: ${formatMs(Math.min(roundTripMs, wholeMs))} the way there and back, ${formatMs(thereMs)} at ${label} (deciding, recording, the program)${opened}`
  if (wholeMs < UNNOTICED_MS) return { summary, advice: [] }
  if (thereMs > roundTripMs) return { summary, advice: [`most of it is at ${label}: look there at the program behind "${service}", and at the disk (carrier doctor)`] }
  return { summary, advice: way?.link === 'direct' ? [] : [`most of it is the way, which is not direct; what would help is in: carrier why ${label}`] }
}

/** Nobody feels less; advice would only be noise. */
const UNNOTICED_MS = 50

function formatMs (ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`
}
