/** What happened on the channels of a run, and whether it may have happened. Pure: operations in, a verdict out. */

/** The end of a channel that opened it, and the one it leads to. */
export type ChannelSide = 'caller' | 'service'

/** Bytes of one direction so far, and their digest. */
export interface DirectionTotal { bytes: number, sha256: string }

/**
 * One thing that one end of a channel saw. `atMs` is a clock that both ends share. Whoever writes a history compares each
 * received byte with what the other side sends at that position of that channel (`foreign` when it differs), and notes
 * `finished` before it ends its direction.
 */
export type Operation = { channel: string, side: ChannelSide, atMs: number } & (
  | { kind: 'opened' }
  | { kind: 'moved', sentBytes: number, receivedBytes: number }
  | { kind: 'foreign', atBytes: number }
  | { kind: 'finished', total: DirectionTotal }
  | { kind: 'end', total: DirectionTotal }
  | { kind: 'error', code: string }
  | { kind: 'closed', sentBytes: number, receivedBytes: number })

/** What must not be. */
export interface Violation { channel: string, what: string }

/** A history judged. */
export interface Verdict {
  /** Channels on which both sides ended, and got all that the other one sent. */
  wholeCount: number
  /** Channels of which at least one side was told of a failure. */
  failedCount: number
  /** How many of those each error code tells of. */
  failures: ReadonlyMap<string, number>
  /** Failed channels one of whose sides had already ended in good order: its last bytes may be missing at the other, which knows. */
  halfToldCount: number
  violations: readonly Violation[]
  /** The longest time in which one side of an open channel saw nothing, and when it ended. */
  longestSilence: Silence
}

/** A time, and the instant at which it was over. */
export interface Gap { durationMs: number, untilMs: number }

/** A time in which one side of a channel saw nothing. */
export interface Silence extends Gap { channel: string }

/** A history that grows. Channels that are over are judged at once and forgotten but for their names. */
export interface History {
  note: (operation: Operation) => void
  /** Something that belongs to no channel. */
  accuse: (violation: Violation) => void
  /** Channels that are not closed at both ends. */
  openCount: () => number
  wholeCount: () => number
  /** Judges everything; what is still open counts as hanging. */
  verdict: (atMs: number) => Verdict
}

interface SideState { lastAtMs: number, sentBytes: number, receivedBytes: number, finished?: { atMs: number, total: DirectionTotal }, end?: { atMs: number, total: DirectionTotal }, error?: string, isClosed: boolean, silence: Gap }
type Channel = Partial<Record<ChannelSide, SideState>>
interface Judgement { outcome: 'whole' | 'failed', codes: string[], isHalfTold: boolean, violations: string[], silence: Gap }

const NO_SILENCE = { durationMs: 0, untilMs: 0 } as const
const OTHER: Readonly<Record<ChannelSide, ChannelSide>> = { caller: 'service', service: 'caller' }

/** Begins a history. One side of an open channel may see nothing for `hangMs`, not longer. */
export function createHistory (init: { hangMs: number }): History {
  const channels = new Map<string, Channel>()
  const over = new Set<string>()
  const violations: Violation[] = []
  const failures = new Map<string, number>()
  let wholeCount = 0
  let failedCount = 0
  let halfToldCount = 0
  let longestSilence: Silence = { channel: '', ...NO_SILENCE }

  function count (name: string, judgement: Judgement): void {
    if (judgement.outcome === 'whole') wholeCount++
    else failedCount++
    for (const code of judgement.codes) failures.set(code, (failures.get(code) ?? 0) + 1)
    if (judgement.isHalfTold) halfToldCount++
    for (const what of judgement.violations) violations.push({ channel: name, what })
    if (judgement.silence.durationMs > longestSilence.durationMs) longestSilence = { channel: name, ...judgement.silence }
  }

  return {
    note: (operation) => {
      const { channel: name, side } = operation
      if (over.has(name)) {
        violations.push({ channel: name, what: `the ${side} saw "${operation.kind}" after both sides had closed` })
        return
      }
      const channel = channels.get(name) ?? {}
      channels.set(name, channel)
      const what = apply(channel, operation)
      if (what !== undefined) violations.push({ channel: name, what })
      if (channel.caller?.isClosed !== true || channel.service?.isClosed !== true) return
      channels.delete(name)
      over.add(name)
      count(name, judge(channel, { hangMs: init.hangMs }))
    },
    accuse: (violation) => { violations.push(violation) },
    openCount: () => [...channels.values()].filter((channel) => (['caller', 'service'] as const).some((side) => channel[side]?.isClosed === false)).length,
    wholeCount: () => wholeCount,
    verdict: (atMs) => {
      for (const [name, channel] of channels) count(name, judge(channel, { hangMs: init.hangMs, atMs }))
      for (const name of channels.keys()) over.add(name)
      channels.clear()
      return { wholeCount, failedCount, failures, halfToldCount, violations, longestSilence }
    }
  }
}

