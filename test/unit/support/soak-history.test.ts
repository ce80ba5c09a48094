/** The judge of soak and nemesis: it accepts what may happen on a channel, and nothing else. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { createHistory } from '../../soak/history.ts'
import type { ChannelSide, Operation, Verdict } from '../../soak/history.ts'

const HANG_MS = 1_000

interface Told { sent: number, received: number, atMs: number, lines: Operation[] }

function total (direction: string, bytes: number): { bytes: number, sha256: string } {
  return { bytes, sha256: createHash('sha256').update(`${direction} ${bytes}`).digest('hex') }
}

/** A channel that went well: what each side saw, in its own order. */
function wholeChannel (channel: string, upBytes: number, downBytes: number, steps: number, startMs: number): { caller: Operation[], service: Operation[] } {
  const make = (side: ChannelSide): Told => ({ sent: side === 'caller' ? upBytes : downBytes, received: side === 'caller' ? downBytes : upBytes, atMs: startMs, lines: [] })
  const sides = { caller: make('caller'), service: make('service') }
  for (const side of ['caller', 'service'] as const) {
    const told = sides[side]
    const [own, other] = side === 'caller' ? ['up', 'down'] : ['down', 'up']
    const base = { channel, side }
    told.lines.push({ ...base, atMs: startMs, kind: 'opened' })
    for (let step = 1; step <= steps; step++) told.lines.push({ ...base, atMs: startMs + step, kind: 'moved', sentBytes: Math.floor(told.sent * step / steps), receivedBytes: Math.floor(told.received * step / steps) })
    told.lines.push({ ...base, atMs: startMs + steps + 1, kind: 'finished', total: total(own ?? '', told.sent) })
    told.lines.push({ ...base, atMs: startMs + steps + 2, kind: 'end', total: total(other ?? '', told.received) })
    told.lines.push({ ...base, atMs: startMs + steps + 3, kind: 'closed', sentBytes: told.sent, receivedBytes: told.received })
  }
  return { caller: sides.caller.lines, service: sides.service.lines }
}

function judged (operations: readonly Operation[], atMs = 10_000): Verdict {
  const history = createHistory({ hangMs: HANG_MS })
  for (const operation of operations) history.note(operation)
  return history.verdict(atMs)
}

function whats (verdict: Verdict): string[] {
  return verdict.violations.map(({ what }) => what)
}

const channelSizes = fc.record({ up: fc.nat(100_000), down: fc.nat(100_000), steps: fc.integer({ min: 1, max: 10 }) })

describe('channels that went well', () => {
  test('are whole, however the two sides and the channels are told in turns', () => {
    fc.assert(fc.property(fc.array(channelSizes, { minLength: 1, maxLength: 6 }), fc.infiniteStream(fc.nat()), (sizes, chance) => {
      const queues = sizes.flatMap(({ up, down, steps }, index) => {
        const { caller, service } = wholeChannel(`c${index}`, up, down, steps, 100)
        return [caller, service]
      })
      const mixed: Operation[] = []
      while (queues.some((queue) => queue.length > 0)) {
        const filled = queues.filter((queue) => queue.length > 0)
        const operation = filled[(chance.next().value ?? 0) % filled.length]?.shift()
        if (operation !== undefined) mixed.push(operation)
      }
      const verdict = judged(mixed)
      assert.deepEqual(verdict.violations, [])
      assert.deepEqual([verdict.wholeCount, verdict.failedCount], [sizes.length, 0])
    }))
  })
})

describe('channels that failed with an error', () => {
  test('are accepted wherever they broke off, when both sides were told', () => {
    fc.assert(fc.property(channelSizes, fc.nat(), fc.nat(), ({ up, down, steps }, callerCut, serviceCut) => {
      const { caller, service } = wholeChannel('c', up, down, steps, 0)
      const cut = (lines: Operation[], at: number, side: ChannelSide): Operation[] => {
        // before its end: what came is a prefix of what was handed over
        const kept = lines.slice(0, 1 + at % steps)
        const last = kept.findLast((line) => line.kind === 'moved')
        const atMs = kept.at(-1)?.atMs ?? 0
        return [...kept, { channel: 'c', side, atMs, kind: 'error', code: 'ECONNRESET' }, { channel: 'c', side, atMs, kind: 'closed', sentBytes: side === 'caller' ? up : down, receivedBytes: last?.receivedBytes ?? 0 }]
      }
      const verdict = judged([...cut(caller, callerCut, 'caller'), ...cut(service, serviceCut, 'service')])
      assert.deepEqual([verdict.violations, verdict.wholeCount, verdict.failedCount, verdict.failures.get('ECONNRESET')], [[], 0, 1, 2])
    }))
  })

  test('one that never came to the service is accepted with an error, and not without', () => {
    const opened: Operation = { channel: 'c', side: 'caller', atMs: 0, kind: 'opened' }
    const closed: Operation = { channel: 'c', side: 'caller', atMs: 1, kind: 'closed', sentBytes: 10, receivedBytes: 0 }
    assert.deepEqual(judged([opened, { channel: 'c', side: 'caller', atMs: 1, kind: 'error', code: 'ECONNRESET' }, closed]).violations, [])
    assert.equal(judged([opened, closed]).violations.length, 2)
  })

  test('one side that was whole before the other failed is counted apart', () => {
    const { caller, service } = wholeChannel('c', 10, 10, 2, 0)
    const verdict = judged([...caller, ...service.filter((_line, index) => index < 2 || index === 3), { channel: 'c', side: 'service', atMs: 5, kind: 'error', code: 'ECONNRESET' }, { channel: 'c', side: 'service', atMs: 5, kind: 'closed', sentBytes: 10, receivedBytes: 5 }])
    assert.deepEqual([verdict.violations, verdict.failedCount, verdict.halfToldCount], [[], 1, 1])
  })
})

