/**
 * The relay records that a DHT server keeps: sealed, signed with keys that say nothing about their owners, and gone after a day.
 * Whatever is offered is judged by its form, its age and its source before the signature, which is the only thing that costs (I9).
 */
import { CarrierError, LIMITS, equalBytes, toHex } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import { checkRelayEnvelope, createRateLimit } from '../node/index.ts'
import { createDhtShelf } from './dht-shelf.ts'
import type { DhtEntry, DhtSource } from './dht-shelf.ts'
import { isEnvelopeSigned } from './dht-signature.ts'

/** The store. */
export interface DhtStore {
  /**
   * Keeps a record unless a newer one is known. `source` is whom its place is counted for.
   *
   * @throws CarrierError ERR_PROTOCOL (not a record for this key), ERR_LIMIT (too many at once), ERR_SUPERSEDED (a newer one is known)
   */
  put: (key: Uint8Array, value: Uint8Array, source: DhtSource) => void
  get: (key: Uint8Array) => Uint8Array | undefined
  /** Drops some of what has expired; to be called every LIMITS.dhtSweepMs. */
  sweep: () => void
  readonly size: number
}

/** Creates an empty store; it is kept in memory only: records are made anew by their owners. */
export function createDhtStore (clock: Pick<Clock, 'now' | 'monotonicMs'>): DhtStore {
  const shelf = createDhtShelf()
  const checks = createRateLimit(clock, LIMITS.dhtChecksPerSecondCount)
  const checksOfSource = createRateLimit(clock, LIMITS.dhtChecksPerSourcePerSecondCount)
  const checksOfServers = createRateLimit(clock, LIMITS.dhtServerChecksPerSecondCount)

  function valueOf (id: string): DhtEntry | undefined {
    const entry = shelf.get(id)
    if (entry !== undefined && entry.expiresAtMs <= clock.now()) {
      shelf.drop(id)
      return undefined
    }
    return entry
  }

  /** The source first: what one sends in vain must not use up what all others have. */
  function mayCheck ({ name, isServer }: DhtSource): boolean {
    return isServer ? checksOfServers.take(name) : checksOfSource.take(name) && checks.take('')
  }

  return {
    put: (key, value, source) => {
      const envelope = checkRelayEnvelope(value, key, clock.now())
      const id = toHex(key)
      const known = valueOf(id)
      if (known !== undefined && equalBytes(known.value, value)) return
      if (known !== undefined && known.seq >= envelope.seq) throw new CarrierError('ERR_SUPERSEDED', 'a newer record is known for this key')
      if (!mayCheck(source)) throw new CarrierError('ERR_LIMIT', 'too many records are being checked')
      if (!isEnvelopeSigned(envelope)) {
        // nobody makes a wrong one by mistake
        if (!source.isServer) for (let cost = 1; cost < LIMITS.dhtForgedCheckCost; cost++) checksOfSource.take(source.name)
        throw new CarrierError('ERR_PROTOCOL', 'the signature of the record is wrong')
      }
      // a copy: what was given is a part of something larger
      shelf.add(id, { value: new Uint8Array(value), seq: envelope.seq, expiresAtMs: envelope.expiresAtMs, source })
    },
    get: (key) => valueOf(toHex(key))?.value,
    sweep: () => { shelf.sweep(clock.now()) },
    get size () { return shelf.size }
  }
}
