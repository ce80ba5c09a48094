/** What each identity sent through splices, and its share of the rate: what quotas are decided on. In memory, bounded. */
import type { Clock } from '../base/index.ts'
import { createByteRate } from './byte-rate.ts'
import type { ByteRate, BytesPerSecond } from './byte-rate.ts'

/** The account of one identity. */
export interface SpliceAccount { sentBytes: number, readonly rate: ByteRate }

/** Accounts by peer; the key is that of the reservation table. */
export interface SpliceAccounts {
  /** The account, made when it is new; it counts as seen now. */
  of: (peer: string) => SpliceAccount
  /** Looks at the rate again, which the operator has changed. */
  refresh: () => void
  readonly size: number
}

/** Creates an empty table; the account that was not seen for longest makes room. */
export function createSpliceAccounts (clock: Clock, init: { bytesPerSecond: BytesPerSecond, maxCount: number }): SpliceAccounts {
  const { bytesPerSecond } = init
  const accounts = new Map<string, SpliceAccount>()
  return {
    of: (peer) => {
      const account = accounts.get(peer) ?? { sentBytes: 0, rate: createByteRate(clock, { bytesPerSecond }) }
      accounts.delete(peer)
      accounts.set(peer, account)
      const oldest = accounts.keys().next()
      if (accounts.size > init.maxCount && oldest.done !== true) accounts.delete(oldest.value)
      return account
    },
    refresh: () => { for (const { rate } of accounts.values()) rate.refresh() },
    get size () { return accounts.size }
  }
}
