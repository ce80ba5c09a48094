import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics, LIMITS, silentLogger } from '../../../src/base/index.ts'
import type { HostAndPort } from '../../../src/base/index.ts'
import { createLocalDiscovery } from '../../../src/node/local-discovery.ts'
import type { LocalDiscovery } from '../../../src/node/local-discovery.ts'
import { hourOf, lanSecret, lanTag, sealAnswer } from '../../../src/node/mdns-secret.ts'
import { decodeQuery, encodeAnswer } from '../../../src/node/mdns-wire.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { makeIdentity } from '../../support/node-pair.ts'

const NEIGHBOUR = '192.168.7.9'
const interfaces = { eth0: [{ address: '192.168.7.5', netmask: '', family: 'IPv4' as const, mac: '', internal: false, cidr: '192.168.7.5/24' }] }

interface Round {
  discovery: LocalDiscovery
  foundCount: () => number
  recall: () => string[]
  /** Says that the friend listens at `addresses`. */
  answer: (addresses: HostAndPort[], change?: { isForeign?: boolean, spoil?: boolean }, host?: string) => void
}

/** A laptop that has just asked for the office. */
async function askForOffice (): Promise<Round> {
  const clock = createFakeClock()
  const [laptop, office] = await Promise.all([makeIdentity(), makeIdentity()])
  const asked: Array<{ query: Uint8Array, onAnswer: (answer: Uint8Array, host: string) => void }> = []
  let foundCount = 0
  const discovery = createLocalDiscovery({
    clock,
    log: silentLogger,
    random: () => 0.5,
    identity: laptop,
    friends: () => [office.did],
    isNear: () => false,
    interfaces: () => interfaces,
    addresses: () => [],
    createMdns: () => ({ start: async () => {}, refresh: () => {}, stop: async () => {}, ask: async (query, onAnswer) => { asked.push({ query, onAnswer }) } }),
    onFound: () => { foundCount++ },
    results: createMetrics().counter('carrier_test_total', 'test', ['result'])
  })
  await discovery.start()
  const [first] = asked
  assert.ok(first !== undefined)
  const secret = lanSecret(office, laptop.did)
  const tag = lanTag(secret, laptop.did, hourOf(clock.now()))
  const id = decodeQuery(first.query)?.id ?? -1
  return {
    discovery,
    foundCount: () => foundCount,
    recall: () => discovery.recall(office.did),
    answer: (addresses, change = {}, host = NEIGHBOUR) => {
      const sealed = sealAnswer(secret, tag, addresses, new Uint8Array(24))
      if (change.spoil === true) sealed[40] = (sealed[40] ?? 0) ^ 1
      first.onAnswer(encodeAnswer(change.isForeign === true ? id ^ 1 : id, tag, sealed), host)
    }
  }
}

test('an old answer that somebody repeats does not take the place of the friend\'s own', async () => {
  const { discovery, answer, recall, foundCount } = await askForOffice()
  answer([{ host: '192.168.7.66', port: 4001 }])
  answer([{ host: '192.168.7.5', port: 4001 }])
  assert.deepEqual(recall(), ['/ip4/192.168.7.5/tcp/4001', '/ip4/192.168.7.66/tcp/4001'])
  assert.equal(foundCount(), 2)
  answer([{ host: '192.168.7.66', port: 4001 }])
  assert.equal(foundCount(), 2, 'what is known is no news')
  await discovery.stop()
})

test('I8: what was not asked for takes nobody\'s place, and for one friend only so many answers are opened', async () => {
  const { discovery, answer, recall, foundCount } = await askForOffice()
  const there = [{ host: '192.168.7.5', port: 4001 }]
  for (let count = 0; count < 2 * LIMITS.lanAnswerCount; count++) {
    answer(there, { isForeign: true })
    answer(there, {}, '10.0.0.1')
  }
  for (let count = 1; count < LIMITS.lanAnswerCount; count++) answer(there, { spoil: true })
  assert.deepEqual(recall(), [])
  answer(there)
  assert.deepEqual(recall(), ['/ip4/192.168.7.5/tcp/4001'])
  answer([{ host: '192.168.7.77', port: 4001 }])
  assert.equal(foundCount(), 1)
  await discovery.stop()
})
