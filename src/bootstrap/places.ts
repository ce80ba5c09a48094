/** The places for circuits and splices of a relay, which both servers share: who has one, who may have one, and to whose account it counts. */
import type { Connection } from '@libp2p/interface'
import type { CounterMetric } from '../base/index.ts'
import { sourcePrefix } from '../node/index.ts'
import type { CircuitTable } from './circuit-table.ts'
import type { HopServerInit } from './hop-bounds.ts'
import type { UsageTable } from './peer-usage.ts'
import type { PeerClass, QuotaAccount, QuotaBook, QuotaRefusal } from './quota-book.ts'
import { peerKey } from './reservation-table.ts'

/** What the places are made of. */
export interface PlacesComponents {
  circuits: Pick<CircuitTable, 'claim' | 'release' | 'claimed'>
  usage: UsageTable
  quotas: QuotaBook
  /** How the operator knows the peer of this {@link peerKey}. */
  classOf: (peer: string) => PeerClass
  /** Counts refusals by quota and whose it is. */
  refusals: CounterMetric
  bounds: () => Required<HopServerInit>
}

/** A refusal by quota. That of the called peer is not told to the caller (I3): it is a relay without a place. */
export interface CircuitRefusal { refusal: QuotaRefusal, whose: 'caller' | 'called' }

/** The places. */
export interface Places {
  /** False when there are as many circuits and splices as may be: in all, of this caller, or to this called peer. */
  hasPlaceFor: (caller: string, called: string) => boolean
  /** Takes a place, which counts to the caller's account, until the given function is called, once. */
  claim: (caller: string, called: string, account: QuotaAccount) => () => void
  /** Why the one may not open a circuit or splice to the other by the quotas, if so; such a refusal is counted. */
  judgeCircuit: (caller: QuotaAccount, called: QuotaAccount) => CircuitRefusal | undefined
  /** The account of the peer at the other end of a connection. */
  accountOf: (connection: Connection) => QuotaAccount
  /** Counts a refusal by quota, whichever protocol it is told on. */
  note: (account: QuotaAccount, refusal: QuotaRefusal) => void
}

/** Creates them; all are free. */
export function createPlaces ({ circuits, usage, quotas, classOf, refusals, bounds }: PlacesComponents): Places {
  function note (account: QuotaAccount, { quota, isShared }: QuotaRefusal): void {
    refusals.add(1, { quota, class: isShared ? 'strangers' : account.class })
  }

  function accountOf (connection: Connection): QuotaAccount {
    const key = peerKey(connection.remotePeer.toMultihash().bytes)
    return quotas.accountOf({ key, class: classOf(key), source: sourcePrefix(connection.remoteAddr.getComponents()[0]?.value) })
  }

  function hasPlaceFor (caller: string, called: string): boolean {
    return circuits.claimed < bounds().maxCircuits && usage.get(caller).callerCircuits < bounds().maxCircuitsPerCaller && usage.get(called).calledCircuits < bounds().maxCircuitsPerCalled
  }

  function judgeCircuit (callerAccount: QuotaAccount, calledAccount: QuotaAccount): CircuitRefusal | undefined {
    const own = quotas.judge(callerAccount, 'circuits')
    if (own !== undefined) {
      note(callerAccount, own)
      return { refusal: own, whose: 'caller' }
    }
    const others = quotas.judge(calledAccount, 'circuits')
    // who is called opens nothing, but cannot answer either when its bytes are used up
    if (others?.quota !== 'bytes_per_day') return undefined
    note(calledAccount, others)
    return { refusal: others, whose: 'called' }
  }

  function claim (caller: string, called: string, account: QuotaAccount): () => void {
    const release = quotas.hold(account, 'circuits')
    circuits.claim()
    usage.add(caller, 'callerCircuits', 1)
    usage.add(called, 'calledCircuits', 1)
    return () => {
      release()
      circuits.release()
      usage.add(caller, 'callerCircuits', -1)
      usage.add(called, 'calledCircuits', -1)
    }
  }

  return { hasPlaceFor, claim, judgeCircuit, accountOf, note }
}
