import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { CarrierError, encodeCbor, LIMITS } from '../../../src/base/index.ts'
import type { Present } from '../../../src/identity/index.ts'
import { AuthPieces, splitAuthMessage } from '../../../src/session/session-auth-messages.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { createAuthPair, give, turns } from './auth-pair.ts'
import type { AuthPair, WireEnd } from './auth-pair.ts'

const EMPTY: Present = { v: 1, vcs: [], grants: [], docs: [] }
const PIECE = LIMITS.sessionFramePayloadBytes

let clock: FakeClock
let pair: AuthPair

/** An auth message as a hostile end would write it. */
function message (number: number, frame: unknown): { isLast: boolean, body: Uint8Array } {
  const [[body, isLast] = [new Uint8Array(0), true]] = splitAuthMessage(number, encodeCbor(frame))
  return { isLast, body }
}

const nonce = (): Uint8Array => new Uint8Array(randomBytes(16))

/** The controller's first frame. */
const begin = (number: number): { isLast: boolean, body: Uint8Array } => message(number, { v: 1, n: nonce() })

function proven (): [number, number] {
  return [pair.ends[0].provenCount, pair.ends[1].provenCount]
}

function codes (): Array<string | undefined> {
  return pair.ends.map((end) => end.failure?.code)
}

