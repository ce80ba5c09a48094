/** Devices with a friend list and relay records, on relays in this process: each device lists the relays that a test gives it. */
import { join } from 'node:path'
import { createMetrics, openDatabase, silentLogger, systemClock } from '../../src/base/index.ts'
import type { Metrics } from '../../src/base/index.ts'
import { BOOTSTRAP_DEFAULTS, createBootstrap } from '../../src/bootstrap/index.ts'
import type { Bootstrap } from '../../src/bootstrap/index.ts'
import { createFriends, createRelayRecords, FRIENDS_MIGRATIONS } from '../../src/friends/index.ts'
import type { Friends, RelayRecords } from '../../src/friends/index.ts'
import { ADDRESS_MIGRATIONS, createAddressBook } from '../../src/identity/index.ts'
import type { AddressBook, Did, Identity } from '../../src/identity/index.ts'
import { createNode } from '../../src/node/index.ts'
import type { Node } from '../../src/node/index.ts'
import { makeIdentity } from './node-pair.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENT, waitFor } from './wait.ts'

/** A device that runs. */
export interface RecordDevice {
  did: Did
  identity: Identity
  addresses: AddressBook
  friends: Friends
  node: Node
  records: RelayRecords
  metrics: Metrics
  stop: () => Promise<void>
}

/** A relay that runs, and the address that nodes are given. */
export interface RecordRelay { server: Bootstrap, address: string, stop: () => Promise<void> }

/** Starts a relay that lists `peers`. */
export async function startRecordRelay (peers: readonly string[] = []): Promise<RecordRelay> {
  const server = await createBootstrap({}, { ...BOOTSTRAP_DEFAULTS, dataDirectory: makeTempDirectory('relay'), listen: ['/ip4/127.0.0.1/tcp/0'], peers: [...peers] })
  await server.start()
  return { server, address: server.addresses()[0] ?? '', stop: async () => { await server.stop() } }
}

/** Starts a device, or the same one again: with other relays, over the same directory. */
export async function startRecordDevice (init: { directory: string, relays: readonly string[], identity?: Identity }): Promise<RecordDevice> {
  const identity = init.identity ?? await makeIdentity()
  const versions = Math.max(ADDRESS_MIGRATIONS.length, FRIENDS_MIGRATIONS.length)
  const migrations = Array.from({ length: versions }, (_, index) => `${ADDRESS_MIGRATIONS[index] ?? ''}\n${FRIENDS_MIGRATIONS[index] ?? ''}`)
  const database = openDatabase({ path: join(init.directory, 'state.db'), name: 'state', migrations })
  const metrics = createMetrics()
  const shared = { identity, clock: systemClock, log: silentLogger, metrics }
  const late: { friends?: Friends, records?: RelayRecords } = {}
  const node = createNode({
    ...shared,
    levelOf: (device) => late.friends?.levelOf(device) ?? 'stranger',
    ownerOf: (device) => late.friends?.ownerOf(device) ?? device,
    onStranger: () => { /* nobody counts */ },
    relayRecords: {
      recall: (device) => late.records?.book.recall(device),
      secretsOf: (device) => late.records?.book.secretsOf(device) ?? [],
      keep: (record, bytes) => { late.records?.book.keep(record, bytes) }
    }
  }, { relays: init.relays, listen: 'none', port: 0, loopback: true })
  const addresses = createAddressBook({ database, identity, clock: systemClock })
  const friends = createFriends({
    ...shared,
    database,
    addressBook: addresses,
    node,
    audit: { record: async () => { /* taken */ }, countStranger: () => { /* counted */ } },
    relays: { ownNews: () => late.records?.ownNews(), takeNews: (device, news) => { late.records?.takeNews(device, news) } },
    random: Math.random
  })
  late.friends = friends
  const records = createRelayRecords({ ...shared, database, addresses, node, friends, random: Math.random })
  late.records = records
  const parts = [friends, node, records]
  for (const part of parts) await part.start()
  await waitFor('a reservation', () => node.relays().some((relay) => relay.state === 'reserved'), PATIENT)
  return {
    did: identity.did,
    identity,
    addresses,
    friends,
    node,
    records,
    metrics,
    stop: async () => {
      for (const part of [records, node, friends]) await part.stop()
      database.close()
    }
  }
}

/** The value of a metric; 0 when it was never counted. */
export async function metricOf (metrics: Metrics, name: string): Promise<number> {
  const line = (await metrics.text()).split('\n').find((text) => text.startsWith(`${name} `))
  return Number(line?.split(' ').at(-1) ?? 0)
}
