/**
 * What each account of the relay uses and may use. An account is an identity of the operator's lists, or, for strangers, a source prefix,
 * because identities are free. In memory and bounded; bytes of the day are also stored, see quota-store.ts.
 */
import { LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { createByteRate } from './byte-rate.ts'
import type { ByteRate } from './byte-rate.ts'
import { createFairRate } from './fair-rate.ts'

/** How the operator knows somebody. */
export type PeerClass = 'friend' | 'member' | 'stranger'

/** Bounds of one account, or of all strangers together; an absent one is none. */
export interface Quotas {
  reservations?: number
  /** Circuits and splices at once that it opened. */
  circuits?: number
  /** What it sends. */
  bytesPerSecond?: number
  /** What it sends in a day of UTC. */
  bytesPerDay?: number
}

/** All bounds. */
export interface QuotaSettings {
  friend: Quotas
  member: Quotas
  /** Each source prefix of strangers. */
  stranger: Quotas
  /** All strangers together. */
  strangers: Quotas
  /** What the relay forwards in a second, shared fairly by all accounts. */
  bytesPerSecond?: number
  /** All places of the relay. The last eighth of what strangers may have of them is for sources that have none or one. */
  places?: { reservations: number, circuits: number }
}

/** A quota's name, as it stands in the configuration, in metrics and on the wire. */
export type QuotaName = 'reservations' | 'circuits' | 'bytes_per_day'

/** Why something is refused: which quota, whose, and when to ask again. */
export interface QuotaRefusal { quota: QuotaName, isShared: boolean, retryMs: number }

/** One account. The book owns it; what holds something of it says so with `hold`. */
export interface QuotaAccount {
  readonly key: string
  readonly class: PeerClass
  readonly held: Readonly<Held>
  /** Bytes that it sent today. */
  readonly sentTodayBytes: number
}

interface Held { reservations: number, circuits: number }

/** The bytes of one sender of an account: what it sends is charged here. */
export interface QuotaFlow extends Pick<ByteRate, 'charge'> {
  /** Ends it. */
  end: () => void
}

/** Bytes of the day that outlive the process. */
export interface QuotaMemory {
  /** What was stored for the account on that day; 0 when nothing was. */
  load: (day: number, key: string) => number
  save: (day: number, entries: ReadonlyArray<{ key: string, sentBytes: number }>) => void
}

/** The book. */
export interface QuotaBook {
  /** The account of a peer, made when it is new. `source` is its source prefix. */
  accountOf: (peer: { key: string, class: PeerClass, source: string }) => QuotaAccount
  /** Why the account may not hold one more, if so. Changes nothing. */
  judge: (account: QuotaAccount, what: keyof Held) => QuotaRefusal | undefined
  /** Counts one more until the given function is called, once. */
  hold: (account: QuotaAccount, what: keyof Held) => () => void
  /** Starts to charge a sender of the account; `onOver` is called when the bytes of its day are used up. `extra` is a further rate. */
  startFlow: (account: QuotaAccount, extra: ByteRate | undefined, onOver: () => void) => QuotaFlow
  /** Other bounds from now on. */
  configure: (settings: QuotaSettings) => void
  /** Stores the bytes of the day of all accounts that have such a bound. */
  save: () => void
  setMemory: (memory: QuotaMemory | undefined) => void
  /** Accounts that hold something, or sent today. */
  list: () => QuotaAccount[]
  /** How much of the whole rate was used in the last second, 0 to 1; 0 without such a rate. */
  rateShare: () => number
  readonly size: number
}

/** An account inside the book. */
interface Entry extends QuotaAccount {
  held: Held
  sentTodayBytes: number
  day: number
  isDirty: boolean
  flowCount: number
  readonly rate: ByteRate
  readonly fairShare: ByteRate
  readonly strangersShare: ByteRate | undefined
}

/** Creates an empty book. */
export function createQuotaBook (clock: Clock, init: QuotaSettings): QuotaBook {
  let settings = init
  let memory: QuotaMemory | undefined
  const entries = new Map<string, Entry>()
  const whole = createFairRate(clock, { bytesPerSecond: () => settings.bytesPerSecond })
  const strangers = createFairRate(clock, { bytesPerSecond: () => settings.strangers.bytesPerSecond })
  const strangersHeld: Held = { reservations: 0, circuits: 0 }
  const strangersSent = { day: today(), bytes: 0 }
  let second = { startedAtMs: clock.monotonicMs(), bytes: 0, lastShare: 0 }

  function today (): number { return Math.floor(clock.now() / DAY_MS) }

  function accountOf (peer: { key: string, class: PeerClass, source: string }): Entry {
    const key = peer.class === 'stranger' ? `source:${peer.source}` : peer.key
    const known = entries.get(key)
    // a change of the lists makes another account of an identity
    const entry = known?.class === peer.class ? known : make(key, peer.class, known?.sentTodayBytes)
    // before it is there: it holds nothing yet, and would be the first to be forgotten
    if (known === undefined) makeRoom()
    entries.delete(key)
    entries.set(key, entry)
    rollDay(entry)
    return entry
  }

  function make (key: string, peerClass: PeerClass, sentTodayBytes: number | undefined): Entry {
    const day = today()
    return {
      key,
      class: peerClass,
      held: { reservations: 0, circuits: 0 },
      sentTodayBytes: sentTodayBytes ?? memory?.load(day, key) ?? 0,
      day,
      isDirty: false,
      flowCount: 0,
      rate: createByteRate(clock, { bytesPerSecond: () => settings[peerClass].bytesPerSecond }),
      fairShare: whole.join(),
      strangersShare: peerClass === 'stranger' ? strangers.join() : undefined
    }
  }

  /**
   * What is in use is bounded by what it holds; of the rest the account that was not seen for longest is forgotten. It looks at a few only,
   * in turn: where more accounts are in use than the limit says, the table is larger by them and a few others.
   */
  function makeRoom (): void {
    let leftCount = LOOK_COUNT
    for (const [key, entry] of entries) {
      if (entries.size < LIMITS.relayQuotaAccountCount || leftCount-- === 0) return
      entries.delete(key)
      if (entry.held.reservations === 0 && entry.held.circuits === 0 && entry.flowCount === 0) {
        if (entry.isDirty) saveEntries([entry])
        continue
      }
      // behind the others, so that the next search does not come past it at once
      entries.set(key, entry)
    }
  }

  function rollDay (entry: Entry): void {
    const day = today()
    if (entry.day === day) return
    entry.day = day
    entry.sentTodayBytes = 0
    entry.isDirty = false
  }

  function strangersToday (): number {
    const day = today()
    if (strangersSent.day !== day) Object.assign(strangersSent, { day, bytes: 0 })
    return strangersSent.bytes
  }

  function untilTomorrowMs (): number { return DAY_MS - clock.now() % DAY_MS }

  function judge (account: QuotaAccount, what: keyof Held): QuotaRefusal | undefined {
    const entry = account as Entry
    rollDay(entry)
    const own = settings[entry.class]
    // the one that lasts longest is named
    if (entry.sentTodayBytes >= (own.bytesPerDay ?? Infinity)) return { quota: 'bytes_per_day', isShared: false, retryMs: untilTomorrowMs() }
    if (entry.class === 'stranger' && strangersToday() >= (settings.strangers.bytesPerDay ?? Infinity)) return { quota: 'bytes_per_day', isShared: true, retryMs: untilTomorrowMs() }
    if (entry.held[what] >= (own[what] ?? Infinity)) return { quota: what, isShared: false, retryMs: LIMITS.relaySpliceRetryMs }
    if (entry.class === 'stranger' && strangersHeld[what] >= (settings.strangers[what] ?? Infinity)) return { quota: what, isShared: true, retryMs: LIMITS.relaySpliceRetryMs }
    if (entry.class === 'stranger' && entry.held[what] >= NEWCOMER_COUNT && strangersHeld[what] >= newcomersFrom(what)) return { quota: what, isShared: true, retryMs: LIMITS.relaySpliceRetryMs }
    return undefined
  }

  /** From here on places are for newcomers, so that a few sources with many keys cannot shut out everybody else. */
  function newcomersFrom (what: keyof Held): number {
    const placeCount = Math.min(settings.places?.[what] ?? Infinity, settings.strangers[what] ?? Infinity)
    // of a few places an eighth is none
    return placeCount < SHARED_PLACE_COUNT ? Infinity : Math.floor(placeCount * 7 / 8)
  }

  function hold (account: QuotaAccount, what: keyof Held): () => void {
    const entry = account as Entry
    const isStranger = entry.class === 'stranger'
    let isHeld = true
    entry.held[what]++
    if (isStranger) strangersHeld[what]++
    return () => {
      if (!isHeld) return
      isHeld = false
      entry.held[what]--
      if (isStranger) strangersHeld[what]--
    }
  }

  function note (byteCount: number): void {
    const nowMs = clock.monotonicMs()
    if (nowMs - second.startedAtMs >= 1000) second = { startedAtMs: nowMs, bytes: 0, lastShare: shareOfRate() }
    second.bytes += byteCount
  }

  function shareOfRate (): number {
    if (settings.bytesPerSecond === undefined || clock.monotonicMs() - second.startedAtMs >= 2000) return 0
    return Math.min(1, second.bytes / settings.bytesPerSecond)
  }

  function startFlow (account: QuotaAccount, extra: ByteRate | undefined, onOver: () => void): QuotaFlow {
    const entry = account as Entry
    entry.flowCount++
    let isEnded = false
    let goOn: (() => void) | undefined
    const waitingFor = new Set<() => void>()
    // the own rate first; each gate has a function of its own to wait with
    const gates = [entry.rate, extra, entry.strangersShare, entry.fairShare].filter((rate) => rate !== undefined).map((rate) => {
      const resume = (): void => {
        if (!waitingFor.delete(resume) || waitingFor.size > 0) return
        goOn?.()
      }
      return { rate, resume }
    })
    return {
      charge: (byteCount, resume) => {
        goOn = resume
        note(byteCount)
        rollDay(entry)
        entry.sentTodayBytes += byteCount
        entry.isDirty = true
        const isOverOwn = entry.sentTodayBytes > (settings[entry.class].bytesPerDay ?? Infinity)
        let isOverAll = false
        if (entry.class === 'stranger') {
          strangersToday()
          strangersSent.bytes += byteCount
          isOverAll = strangersSent.bytes > (settings.strangers.bytesPerDay ?? Infinity)
        }
        if (isOverOwn || isOverAll) {
          onOver()
          return true
        }
        for (const { rate, resume: waiter } of gates) if (!rate.charge(byteCount, waiter)) waitingFor.add(waiter)
        return waitingFor.size === 0
      },
      end: () => {
        if (isEnded) return
        isEnded = true
        entry.flowCount--
        waitingFor.clear()
        for (const { rate, resume } of gates) rate.cancel(resume)
      }
    }
  }

  function saveEntries (some: readonly Entry[]): void {
    if (memory === undefined) return
    const day = today()
    const due = some.filter((entry) => entry.isDirty && entry.day === day)
    if (due.length === 0) return
    memory.save(day, due.map(({ key, sentTodayBytes }) => ({ key, sentBytes: sentTodayBytes })))
    for (const entry of due) entry.isDirty = false
  }

  return {
    accountOf,
    judge,
    hold,
    startFlow,
    configure: (next) => {
      settings = next
      whole.refresh()
      strangers.refresh()
      for (const entry of entries.values()) entry.rate.refresh()
    },
    save: () => {
      saveEntries([...entries.values()].filter((entry) => settings[entry.class].bytesPerDay !== undefined))
      if (memory !== undefined && settings.strangers.bytesPerDay !== undefined && strangersToday() > 0) memory.save(strangersSent.day, [{ key: STRANGERS_KEY, sentBytes: strangersSent.bytes }])
    },
    setMemory: (given) => {
      memory = given
      if (memory === undefined) return
      strangersSent.bytes = Math.max(strangersToday(), memory.load(strangersSent.day, STRANGERS_KEY))
      // those that were there before
      for (const entry of entries.values()) entry.sentTodayBytes = Math.max(entry.sentTodayBytes, memory.load(entry.day, entry.key))
    },
    list: () => {
      for (const entry of entries.values()) rollDay(entry)
      return [...entries.values()].filter((entry) => entry.held.reservations > 0 || entry.held.circuits > 0 || entry.sentTodayBytes > 0)
    },
    rateShare: () => Math.max(shareOfRate(), clock.monotonicMs() - second.startedAtMs < 2000 ? second.lastShare : 0),
    get size () { return entries.size }
  }
}

const DAY_MS = 86_400_000
const LOOK_COUNT = 64
/** A source that holds fewer is a newcomer. */
const NEWCOMER_COUNT = 2
const SHARED_PLACE_COUNT = 64
/** The account of all strangers together, in the store. */
const STRANGERS_KEY = 'strangers'