describe('auth in a session', () => {
  beforeEach(async () => {
    clock = createFakeClock()
    pair = await createAuthPair(clock)
  })

  afterEach(() => {
    pair.end()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left')
  })

  it('I2: both ends are proven on every link that comes to carry the session, once each', async () => {
    const links = [pair.link(1), pair.link(2), pair.link(3)] as const
    pair.use(links[0])
    await pair.settle()
    assert.deepEqual(proven(), [1, 1])
    for (const [index, link] of [...links.slice(1), ...links].entries()) {
      pair.use(link)
      await clock.advance(LIMITS.sessionAuthIntervalMs)
      await pair.settle()
      assert.deepEqual(proven(), [Math.min(3, 2 + index), Math.min(3, 2 + index)])
    }
    // a resume gives the link another number
    links[0][0].epoch = links[0][1].epoch = 4
    for (const end of pair.ends) end.auth.lose()
    pair.use(links[0])
    await clock.advance(LIMITS.sessionAuthIntervalMs)
    await pair.settle()
    assert.deepEqual([proven(), codes()], [[4, 4], [undefined, undefined]])
    await clock.advance(3_600_000)
    assert.deepEqual(proven(), [4, 4], 'nothing that expires: nothing more to do')
  })

  it('a hundred links in a second cost one exchange; the last one is proven', async () => {
    for (let epoch = 1; epoch <= 100; epoch++) {
      pair.use(pair.link(epoch))
      await clock.advance(10)
      if (epoch === 1) await pair.settle()
    }
    assert.deepEqual(proven(), [1, 1])
    await clock.advance(LIMITS.sessionAuthIntervalMs)
    await pair.settle()
    assert.deepEqual([proven(), codes()], [[2, 2], [undefined, undefined]])
    await clock.advance(2 * LIMITS.sessionAuthSlowMs)
    assert.deepEqual([proven(), codes()], [[2, 2], [undefined, undefined]], 'the last one, and nothing is owed')
  })

  it('an exchange goes on while the session moves on; when its link is closed the next one begins', async () => {
    const [first, second] = [pair.link(1), pair.link(2)]
    pair.use(first)
    await turns()
    pair.use(second)
    await pair.settle()
    assert.deepEqual(proven(), [1, 1], 'on the first link')
    await clock.advance(LIMITS.sessionAuthIntervalMs)
    pair.use(pair.link(3))
    const third = pair.link(4)
    pair.use(third)
    // the second exchange runs on the second link, and that is closed
    first[0].wire = []
    second[0].wire = []
    for (const [index, end] of pair.ends.entries()) end.auth.forget(second[index] as WireEnd)
    await clock.advance(2 * LIMITS.sessionAuthIntervalMs)
    await pair.settle()
    await clock.advance(2 * LIMITS.sessionAuthSlowMs)
    assert.deepEqual([proven(), codes()], [[2, 2], [undefined, undefined]])
  })

  it('what a link that was lost still carries is dropped', async () => {
    const first = pair.link(1)
    pair.use(first)
    await turns()
    // the other end is slower to notice: it answers, and its answer comes when nobody waits for it
    pair.ends[0].auth.lose()
    await pair.settle()
    pair.ends[1].auth.lose()
    await clock.advance(LIMITS.sessionAuthIntervalMs)
    first[0].epoch = first[1].epoch = 2
    pair.use(first)
    await pair.settle()
    assert.deepEqual([proven(), codes()], [[1, 1], [undefined, undefined]])
  })

  it('an end that lost the session drops what the other one begins, and takes part later', async () => {
    const first = pair.link(1)
    pair.use(first)
    pair.ends[1].auth.lose()
    await pair.settle()
    assert.deepEqual(proven(), [0, 0])
    pair.ends[0].auth.lose()
    await clock.advance(LIMITS.sessionAuthIntervalMs)
    pair.use(pair.link(2))
    await pair.settle()
    assert.deepEqual([proven(), codes()], [[1, 1], [undefined, undefined]])
  })

  /** The other end has read everything. */
  const answerPings = (...links: WireEnd[]): void => { for (const link of links) for (const ping of link.pings.splice(0)) ping.resolve(undefined) }
  const ANSWER_MS = 10_000

  it('no answer although the other end has read everything ends the session; before that is known, nothing does', async () => {
    const link = pair.link(1)
    pair.onPiece = () => undefined
    pair.use(link)
    await clock.advance(LIMITS.sessionAuthTimeoutMs)
    assert.deepEqual([codes(), link[0].pings.length, link[1].pings.length], [[undefined, undefined], 1, 0])
    assert.deepEqual(link[0].checks, [LIMITS.sessionBusySilenceMs], 'a dead link is found soon')
    answerPings(link[0])
    await clock.advance(ANSWER_MS - 1)
    assert.deepEqual([codes(), link[1].pings.length], [[undefined, undefined], 0])
    await clock.advance(1)
    assert.deepEqual([codes(), link[1].pings.length], [['ERR_TIMEOUT', undefined], 1])
    answerPings(link[1])
    await clock.advance(ANSWER_MS)
    assert.deepEqual(codes(), ['ERR_TIMEOUT', 'ERR_TIMEOUT'])
  })

  it('a link that is lost is no failure, also while it is asked; neither is one that is asked and gone before the session knows', async () => {
    const link = pair.link(1)
    pair.onPiece = () => undefined
    pair.use(link)
    await clock.advance(LIMITS.sessionAuthWaitMs)
    for (const end of link) for (const ping of end.pings.splice(0)) ping.reject(new CarrierError('ERR_LINK_LOST', 'gone'))
    await clock.advance(ANSWER_MS)
    for (const end of pair.ends) end.auth.lose()
    answerPings(...link)
    await clock.advance(2 * LIMITS.sessionAuthSlowMs)
    assert.deepEqual(codes(), [undefined, undefined])
  })

  it('every message and ping takes longer than all of auth may: a slow link fails nobody', async () => {
    const link = pair.link(1)
    pair.use(link)
    for (let half = 0; half < 5; half++) {
      const pings = link.map((end) => end.pings.splice(0))
      const sent = link.map((end) => end.wire.splice(0))
      await clock.advance(LIMITS.sessionAuthWaitMs + ANSWER_MS)
      for (const from of [0, 1] as const) {
        for (const piece of sent[from] ?? []) give(pair.ends[1 - from] as AuthPair['ends'][0], link[1 - from] as WireEnd, piece)
        for (const ping of pings[from] ?? []) ping.resolve(undefined)
      }
      await turns()
    }
    assert.deepEqual([proven(), codes()], [[1, 1], [undefined, undefined]])
    await clock.advance(2 * LIMITS.sessionAuthSlowMs)
    assert.deepEqual(codes(), [undefined, undefined], 'and nothing is owed')
  })

  it('the link on which auth runs is asked, also when another one is in use by then', async () => {
    const [slow, quick] = [pair.link(1), pair.link(2)]
    pair.use(slow)
    await turns()
    const [first] = slow[0].wire.splice(0)
    assert.ok(first !== undefined)
    pair.use(quick)
    give(pair.ends[1], slow[1], first)
    await turns()
    for (let tries = 0; tries < 4; tries++) {
      await clock.advance(LIMITS.sessionAuthWaitMs)
      answerPings(...quick)
    }
    assert.deepEqual([codes(), quick[1].checks.length], [[undefined, undefined], 0])
    answerPings(...slow)
    await clock.advance(ANSWER_MS)
    assert.deepEqual(codes(), ['ERR_TIMEOUT', 'ERR_TIMEOUT'])
  })

  it('an end that answers neither auth nor pings is given up as well, only later', async () => {
    const link = pair.link(1)
    pair.onPiece = () => undefined
    pair.use(link)
    await clock.advance(LIMITS.sessionAuthSlowMs - 1)
    assert.deepEqual(codes(), [undefined, undefined])
    await clock.advance(1)
    assert.deepEqual(codes(), ['ERR_TIMEOUT', 'ERR_TIMEOUT'])
  })

  it('I2: a controller that begins and does not prove itself is given up', async () => {
    const link = pair.link(1)
    pair.ends[1].auth.use(link[1])
    for (let number = 1; number <= 7; number++) {
      give(pair.ends[1], link[1], begin(number))
      await clock.advance(LIMITS.sessionAuthIntervalMs)
    }
    await clock.advance(LIMITS.sessionAuthWaitMs)
    answerPings(link[1])
    await clock.advance(ANSWER_MS)
    assert.equal(pair.ends[1].failure?.code, 'ERR_TIMEOUT')

    pair.end()
    pair = await createAuthPair(clock)
    pair.ends[1].auth.use(link[1])
    for (let number = 1; number <= LIMITS.sessionAuthSlowMs / LIMITS.sessionAuthIntervalMs; number++) {
      give(pair.ends[1], link[1], begin(number))
      await clock.advance(LIMITS.sessionAuthIntervalMs)
    }
    assert.equal(pair.ends[1].failure?.code, 'ERR_TIMEOUT', 'also when it begins for ever')
  })
})

