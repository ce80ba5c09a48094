/** What is known of the relays that a device uses: from the record that it told us, or from the DHT. */
import { CarrierError, errorMessage, LIMITS } from '../base/index.ts'
import type { Clock, Logger } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { DhtClient } from './dht-client.ts'
import { judgeRelayHints } from './relay-hints.ts'
import type { RelayHintRules, RelayHints } from './relay-hints.ts'
import type { RelayRecord } from './relay-record.ts'
import { deriveLookUpKey } from './relay-record-key.ts'
import type { LookUpKey, LookUpSecret } from './relay-record-key.ts'
import { openRelayEnvelope } from './relay-record-envelope.ts'
import type { PeerLevel } from './types.ts'

/** Where records of other devices are kept; the owner of the node decides whose. */
export interface RelayRecordBook {
  /** The newest record of the device. A look-up. */
  recall: (device: Did) => RelayRecord | undefined
  /** Under what the device's record may lie in the DHT; empty when nothing is known. A look-up. */
  secretsOf: (device: Did) => readonly LookUpSecret[]
  /** Keeps a verified record, unless a newer one is known. */
  keep: (record: RelayRecord, bytes: Uint8Array) => void
  /** Epoch milliseconds by which records are judged: a clock that was set wrong must not make them expire. The node's clock when absent. */
  now?: () => number
}

/** What the dialer is told of a device's relays. */
export interface DialHints extends RelayHints {
  /** The record is still valid: the device is most likely there. */
  isFresh: boolean
}

/** Answers for the dialer. */
export interface RelayHintSource {
  hintsFor: (device: Did) => DialHints
  /** True when a look-up in the DHT may tell more. */
  mayLookUp: (device: Did) => boolean
  /** Looks the device's record up and keeps what it finds. @throws CarrierError ERR_NOT_FOUND, or the signal's reason */
  lookUp: (device: Did, signal: AbortSignal) => Promise<void>
  /** The device was reached: the next look-up need not wait. */
  noteReached: (device: Did) => void
}

/** What the source needs. */
export interface RelayHintSourceComponents {
  book: RelayRecordBook
  dht: Pick<DhtClient, 'get'>
  clock: Clock
  log: Logger
  levelOf: (device: Did) => PeerLevel
  rules: () => RelayHintRules
}

const NOTHING: DialHints = { listed: [], borrowed: [], isFresh: false }

/** Creates the source. */
export function createRelayHintSource (components: RelayHintSourceComponents): RelayHintSource {
  const { book, dht, clock, log, levelOf } = components
  /** Look-ups since the device was reached. */
  const lookUps = new Map<Did, { count: number, atMs: number }>()
  const keys = new Map<string, Promise<LookUpKey>>()
  const now = (): number => book.now?.() ?? clock.now()

  function isKnown (device: Did): boolean {
    const level = levelOf(device)
    return level === 'friend' || level === 'pending'
  }

  async function keyFor (device: Did, by: LookUpSecret): Promise<LookUpKey> {
    const id = `${device} ${by.kind} ${Buffer.from(by.kind === 'friend' ? by.secret : by.nospam).toString('base64')}`
    const key = keys.get(id) ?? deriveLookUpKey(device, by)
    keys.delete(id)
    keys.set(id, key)
    const [oldest] = keys.keys()
    if (keys.size > LIMITS.relayLookUpCount && oldest !== undefined) keys.delete(oldest)
    return key
  }

  function noteLookUp (device: Did): void {
    const count = (lookUps.get(device)?.count ?? 0) + 1
    lookUps.delete(device)
    lookUps.set(device, { count, atMs: clock.monotonicMs() })
    const [oldest] = lookUps.keys()
    if (lookUps.size > LIMITS.relayLookUpCount && oldest !== undefined) lookUps.delete(oldest)
  }

  async function lookUpBy (device: Did, by: LookUpSecret, signal: AbortSignal): Promise<number> {
    const key = await keyFor(device, by)
    let foundCount = 0
    for (const value of await dht.get(key.dhtKey, signal)) {
      try {
        const { record, bytes } = openRelayEnvelope(value, key, device, now())
        book.keep(record, bytes)
        foundCount++
      } catch (err) {
        // a server may give anything; the next one may tell the truth
        log.debug('a record of the DHT was refused', { device, reason: errorMessage(err) })
      }
    }
    return foundCount
  }

  return {
    hintsFor: (device) => {
      if (!isKnown(device)) return NOTHING
      const record = book.recall(device)
      const nowMs = now()
      if (record === undefined || record.expiresAtMs + LIMITS.relayRecordKeepMs < nowMs) return NOTHING
      return { ...judgeRelayHints(record.relays, components.rules()), isFresh: record.expiresAtMs > nowMs }
    },
    mayLookUp: (device) => {
      const last = lookUps.get(device)
      const isDue = last === undefined || clock.monotonicMs() - last.atMs >= Math.min(LIMITS.relayLookUpMaxMs, LIMITS.relayLookUpFirstMs * 2 ** Math.min(last.count - 1, 16))
      return isDue && isKnown(device) && book.secretsOf(device).length > 0
    },
    lookUp: async (device, signal) => {
      noteLookUp(device)
      const counts = await Promise.all(book.secretsOf(device).map(async (by) => lookUpBy(device, by, signal)))
      signal.throwIfAborted()
      if (counts.every((count) => count === 0)) throw new CarrierError('ERR_NOT_FOUND', 'the DHT has no relay record of the device')
    },
    noteReached: (device) => { lookUps.delete(device) }
  }
}
