/** What `carrier-bootstrap status` and `peers` show. Who somebody is stays out of it unless it is asked for. Pure. */
import { base58 } from '@scure/base'
import type { AdmissionMode } from './admission-lists.ts'
import type { PeerClass, QuotaAccount, Quotas } from './quota-book.ts'
import type { ReachReport } from './reach-check.ts'

/** How the last reload of the configuration went; `at` is epoch ms. */
export interface ReloadState { at: number, result: 'ok' | 'refused', error?: string, changed: readonly string[], needRestart: readonly string[] }

/** The relay as `status` shows it; times in ms, `startedAt` epoch ms. */
export interface RelayStatus {
  version: string
  pid: number
  peerId: string
  addresses: readonly string[]
  /** Whether another relay reaches them. */
  reach: ReachReport
  health?: string
  splice?: number
  startedAt: number
  uptimeMs: number
  isReady: boolean
  isDraining: boolean
  loadPermille: number
  connections: number
  pendingConnections: number
  reservations: number
  circuits: number
  splices: number
  accounts: number
  residentBytes: number
  admission: { mode: AdmissionMode, callers: 'anyone' | 'listed', allow: number, members: number, friends: number }
  lastReload?: ReloadState
}

/** One account as `peers` shows it; `limits`: what it may have of each, an absent one is none. */
export interface PeerView { who: string, class: PeerClass, reservations: number, circuits: number, sentTodayBytes: number, limits: Quotas }

/** The accounts, those that sent most today first; names are shortened unless `isFull`. */
export function viewPeers (accounts: readonly QuotaAccount[], quotas: Readonly<Record<PeerClass, Quotas>>, isFull: boolean): PeerView[] {
  return accounts.toSorted((a, b) => b.sentTodayBytes - a.sentTodayBytes || (a.key < b.key ? -1 : 1)).map((account) => ({
    who: nameOf(account, isFull),
    class: account.class,
    reservations: account.held.reservations,
    circuits: account.held.circuits,
    sentTodayBytes: account.sentTodayBytes,
    limits: quotas[account.class]
  }))
}

function nameOf ({ key, class: peerClass }: QuotaAccount, isFull: boolean): string {
  if (peerClass === 'stranger') {
    const source = key.slice('source:'.length)
    // an IPv4 address without its end; of an IPv6 prefix the provider's part
    return isFull ? source : source.includes(':') ? `${source.split(':').slice(0, 2).join(':')}:…` : `${source.split('.').slice(0, 2).join('.')}.…`
  }
  const peerId = base58.encode(Buffer.from(key, 'hex'))
  return isFull ? peerId : `…${peerId.slice(-6)}`
}
