/** Quotas of a relay: whose they are, when they are used up, when they are free again, and that they are remembered. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { LIMITS, openDatabase, silentLogger } from '../../../src/base/index.ts'
import { createQuotaBook } from '../../../src/bootstrap/quota-book.ts'
import type { QuotaAccount, QuotaBook, QuotaSettings } from '../../../src/bootstrap/quota-book.ts'
import { createQuotaStore, USAGE_FILE } from '../../../src/bootstrap/quota-store.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import type { FakeClock } from '../../support/fake-clock.ts'
import { makeTempDirectory } from '../../support/temp-directory.ts'

const NONE: QuotaSettings = { friend: {}, member: {}, stranger: {}, strangers: {} }
const DAY_MS = 86_400_000

function stranger (book: QuotaBook, source: string): QuotaAccount { return book.accountOf({ key: 'any', class: 'stranger', source }) }
function member (book: QuotaBook, key: string): QuotaAccount { return book.accountOf({ key, class: 'member', source: '192.0.2.9' }) }

describe('whose quotas they are', () => {
  test('strangers of one source prefix are one account, members have one each', () => {
    const book = createQuotaBook(createFakeClock(), { ...NONE, stranger: { reservations: 1 }, member: { reservations: 1 } })
    const one = stranger(book, '192.0.2.1')
    assert.equal(stranger(book, '192.0.2.1'), one)
    const release = book.hold(one, 'reservations')
    assert.deepEqual(book.judge(one, 'reservations'), { quota: 'reservations', isShared: false, retryMs: LIMITS.relaySpliceRetryMs })
    assert.equal(book.judge(stranger(book, '192.0.2.2'), 'reservations'), undefined)
    book.hold(member(book, 'a'), 'reservations')
    assert.equal(book.judge(member(book, 'b'), 'reservations'), undefined)
    assert.equal(book.judge(member(book, 'a'), 'reservations')?.quota, 'reservations')
    release()
    release()
    assert.equal(one.held.reservations, 0, 'given back once')
    assert.equal(book.judge(one, 'reservations'), undefined)
  })

  test('the share of all strangers together leaves members alone', () => {
    const book = createQuotaBook(createFakeClock(), { ...NONE, strangers: { circuits: 2 } })
    book.hold(stranger(book, '192.0.2.1'), 'circuits')
    book.hold(stranger(book, '192.0.2.2'), 'circuits')
    assert.deepEqual(book.judge(stranger(book, '192.0.2.3'), 'circuits'), { quota: 'circuits', isShared: true, retryMs: LIMITS.relaySpliceRetryMs })
    assert.equal(book.judge(member(book, 'a'), 'circuits'), undefined)
  })

  test('the last eighth of all places is for sources that have none or one', () => {
    const book = createQuotaBook(createFakeClock(), { ...NONE, stranger: { reservations: 40 }, places: { reservations: 80, circuits: 8 } })
    const [first, second] = [stranger(book, '192.0.2.1'), stranger(book, '192.0.2.2')]
    for (let index = 0; index < 70; index++) {
      const account = index % 2 === 0 ? first : second
      assert.equal(book.judge(account, 'reservations'), undefined)
      book.hold(account, 'reservations')
    }
    assert.deepEqual(book.judge(first, 'reservations'), { quota: 'reservations', isShared: true, retryMs: LIMITS.relaySpliceRetryMs })
    const newcomer = stranger(book, '192.0.2.3')
    for (let index = 0; index < 2; index++) {
      assert.equal(book.judge(newcomer, 'reservations'), undefined)
      book.hold(newcomer, 'reservations')
    }
    assert.equal(book.judge(newcomer, 'reservations')?.isShared, true)
    assert.equal(book.judge(stranger(book, '192.0.2.4'), 'reservations'), undefined)
    assert.equal(book.judge(member(book, 'a'), 'reservations'), undefined)
    for (let index = 0; index < 8; index++) book.hold(first, 'circuits')
    assert.equal(book.judge(first, 'circuits'), undefined, 'of so few none is kept')
    // where all strangers together have fewer, of these
    book.configure({ ...NONE, strangers: { reservations: 82 }, places: { reservations: 1000, circuits: 8 } })
    assert.equal(book.judge(first, 'reservations')?.isShared, true)
    book.configure({ ...NONE, places: { reservations: 1000, circuits: 8 } })
    assert.equal(book.judge(first, 'reservations'), undefined)
  })

  test('I8: accounts are bounded: one that holds something stays, the others are forgotten', () => {
    const book = createQuotaBook(createFakeClock(), { ...NONE, stranger: { circuits: 1 } })
    const first = stranger(book, 'first')
    book.hold(first, 'circuits')
    for (let index = 0; index < LIMITS.relayQuotaAccountCount + 100; index++) stranger(book, `source ${index}`)
    assert.equal(book.size, LIMITS.relayQuotaAccountCount)
    assert.equal(stranger(book, 'first'), first)
  })
})

test('an account stays in the book while it is in use, also when all the others are', () => {
  const book = createQuotaBook(createFakeClock(), { ...NONE, stranger: { circuits: 1 } })
  for (let index = 0; index < LIMITS.relayQuotaAccountCount; index++) book.hold(stranger(book, `source ${index}`), 'circuits')
  const next = stranger(book, 'next')
  book.hold(next, 'circuits')
  assert.equal(stranger(book, 'next'), next)
  assert.equal(book.judge(stranger(book, 'next'), 'circuits')?.quota, 'circuits')
  for (let index = 0; index < 1000; index++) stranger(book, `passing ${index}`)
  assert.ok(book.size <= LIMITS.relayQuotaAccountCount + 1000)
})

describe('the bytes of the day', () => {
  test('over them what runs is ended, the next is refused, and both end at midnight of UTC', async () => {
    const clock = createFakeClock({ nowMs: Date.UTC(2027, 0, 2, 23, 0, 0) })
    const book = createQuotaBook(clock, { ...NONE, member: { bytesPerDay: 1000 } })
    const account = member(book, 'a')
    let overCount = 0
    const flow = book.startFlow(account, undefined, () => { overCount++ })
    assert.equal(flow.charge(1000, () => {}), true)
    assert.equal(overCount, 0)
    assert.deepEqual(book.judge(account, 'circuits'), { quota: 'bytes_per_day', isShared: false, retryMs: 3_600_000 })
    flow.charge(1, () => {})
    assert.equal(overCount, 1)
    flow.end()
    await clock.advance(3_600_000)
    assert.equal(book.judge(account, 'circuits'), undefined)
    assert.equal(account.sentTodayBytes, 0)
  })

  test('those of all strangers are one sum', () => {
    const clock = createFakeClock()
    const book = createQuotaBook(clock, { ...NONE, strangers: { bytesPerDay: 1000 } })
    book.startFlow(stranger(book, 'a'), undefined, () => {}).charge(600, () => {})
    let isOver = false
    book.startFlow(stranger(book, 'b'), undefined, () => { isOver = true }).charge(600, () => {})
    assert.ok(isOver)
    assert.deepEqual(book.judge(stranger(book, 'c'), 'circuits'), { quota: 'bytes_per_day', isShared: true, retryMs: DAY_MS - clock.now() % DAY_MS })
    assert.equal(book.judge(member(book, 'm'), 'circuits'), undefined)
  })

  test('they survive a restart, and no address and no key stands in the file', async () => {
    const directory = makeTempDirectory('usage')
    const settings: QuotaSettings = { ...NONE, member: { bytesPerDay: 1000 }, stranger: { bytesPerDay: 1000 }, strangers: { bytesPerDay: 5000 } }
    const clock = createFakeClock()
    async function run (clockNow: FakeClock, work: (book: QuotaBook) => void | Promise<void>): Promise<void> {
      const book = createQuotaBook(clockNow, settings)
      const store = createQuotaStore({ clock: clockNow, log: silentLogger, book }, { dataDirectory: directory })
      await store.start()
      await work(book)
      await store.stop()
      assert.equal(clockNow.pendingTimerCount(), 0)
    }
    await run(clock, (book) => {
      book.startFlow(member(book, 'aabbccdd'), undefined, () => {}).charge(700, () => {})
      book.startFlow(stranger(book, '192.0.2.77'), undefined, () => {}).charge(900, () => {})
    })
    await run(clock, (book) => {
      assert.equal(member(book, 'aabbccdd').sentTodayBytes, 700)
      assert.equal(stranger(book, '192.0.2.77').sentTodayBytes, 900)
      assert.equal(stranger(book, '192.0.2.78').sentTodayBytes, 0)
      book.startFlow(stranger(book, '192.0.2.77'), undefined, () => {}).charge(100, () => {})
      assert.equal(book.judge(stranger(book, '192.0.2.77'), 'circuits')?.quota, 'bytes_per_day')
    })
    const database = openDatabase({ path: `${directory}/${USAGE_FILE}`, migrations: [''], name: 'usage' })
    const rows = database.all('SELECT account, bytes FROM usage')
    database.close()
    assert.deepEqual(rows.map(({ bytes }) => bytes).toSorted((a, b) => Number(a) - Number(b)), [700, 1000, 1000])
    assert.ok(rows.every(({ account }) => /^[0-9a-f]{32}$/.test(String(account))), JSON.stringify(rows))
    await run(createFakeClock({ nowMs: clock.now() + DAY_MS }), (book) => {
      assert.equal(member(book, 'aabbccdd').sentTodayBytes, 0)
      book.startFlow(member(book, 'aabbccdd'), undefined, () => {}).charge(1, () => {})
    })
    const after = openDatabase({ path: `${directory}/${USAGE_FILE}`, migrations: [''], name: 'usage' })
    assert.equal(after.all('SELECT 1 FROM usage').length, 1, 'the days before are gone')
    after.close()
  })

  test('they are gone with their day, also when nobody sends on the next one', async () => {
    const directory = makeTempDirectory('usage')
    const clock = createFakeClock()
    const settings: QuotaSettings = { ...NONE, member: { bytesPerDay: 1000 } }
    const countRows = (): number => {
      const reader = openDatabase({ path: `${directory}/${USAGE_FILE}`, migrations: [''], name: 'usage' })
      const { length } = reader.all('SELECT 1 FROM usage')
      reader.close()
      return length
    }
    const start = async (at: FakeClock): Promise<{ book: QuotaBook, stop: () => Promise<void> }> => {
      const book = createQuotaBook(at, settings)
      const store = createQuotaStore({ clock: at, log: silentLogger, book }, { dataDirectory: directory })
      await store.start()
      return { book, stop: store.stop }
    }
    const first = await start(clock)
    first.book.startFlow(member(first.book, 'a'), undefined, () => {}).charge(700, () => {})
    await clock.advance(LIMITS.relayQuotaStoreMs)
    assert.equal(countRows(), 1)
    clock.setNow(clock.now() + DAY_MS)
    await clock.advance(LIMITS.relayQuotaStoreMs)
    assert.equal(countRows(), 0, 'once a minute')
    first.book.startFlow(member(first.book, 'a'), undefined, () => {}).charge(700, () => {})
    await first.stop()
    assert.equal(countRows(), 1)
    const second = await start(createFakeClock({ nowMs: clock.now() + DAY_MS }))
    assert.equal(countRows(), 0, 'at the start')
    await second.stop()
  })

  test('they are stored once a minute, so that a kill -9 forgets no more', async () => {
    const directory = makeTempDirectory('usage')
    const clock = createFakeClock()
    const book = createQuotaBook(clock, { ...NONE, member: { bytesPerDay: 1000 } })
    const store = createQuotaStore({ clock, log: silentLogger, book }, { dataDirectory: directory })
    await store.start()
    book.startFlow(member(book, 'a'), undefined, () => {}).charge(700, () => {})
    await clock.advance(LIMITS.relayQuotaStoreMs)
    const reader = openDatabase({ path: `${directory}/${USAGE_FILE}`, migrations: [''], name: 'usage' })
    assert.deepEqual(reader.all('SELECT bytes FROM usage').map(({ bytes }) => bytes), [700])
    reader.close()
    await store.stop()
  })
})

test('a new rate wakes those that waited for the old one, and no rate lets all go', async () => {
  const clock = createFakeClock()
  const book = createQuotaBook(clock, { ...NONE, member: { bytesPerSecond: 1000 } })
  const flow = book.startFlow(member(book, 'a'), undefined, () => {})
  let goOnCount = 0
  const goOn = (): void => { goOnCount++ }
  assert.equal(flow.charge(1_000_000, goOn), false)
  book.configure({ ...NONE, member: { bytesPerSecond: 1_000_000 } })
  await clock.advance(2_000)
  assert.equal(goOnCount, 1)
  assert.equal(flow.charge(10_000_000, goOn), false)
  book.configure(NONE)
  assert.equal(goOnCount, 2)
  assert.equal(flow.charge(10_000_000, goOn), true)
  flow.end()
  await clock.advance(10)
  assert.equal(clock.pendingTimerCount(), 0)
})
