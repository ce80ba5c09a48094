/** Our own relay record in the DHT: sealed once for our friends, and once for each address that we gave away. */
import { randomBytes } from 'node:crypto'
import { backoffMs, errorCode, LIMITS, sleep, toHex } from '../base/index.ts'
import type { Clock, CounterMetric, Logger } from '../base/index.ts'
import { deriveNospam } from '../identity/index.ts'
import type { AddressBook, Identity, LabelledAddress } from '../identity/index.ts'
import { deriveLookUpKey, sealRelayRecord } from '../node/index.ts'
import type { DhtClient, LookUpKey, LookUpSecret } from '../node/index.ts'

/** Our record as it was signed last. */
export interface OwnRelayRecord { bytes: Uint8Array, seq: number, expiresAtMs: number, relays: readonly string[] }

/** What the publisher needs. */
export interface RelayPublisherComponents {
  identity: Identity
  addresses: Pick<AddressBook, 'list'>
  dht: Pick<DhtClient, 'put'>
  ownSecret: () => Uint8Array
  clock: Clock
  /** In [0, 1); for jitter only. */
  random: () => number
  log: Logger
  /** Counts by result. */
  publications: CounterMetric
}

/** Puts the record where it can be found. */
export interface RelayPublisher {
  /** Goes on until every copy is kept by some server or the signal fires; called again with the same record it puts the same bytes. */
  publish: (record: OwnRelayRecord, signal: AbortSignal) => Promise<void>
}

/** Creates the publisher. */
export function createRelayPublisher (components: RelayPublisherComponents): RelayPublisher {
  const { identity, clock, log } = components
  const addressKeys = new Map<number, Promise<LookUpKey>>()
  // a server that has the record refuses other bytes with the same number
  let sealed: { seq: number, envelopes: Map<string, Uint8Array> } = { seq: -1, envelopes: new Map() }

  async function keyOf (by: LookUpSecret): Promise<LookUpKey> {
    return deriveLookUpKey(identity.did, by)
  }

  /** Slow, and for ever the same. */
  async function addressKey (number: number): Promise<LookUpKey> {
    const key = addressKeys.get(number) ?? keyOf({ kind: 'address', nospam: deriveNospam(identity, number) })
    addressKeys.set(number, key)
    return key
  }

  async function keys (): Promise<LookUpKey[]> {
    const numbers = publishedNumbers(components.addresses.list())
    for (const number of addressKeys.keys()) if (!numbers.includes(number)) addressKeys.delete(number)
    return Promise.all([keyOf({ kind: 'friend', secret: components.ownSecret() }), ...numbers.map(addressKey)])
  }

  function envelopeFor (key: LookUpKey, record: OwnRelayRecord): Uint8Array {
    if (sealed.seq !== record.seq) sealed = { seq: record.seq, envelopes: new Map() }
    const id = toHex(key.dhtKey)
    const envelope = sealed.envelopes.get(id) ?? sealRelayRecord(identity, key, record, (length) => new Uint8Array(randomBytes(length)))
    sealed.envelopes.set(id, envelope)
    return envelope
  }

  async function putAll (pending: readonly LookUpKey[], record: OwnRelayRecord, signal: AbortSignal): Promise<LookUpKey[]> {
    const left: LookUpKey[] = []
    for (const key of pending) {
      // whoever began anew has other keys: one of these may belong to an address that was revoked meanwhile
      signal.throwIfAborted()
      const serverCount = await components.dht.put(key.dhtKey, envelopeFor(key, record), signal)
      components.publications.add(1, { result: serverCount > 0 ? 'kept' : 'not-kept' })
      if (serverCount === 0) left.push(key)
    }
    return left
  }

  return {
    publish: async (record, signal) => {
      let pending = await keys()
      for (let attempt = 0; pending.length > 0; attempt++) {
        try {
          pending = await putAll(pending, record, signal)
        } catch (err) {
          signal.throwIfAborted()
          log.debug('the relay record was not put into the DHT', { code: errorCode(err) })
        }
        if (pending.length > 0) await sleep(clock, backoffMs(RETRY, attempt, components.random), signal)
      }
    }
  }
}

/** The addresses under which we can be found: the one that `carrier id` prints, and the newest. Pure. */
export function publishedNumbers (addresses: readonly LabelledAddress[]): number[] {
  const live = addresses.filter((address) => address.revokedAt === undefined).map((address) => address.number).sort((a, b) => a - b)
  const [first, ...others] = live
  return first === undefined ? [] : [first, ...others.slice(-(LIMITS.relayRecordAddressCount - 1))]
}

const RETRY = { firstMs: 15_000, maxMs: 600_000, factor: 2 }