/** Takes one operation into a channel; gives what is wrong with it alone. */
function apply (channel: Channel, operation: Operation): string | undefined {
  const { side, atMs } = operation
  const state = channel[side] ??= { lastAtMs: atMs, sentBytes: 0, receivedBytes: 0, isClosed: false, silence: NO_SILENCE }
  if (state.isClosed) return `the ${side} saw "${operation.kind}" after it had closed`
  state.silence = longer(state.silence, { durationMs: atMs - state.lastAtMs, untilMs: atMs })
  state.lastAtMs = atMs
  switch (operation.kind) {
    case 'opened': return undefined
    case 'moved':
    case 'closed': {
      const isLess = operation.sentBytes < state.sentBytes || operation.receivedBytes < state.receivedBytes
      state.sentBytes = operation.sentBytes
      state.receivedBytes = operation.receivedBytes
      state.isClosed = operation.kind === 'closed'
      return isLess ? `the ${side} counts fewer bytes than before` : undefined
    }
    case 'foreign': return `the ${side} received a byte at ${operation.atBytes} that the other side did not send there`
    case 'finished': {
      state.finished = { atMs, total: operation.total }
      return undefined
    }
    case 'end': {
      const isSecond = state.end !== undefined
      state.end ??= { atMs, total: operation.total }
      return isSecond ? `the ${side} saw two ends` : undefined
    }
    case 'error': {
      state.error ??= operation.code
      return undefined
    }
  }
}

/** Judges a channel that is over (`atMs` absent), or that is looked at for the last time. */
function judge (channel: Channel, { hangMs, atMs }: { hangMs: number, atMs?: number }): Judgement {
  const violations: string[] = []
  const codes: string[] = []
  let goodCount = 0
  let silence: Gap = NO_SILENCE
  for (const side of ['caller', 'service'] as const) {
    const state = channel[side]
    const other = channel[OTHER[side]]
    if (state === undefined) continue
    if (!state.isClosed && atMs !== undefined) state.silence = longer(state.silence, { durationMs: atMs - state.lastAtMs, untilMs: atMs })
    silence = longer(silence, state.silence)
    if (state.silence.durationMs > hangMs) violations.push(`the ${side} saw nothing for ${Math.round(state.silence.durationMs)} ms`)
    if (state.receivedBytes > (other?.sentBytes ?? 0)) violations.push(`the ${side} received ${state.receivedBytes} bytes, ${other?.sentBytes ?? 0} were sent`)
    if (state.end !== undefined) violations.push(...judgeEnd(side, state.end, other?.finished))
    if (state.error !== undefined) codes.push(state.error)
    if (!state.isClosed) violations.push(`the ${side} hangs: neither complete nor failed`)
    else if (state.error === undefined && (state.end === undefined || state.finished === undefined)) violations.push(`the ${side} closed without an end and without an error`)
    if (state.isClosed && state.error === undefined && state.end !== undefined && state.finished !== undefined) goodCount++
  }
  if (channel.caller !== undefined && channel.service === undefined && channel.caller.isClosed && codes.length === 0) violations.push('the service never saw it, and the caller was told of no failure')
  return { outcome: goodCount === 2 ? 'whole' : 'failed', codes, isHalfTold: goodCount === 1 && codes.length > 0, violations, silence }
}

function judgeEnd (side: ChannelSide, end: { atMs: number, total: DirectionTotal }, finished: { atMs: number, total: DirectionTotal } | undefined): string[] {
  if (finished === undefined) return [`a false end: the ${side} saw one after ${end.total.bytes} bytes, and the other side has not ended`]
  if (finished.atMs > end.atMs) return [`a false end: the ${side} saw one before the other side ended`]
  if (finished.total.bytes !== end.total.bytes) return [`the ${side} saw an end after ${end.total.bytes} of ${finished.total.bytes} bytes`]
  return finished.total.sha256 === end.total.sha256 ? [] : [`the ${side} has other bytes than the other side sent`]
}

function longer (one: Gap, other: Gap): Gap {
  return other.durationMs > one.durationMs ? other : one
}