describe('what is shown in a session expires', () => {
  const HOUR_MS = 3_600_000
  let shown: Present[]
  let validUntilMs: number

  beforeEach(async () => {
    clock = createFakeClock()
    pair = await createAuthPair(clock)
    shown = []
    validUntilMs = clock.now() + HOUR_MS
    // the other end shows a credential, which the controller accepts as long as it is valid
    pair.ends[1].credentials = { presentTo: () => ({ ...EMPTY, vcs: [`valid until ${validUntilMs}`] }), judge: () => 0 }
    pair.ends[0].credentials = {
      presentTo: () => EMPTY,
      judge: (_device, present) => {
        shown.push(present)
        const untilMs = Number(/\d+$/.exec(present.vcs[0] ?? '0')?.[0])
        if (untilMs <= clock.now()) throw new CarrierError('ERR_INVALID_ARGUMENT', 'the credential has expired')
        return Math.floor(untilMs / 1000)
      }
    }
    pair.use(pair.link(1))
    await pair.settle()
    assert.deepEqual(proven(), [1, 1])
  })

  afterEach(() => {
    pair.end()
    assert.equal(clock.pendingTimerCount(), 0, 'no timer is left')
  })

  /** Time goes on and everything is carried. */
  async function pass (ms: number): Promise<void> {
    for (let restMs = ms; restMs > 0; restMs -= 1000) {
      await clock.advance(Math.min(1000, restMs))
      await pair.settle()
    }
  }

  it('renewed before: the session goes on', async () => {
    for (let hour = 0; hour < 3; hour++) {
      await pass(validUntilMs - clock.now() - LIMITS.sessionAuthRenewMs - 5_000)
      assert.equal(shown.length, 1 + hour)
      validUntilMs = clock.now() + HOUR_MS
      await pass(10_000)
      assert.equal(shown.length, 2 + hour, 'shown again before it expires')
    }
    assert.deepEqual([proven(), codes()], [[4, 4], [undefined, undefined]])
  })

  it('renewed before it expires by the clock of the other end, which is ten minutes ahead', async () => {
    pair.end()
    pair = await createAuthPair(clock)
    let renewedAtMs = Infinity
    const endMs = clock.now() + HOUR_MS
    pair.ends[0].credentials = { presentTo: () => { renewedAtMs = clock.now(); return EMPTY }, judge: () => 0 }
    pair.ends[1].credentials = { presentTo: () => EMPTY, judge: () => Math.floor(endMs / 1000) }
    pair.use(pair.link(1))
    await pair.settle()
    await pass(HOUR_MS - 600_000)
    assert.ok(renewedAtMs > clock.now() - 600_000 && renewedAtMs < endMs - 600_000)
  })

  it('not renewed: the session ends at that very second, after a few attempts', async () => {
    await pass(HOUR_MS - 1_000)
    assert.deepEqual(codes(), [undefined, undefined])
    await pass(1_000)
    assert.equal(codes()[0], 'ERR_REVOKED')
    assert.ok(shown.length <= 12, `asked ${shown.length} times`)
  })

  it('not renewed while no link carries the session: it ends as well', async () => {
    for (const end of pair.ends) end.auth.lose()
    await clock.advance(HOUR_MS)
    assert.equal(pair.ends[0].failure?.code, 'ERR_REVOKED')
  })

  it('when the wall clock jumps over it, the session ends within a minute', async () => {
    clock.setNow(clock.now() + 2 * HOUR_MS)
    await clock.advance(60_000)
    assert.equal(pair.ends[0].failure?.code, 'ERR_REVOKED')
  })

  it('the end that shows learns from the other how long it counts: the controller renews what it shows itself', async () => {
    pair.end()
    pair = await createAuthPair(clock)
    pair.ends[0].credentials = { presentTo: () => ({ ...EMPTY, vcs: ['mine'] }), judge: () => 0 }
    let judged = 0
    pair.ends[1].credentials = { presentTo: () => EMPTY, judge: () => { judged++; return Math.floor((clock.now() + HOUR_MS) / 1000) } }
    pair.use(pair.link(1))
    await pair.settle()
    await pass(HOUR_MS)
    assert.deepEqual([judged, codes()], [2, [undefined, undefined]])
  })

  it('a credential that is not accepted, and a friendship that ended, end the session with ERR_REVOKED', async () => {
    validUntilMs = 1
    pair.use(pair.link(2))
    await pass(LIMITS.sessionAuthIntervalMs)
    assert.equal(pair.ends[0].failure?.code, 'ERR_REVOKED')
    assert.ok(!/\d{6}/.test(pair.ends[0].failure?.message ?? ''), 'what was shown is not repeated')

    pair.end()
    pair = await createAuthPair(clock)
    pair.ends[1].level = 'stranger'
    pair.use(pair.link(1))
    await pair.settle()
    assert.equal(pair.ends[1].failure?.code, 'ERR_REVOKED')
  })
})

