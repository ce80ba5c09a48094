/**
 * One rate that many accounts share fairly: who stays below an equal share is never made to wait, whatever the others want, and
 * what these leave goes to those that want more, the neediest first.
 */
import type { Clock, Timer } from '../base/index.ts'
import { burstBytes } from './byte-rate.ts'
import type { ByteRate, BytesPerSecond } from './byte-rate.ts'

/** The rate. */
export interface FairRate {
  /** A share for one account; all senders of the account use it. It needs no end. */
  join: () => ByteRate
  /** Looks at the rate again, which the operator has changed. */
  refresh: () => void
}

/** One account's share. */
interface Share {
  balance: number
  pieceBytes: number
  filledAtMs: number
  chargedAtMs: number
  /** Who waits, with the length of its last piece. */
  waiting: Map<() => void, number>
}

/** Creates the rate. Equal shares are of the accounts that sent within the last second. */
export function createFairRate (clock: Clock, init: { bytesPerSecond: BytesPerSecond }): FairRate {
  /** Shares that sent of late, or wait. */
  const active = new Set<Share>()
  let balance = burstBytes(init.bytesPerSecond() ?? 0)
  let filledAtMs = clock.monotonicMs()
  let timer: Timer | undefined
  let forgotAtMs = filledAtMs

  function fill (bytesPerSecond: number, nowMs: number): void {
    balance = Math.min(burstBytes(bytesPerSecond), balance + (nowMs - filledAtMs) * bytesPerSecond / 1000)
    filledAtMs = nowMs
  }

  function fillShare (share: Share, bytesPerSecond: number, nowMs: number): void {
    const equal = bytesPerSecond / Math.max(active.size, 1)
    // a share saves up little, also in time, else a burst of many would be a debt of all; and owes no more than a second, else who used
    // what nobody wanted would wait for it later. One piece it owes whole: many small shares would be forgiven most of it each time
    const elapsedMs = share.waiting.size > 0 ? nowMs - share.filledAtMs : Math.min(nowMs - share.filledAtMs, ACTIVE_MS)
    share.balance = Math.max(-Math.max(equal, share.pieceBytes), Math.min(burstBytes(equal), share.balance + elapsedMs * equal / 1000))
    share.filledAtMs = nowMs
  }

  /** At most once a second: it is a walk over all. */
  function forgetIdle (nowMs: number): void {
    if (nowMs - forgotAtMs < ACTIVE_MS) return
    forgotAtMs = nowMs
    for (const share of active) if (share.waiting.size === 0 && nowMs - share.chargedAtMs >= ACTIVE_MS) active.delete(share)
  }

  function arm (bytesPerSecond: number): void {
    if (timer !== undefined) return
    for (const share of active) {
      if (share.waiting.size === 0) continue
      timer = clock.setTimer(onTimer, Math.max(TURN_MS, -balance * 1000 / bytesPerSecond))
      return
    }
  }

  function onTimer (): void {
    timer = undefined
    const bytesPerSecond = init.bytesPerSecond()
    const nowMs = clock.monotonicMs()
    forgetIdle(nowMs)
    if (bytesPerSecond === undefined) {
      balance = 0
      for (const share of active) resumeAll(share)
      return
    }
    fill(bytesPerSecond, nowMs)
    if (balance >= 0) resumeHungry(bytesPerSecond, nowMs)
    arm(bytesPerSecond)
  }

  /** Only while the whole allows it, also who has a share left: else all that have saved one up would go on at once. */
  function resumeHungry (bytesPerSecond: number, nowMs: number): void {
    for (const share of active) fillShare(share, bytesPerSecond, nowMs)
    // what those that go on will read is spent in advance here; the charge that follows is the truth
    let spare = balance
    const hungry = [...active].filter((share) => share.waiting.size > 0).sort((a, b) => b.balance - a.balance)
    for (const share of hungry) {
      for (const [resume, pieceBytes] of [...share.waiting]) {
        if (spare < 0) return
        share.waiting.delete(resume)
        spare -= pieceBytes
        resume()
      }
    }
  }

  function resumeAll (share: Share): void {
    const due = [...share.waiting.keys()]
    share.waiting.clear()
    for (const resume of due) resume()
  }

  return {
    join: () => {
      const share: Share = { balance: 0, pieceBytes: 0, filledAtMs: clock.monotonicMs(), chargedAtMs: 0, waiting: new Map() }
      return {
        charge: (byteCount, resume) => {
          const bytesPerSecond = init.bytesPerSecond()
          if (bytesPerSecond === undefined) return true
          const nowMs = clock.monotonicMs()
          forgetIdle(nowMs)
          active.add(share)
          fill(bytesPerSecond, nowMs)
          fillShare(share, bytesPerSecond, nowMs)
          share.chargedAtMs = nowMs
          balance -= byteCount
          share.balance -= byteCount
          share.pieceBytes = byteCount
          if (balance >= 0 || share.balance >= 0) return true
          share.waiting.set(resume, byteCount)
          arm(bytesPerSecond)
          return false
        },
        cancel: (resume) => { share.waiting.delete(resume) },
        refresh: () => { /* the whole is refreshed */ }
      }
    },
    refresh: () => {
      timer?.cancel()
      onTimer()
    }
  }
}

const ACTIVE_MS = 1_000
const TURN_MS = 5