describe('what must not be', () => {
  const { caller, service } = wholeChannel('c', 1000, 2000, 2, 0)
  const all = [...caller, ...service]
  const replaced = (isIt: (line: Operation) => boolean, by: (line: Operation) => Operation[]): Operation[] => all.flatMap((line) => isIt(line) ? by(line) : [line])
  const isAt = (side: ChannelSide, kind: Operation['kind']) => (line: Operation): boolean => line.side === side && line.kind === kind

  test('an end although the other side has not ended', () => {
    assert.match(whats(judged(replaced(isAt('service', 'finished'), () => []))).join('\n'), /false end: the caller .* has not ended/)
  })
  test('an end before the other side ended', () => {
    assert.match(whats(judged(replaced(isAt('service', 'finished'), (line) => [{ ...line, atMs: 4.5 }]))).join('\n'), /false end: the caller saw one before/)
  })
  test('an end after a part of the bytes', () => {
    fc.assert(fc.property(fc.nat(1999), (bytes) => {
      assert.match(whats(judged(replaced(isAt('caller', 'end'), (line) => [{ ...line, kind: 'end', total: total('down', bytes) }]))).join('\n'), new RegExp(`an end after ${bytes} of 2000`))
    }))
  })
  test('other bytes than were sent', () => {
    assert.deepEqual(whats(judged(replaced(isAt('caller', 'end'), (line) => [{ ...line, kind: 'end', total: total('of another channel', 2000) }]))), ['the caller has other bytes than the other side sent'])
    assert.match(whats(judged([...caller.slice(0, 2), { channel: 'c', side: 'caller', atMs: 2, kind: 'foreign', atBytes: 7 }, ...caller.slice(2), ...service])).join('\n'), /byte at 7/)
  })
  test('more bytes than were sent', () => {
    assert.match(whats(judged(replaced(isAt('service', 'closed'), (line) => [{ ...line, kind: 'closed', sentBytes: 2000, receivedBytes: 1001 }]))).join('\n'), /received 1001 bytes, 1000 were sent/)
  })
  test('a close without an end and without an error', () => {
    assert.deepEqual(whats(judged(replaced(isAt('caller', 'end'), () => []))), ['the caller closed without an end and without an error'])
  })
  test('a side that is neither complete nor failed, and one that saw nothing for too long', () => {
    assert.deepEqual(whats(judged(replaced(isAt('caller', 'closed'), () => []), 500)), ['the caller hangs: neither complete nor failed'])
    const verdict = judged(replaced(isAt('caller', 'closed'), (line) => [{ ...line, atMs: 4 + HANG_MS + 1 }]))
    assert.deepEqual(whats(verdict), [`the caller saw nothing for ${HANG_MS + 1} ms`])
    assert.deepEqual(verdict.longestSilence, { channel: 'c', durationMs: HANG_MS + 1, untilMs: 4 + HANG_MS + 1 })
  })
  test('two ends, operations after a close, fewer bytes than before', () => {
    assert.match(whats(judged(replaced(isAt('caller', 'end'), (line) => [line, line]))).join('\n'), /two ends/)
    assert.match(whats(judged([...all, { channel: 'c', side: 'caller', atMs: 9, kind: 'error', code: 'LATE' }])).join('\n'), /after both sides had closed/)
    assert.match(whats(judged([...caller, { channel: 'c', side: 'caller', atMs: 9, kind: 'error', code: 'LATE' }, ...service])).join('\n'), /after it had closed/)
    assert.match(whats(judged(replaced(isAt('caller', 'closed'), (line) => [{ ...line, kind: 'closed', sentBytes: 1, receivedBytes: 2000 }]))).join('\n'), /fewer bytes/)
  })
})
