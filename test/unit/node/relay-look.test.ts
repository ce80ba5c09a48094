import assert from 'node:assert/strict'
import test from 'node:test'
import type { Connection } from '@libp2p/interface'
import { createMetrics, silentLogger } from '../../../src/base/index.ts'
import { parseRelayAddress } from '../../../src/node/relay-address.ts'
import { createRelayLook } from '../../../src/node/relay-supervisor-look.ts'
import { createKeptRelay } from '../../../src/node/relay-supervisor-record.ts'
import type { KeptRelay } from '../../../src/node/relay-supervisor-record.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const ADDRESS = '/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWK1C1bMWh3PaRZV4EURs2SXAWcnJ9kd4qe8c1ojbrhDaJ'

function lookAt (init: { speaks: boolean, isKnown: boolean }): { item: KeptRelay, once: () => Promise<void>, askedCount: () => number } {
  let isKnown = init.isKnown
  let askedCount = 0
  const item = createKeptRelay(parseRelayAddress(ADDRESS))
  const look = createRelayLook<KeptRelay>({
    clock: createFakeClock(),
    log: silentLogger,
    probes: createMetrics().counter('probes_total', 'Probes.', ['result']),
    ping: async () => 5,
    probe: async () => 'forwards',
    askLoad: async () => isKnown ? { permille: 120, isDraining: false } : undefined,
    identify: async () => {
      askedCount++
      isKnown = init.speaks
    },
    random: () => 0.5
  }, { onDrains: () => {}, onUsedUp: () => {}, onProbed: () => {}, onLooked: () => {} })
  return { item, once: async () => { await look.once(item, {} as unknown as Connection, new AbortController().signal) }, askedCount: () => askedCount }
}

test('a relay whose word about itself came too late is asked again what it speaks, and then how full it is', async () => {
  const { item, once, askedCount } = lookAt({ speaks: true, isKnown: false })
  await once()
  assert.deepEqual([askedCount(), item.status.loadPermille], [1, 120])
  await once()
  assert.equal(askedCount(), 1)
})

test('what a relay said of our quota holds until it says something else: a question without an answer says nothing', async () => {
  const told: unknown[] = []
  const quota = { quota: 'bytes_per_day', retryMs: 3_600_000, shared: false }
  const answers = [{ circuits: quota }, undefined, {}]
  const look = createRelayLook<KeptRelay>({
    clock: createFakeClock(),
    log: silentLogger,
    probes: createMetrics().counter('probes_total', 'Probes.', ['result']),
    ping: async () => 5,
    probe: async () => 'unknown',
    askLoad: async () => undefined,
    askQuota: async () => answers.shift(),
    random: () => 0.5
  }, { onDrains: () => {}, onUsedUp: (_item, usedUp) => { told.push(usedUp) }, onProbed: () => {}, onLooked: () => { if (answers.length === 0) ended.abort(); else ring() } })
  const ended = new AbortController()
  const item = createKeptRelay(parseRelayAddress(ADDRESS))
  let ring = (): void => {}
  while (!ended.signal.aborted) {
    const looked = new AbortController()
    ring = () => { looked.abort() }
    await look.untilLost(item, { status: 'open' } as unknown as Connection, () => {}, AbortSignal.any([ended.signal, looked.signal]))
  }
  assert.deepEqual(told, [quota, undefined])
})

test('a relay that tells nothing is measured all the same', async () => {
  const { item, once } = lookAt({ speaks: false, isKnown: false })
  await once()
  assert.deepEqual([item.status.rttMs, item.status.loadPermille], [5, undefined])
})