describe('I8: auth messages come in pieces', () => {
  it('any message up to 64 KiB arrives as it was; what is shown may fill it', async () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: LIMITS.friendFrameBytes - 4 }), fc.integer({ min: 0, max: 0xffff_ffff }), (byteCount, number) => {
      const frame = new Uint8Array(byteCount).fill(byteCount & 255)
      const pieces = new AuthPieces()
      const parts = splitAuthMessage(number, frame)
      for (const [index, [piece, isLast]] of parts.entries()) {
        const joined = pieces.add(piece, isLast)
        assert.equal(joined !== undefined, index === parts.length - 1)
        if (joined === undefined) continue
        assert.equal(new DataView(joined.buffer).getUint32(0), number)
        assert.equal(Buffer.compare(joined.subarray(4), frame), 0)
      }
    }), { numRuns: 50 })

    clock = createFakeClock()
    pair = await createAuthPair(clock)
    const vcs = Array.from({ length: 15 }, () => 'x'.repeat(4096))
    const seen: Present[] = []
    for (const end of pair.ends) end.credentials = { presentTo: () => ({ ...EMPTY, vcs }), judge: (_device, present) => { seen.push(present); return 0 } }
    pair.use(pair.link(1))
    await pair.settle()
    assert.deepEqual([proven(), codes(), seen.map((one) => one.vcs.length)], [[1, 1], [undefined, undefined], [15, 15]])
    pair.end()
  })

  it('a message without end, pieces that are not full, and one without a frame are refused before they are kept', () => {
    const refused = (work: () => void): void => { assert.throws(work, (err) => err instanceof CarrierError && err.code === 'ERR_PROTOCOL') }
    const endless = new AuthPieces()
    for (let piece = 0; piece < LIMITS.friendFrameBytes / PIECE; piece++) assert.equal(endless.add(new Uint8Array(PIECE), false), undefined)
    refused(() => { endless.add(new Uint8Array(1), true) })
    refused(() => { new AuthPieces().add(new Uint8Array(PIECE - 1), false) })
    refused(() => { new AuthPieces().add(new Uint8Array(4), true) })
  })
})

describe('a hostile end in auth (each ends the session with a code, and nobody is proven)', () => {
  beforeEach(async () => {
    clock = createFakeClock()
    pair = await createAuthPair(clock)
  })

  afterEach(() => { pair.end() })

  it('I2: any change of any byte of a message, in either direction', async () => {
    await fc.assert(fc.asyncProperty(fc.nat({ max: 4 }), fc.nat(), fc.integer({ min: 1, max: 255 }), async (victim, at, flip) => {
      pair.end()
      pair = await createAuthPair(clock, { identities: [pair.ends[0].identity, pair.ends[1].identity] })
      let index = 0
      let changed: 0 | 1 | undefined
      pair.onPiece = (from, piece) => {
        if (index++ !== victim) return piece
        changed = from
        const body = new Uint8Array(piece.body)
        const position = 4 + at % (body.length - 4)
        body[position] = (body[position] as number) ^ flip
        return { ...piece, body }
      }
      pair.use(pair.link(1))
      await pair.settle()
      assert.ok(changed !== undefined)
      await clock.advance(LIMITS.sessionAuthSlowMs)
      // what is told besides the proof (limits, exp) may be changed without harm: only somebody who holds the key of the link can do that at all
      const victimEnd = pair.ends[changed === 0 ? 1 : 0]
      const isUnharmed = victimEnd.failure === undefined
      if (isUnharmed) assert.ok(victimEnd.provenCount === 1)
      else assert.ok(['ERR_PROTOCOL', 'ERR_REVOKED', 'ERR_UNSUPPORTED_VERSION', 'ERR_TIMEOUT'].includes(String(victimEnd.failure?.code)), String(victimEnd.failure?.message))
    }), { numRuns: 120 })
  })

  it('I2: a wrong signature, also one by another key', async () => {
    for (const from of [0, 1] as const) {
      pair.end()
      const stranger = await createAuthPair(clock)
      pair = await createAuthPair(clock)
      // it says that it is the friend, and signs with its own key
      Object.assign(pair.ends[from].identity, { sign: stranger.ends[0].identity.sign })
      pair.use(pair.link(1))
      await pair.settle()
      assert.equal(pair.ends[1 - from]?.failure?.code, 'ERR_PROTOCOL')
      assert.deepEqual([pair.ends[1 - from]?.provenCount, pair.ends[from].provenCount], [0, 0])
      stranger.end()
    }
  })

  it('I2: everything that an end said in another session, on another link, or before, proves nothing', async () => {
    const identities: [AuthPair['ends'][0]['identity'], AuthPair['ends'][0]['identity']] = [pair.ends[0].identity, pair.ends[1].identity]
    pair.use(pair.link(1))
    await pair.settle()
    assert.deepEqual(proven(), [1, 1])
    const recorded = pair.carried.filter((one) => one.from === 0).map((one) => one.piece)
    pair.end()
    const renumber = (piece: { isLast: boolean, body: Uint8Array }, number: number): { isLast: boolean, body: Uint8Array } => {
      const body = new Uint8Array(piece.body)
      new DataView(body.buffer).setUint32(0, number)
      return { ...piece, body }
    }
    for (const [sessionId, epoch] of [[8, 1], [9, 2], [9, 1]] as const) {
      pair = await createAuthPair(clock, { identities, sessionId: new Uint8Array(16).fill(sessionId) })
      const link = pair.link(epoch)
      pair.ends[1].auth.use(link[1])
      for (const piece of recorded) {
        give(pair.ends[1], link[1], piece)
        await turns()
      }
      assert.deepEqual([pair.ends[1].provenCount, pair.ends[1].failure?.code], [0, 'ERR_PROTOCOL'])
      pair.end()
    }
    // the same session, a later exchange
    pair = await createAuthPair(clock, { identities })
    const link = pair.link(1)
    pair.use(link)
    await pair.settle()
    assert.deepEqual(proven(), [1, 1])
    const own = pair.carried.filter((one) => one.from === 0).map((one) => renumber(one.piece, 2))
    pair.ends[0].auth.end()
    for (const piece of own) {
      give(pair.ends[1], link[1], piece)
      await turns()
    }
    assert.deepEqual([pair.ends[1].provenCount, pair.ends[1].failure?.code], [1, 'ERR_PROTOCOL'])
  })

  it('I2: the signature binds the session, the link and the role', async () => {
    // both ends believe in another session: everything else is equal
    const other = await createAuthPair(clock, { identities: [pair.ends[0].identity, pair.ends[1].identity], sessionId: new Uint8Array(16).fill(1) })
    const link = pair.link(1)
    const mixed: AuthPair['ends'] = [pair.ends[0], other.ends[1]]
    other.ends[1].auth.use(link[1])
    pair.ends[0].auth.use(link[0])
    for (let round = 0; round < 5; round++) {
      await turns()
      for (const from of [0, 1] as const) for (const piece of link[from].wire.splice(0)) give(mixed[from === 0 ? 1 : 0], link[from === 0 ? 1 : 0], piece)
    }
    assert.deepEqual([other.ends[1].failure?.code, other.ends[1].provenCount], ['ERR_PROTOCOL', 0])
    other.end()
    const crooked = pair.link(2)
    crooked[1].epoch = 3
    pair.end()
    pair = await createAuthPair(clock, { identities: [pair.ends[0].identity, pair.ends[1].identity] })
    const uneven = pair.link(2)
    uneven[1].epoch = 3
    pair.use(uneven)
    await pair.settle()
    assert.deepEqual([pair.ends[1].failure?.code, pair.ends[1].provenCount], ['ERR_PROTOCOL', 0])
  })

  it('unsolicited: the controller was asked nothing, a message after the end, two answers at once', async () => {
    const link = pair.link(1)
    give(pair.ends[0], link[0], begin(1))
    assert.equal(pair.ends[0].failure?.code, 'ERR_PROTOCOL')

    pair = await createAuthPair(clock)
    const done = pair.link(1)
    pair.use(done)
    await pair.settle()
    give(pair.ends[1], done[1], begin(1))
    assert.equal(pair.ends[1].failure?.code, 'ERR_PROTOCOL')
    assert.equal(pair.ends[0].failure, undefined)
    pair.end()

    pair = await createAuthPair(clock)
    const busy = pair.link(1)
    pair.ends[1].auth.use(busy[1])
    for (let count = 0; count < 5; count++) give(pair.ends[1], busy[1], begin(1))
    assert.equal(pair.ends[1].failure?.code, 'ERR_PROTOCOL')
  })

  it('I8: old numbers cost nothing; new ones are counted', async () => {
    const link = pair.link(1)
    pair.ends[1].auth.use(link[1])
    give(pair.ends[1], link[1], begin(5))
    for (let count = 0; count < 1000; count++) give(pair.ends[1], link[1], begin(count % 5))
    assert.equal(codes()[1], undefined)
    for (let number = 6; number < 6 + LIMITS.sessionAuthBurstCount - 1; number++) give(pair.ends[1], link[1], begin(number))
    assert.equal(codes()[1], undefined)
    give(pair.ends[1], link[1], begin(100))
    assert.equal(codes()[1], 'ERR_LIMIT')
  })

  it('a controller whose clock runs fast may begin as often as it may for days', async () => {
    const link = pair.link(1)
    pair.ends[1].auth.use(link[1])
    for (let number = 1; number < 1_500; number++) {
      // a new link each time: nobody waits for the end of an exchange
      pair.ends[1].auth.lose()
      pair.ends[1].auth.use(link[1])
      give(pair.ends[1], link[1], begin(number))
      await clock.advance(LIMITS.sessionAuthIntervalMs * 0.99)
    }
    assert.equal(codes()[1], undefined)
  })

  it('random bytes never prove anything and never throw anything but a CarrierError', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 6 }), fc.boolean(), async (bodies, isNumbered) => {
      pair.end()
      pair = await createAuthPair(clock, { identities: [pair.ends[0].identity, pair.ends[1].identity] })
      const link = pair.link(1)
      pair.use(link)
      for (const end of [0, 1] as const) {
        for (const body of bodies) {
          const bytes = isNumbered ? new Uint8Array([0, 0, 0, 1, ...body]) : body
          give(pair.ends[end], link[end], { isLast: true, body: bytes })
          await turns()
        }
        assert.equal(pair.ends[end].provenCount, 0)
        if (pair.ends[end].failure !== undefined) assert.ok(pair.ends[end].failure instanceof CarrierError)
      }
    }), { numRuns: 40 })
  })
})
