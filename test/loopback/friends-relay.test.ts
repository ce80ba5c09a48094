/** Friend lists on real nodes that reach each other through a relay only. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import test from 'node:test'
import type { TestContext } from 'node:test'
import { createMetrics, openDatabase, silentLogger, systemClock } from '../../src/base/index.ts'
import { createFriends, FRIENDS_MIGRATIONS } from '../../src/friends/index.ts'
import type { Friends } from '../../src/friends/index.ts'
import { formatAddress } from '../../src/identity/index.ts'
import type { Identity } from '../../src/identity/index.ts'
import { createNode } from '../../src/node/index.ts'
import type { Node } from '../../src/node/index.ts'
import { makeIdentity } from '../support/node-pair.ts'
import { prepareStockRelay } from '../support/stock-relay.ts'
import { makeTempDirectory } from '../support/temp-directory.ts'
import { timed, waitFor, within } from '../support/wait.ts'

const DEADLINE_MS = 60_000
const NOSPAM = Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7)

interface Device {
  identity: Identity
  friends: Friends
  node: Node
  address: string
  start: () => Promise<void>
  stop: () => Promise<void>
}

/** A device with its database file; a second call with the same arguments is the same device after a restart. */
async function createDevice (init: { name: string, directory: string, relay: string, identity?: Identity }): Promise<Device> {
  const identity = init.identity ?? await makeIdentity()
  const database = openDatabase({ path: join(init.directory, `${init.name}.db`), name: 'state', migrations: FRIENDS_MIGRATIONS })
  const metrics = createMetrics()
  const late: { friends?: Friends } = {}
  const node = createNode({
    identity,
    clock: systemClock,
    log: silentLogger,
    metrics,
    levelOf: (device) => late.friends?.levelOf(device) ?? 'stranger',
    ownerOf: (device) => late.friends?.ownerOf(device) ?? device,
    onStranger: () => { /* nobody counts */ }
  }, { relays: [init.relay], listen: 'none', port: 0 })
  const friends = createFriends({
    database,
    identity,
    addressBook: { accepts: (nospam) => Buffer.compare(nospam, NOSPAM) === 0 },
    node,
    audit: { record: async () => { /* taken */ }, countStranger: () => { /* counted */ } },
    clock: systemClock,
    random: Math.random,
    log: silentLogger,
    metrics
  })
  late.friends = friends
  return {
    identity,
    friends,
    node,
    address: formatAddress({ publicKey: identity.publicKey, nospam: NOSPAM }),
    start: async () => {
      await friends.start()
      await node.start()
    },
    stop: async () => {
      await node.stop()
      await friends.stop()
      database.close()
    }
  }
}

async function pair (t: TestContext, name: string): Promise<{ relay: Awaited<ReturnType<typeof prepareStockRelay>>, directory: string, office: Device, laptop: Device, own: (device: Device) => void }> {
  const relay = await prepareStockRelay(name)
  const directory = makeTempDirectory(name)
  const office = await createDevice({ name: 'office', directory, relay: relay.address })
  const laptop = await createDevice({ name: 'laptop', directory, relay: relay.address })
  const devices = new Set([office, laptop])
  t.after(async () => {
    for (const device of devices) await device.stop().catch(() => { /* some tests stopped it themselves */ })
    await relay.kill()
  })
  return { relay, directory, office, laptop, own: (device) => devices.add(device) }
}

const areFriends = (one: Device, other: Device): boolean =>
  one.friends.levelOf(other.identity.did) === 'friend' && other.friends.levelOf(one.identity.did) === 'friend'

async function befriend (office: Device, laptop: Device): Promise<void> {
  laptop.friends.add(office.address, { hello: 'the laptop' })
  await waitFor('the request', () => office.friends.requests().length === 1, { deadlineMs: DEADLINE_MS })
  office.friends.accept(laptop.identity.did)
  await waitFor('the friendship', () => areFriends(office, laptop), { deadlineMs: DEADLINE_MS })
}

test('two devices without a listener become friends over a relay, and both learn of a removal', async (t) => {
  const { relay, office, laptop } = await pair(t, 'friends')
  await relay.start()
  await Promise.all([office.start(), laptop.start()])
  const { elapsedMs } = await timed(async () => { await befriend(office, laptop) })
  console.log(`friends ${Math.round(elapsedMs)} ms after the start of both`)
  await laptop.node.ping(office.identity.did)
  const removal = await timed(async () => { await within('remove', DEADLINE_MS, office.friends.remove(laptop.identity.did)) })
  console.log(`remove took ${Math.round(removal.elapsedMs)} ms`)
  await waitFor('the laptop to learn', () => laptop.friends.list().length === 0, { deadlineMs: DEADLINE_MS })
  await waitFor('the cut', () => laptop.node.peer(office.identity.did) === undefined && office.node.peer(laptop.identity.did) === undefined, { deadlineMs: DEADLINE_MS })
  assert.equal(office.friends.levelOf(laptop.identity.did), 'stranger')
  assert.equal(laptop.friends.levelOf(office.identity.did), 'stranger')
})

test('a request that was made while the relay was down and the other side did not run arrives later, after a restart of the asker', async (t) => {
  const { relay, directory, office, laptop, own } = await pair(t, 'friends-late')
  await laptop.start()
  laptop.friends.add(office.address, { hello: 'early' })
  await laptop.stop()
  const again = await createDevice({ name: 'laptop', directory, relay: relay.address, identity: laptop.identity })
  own(again)
  await again.start()
  await relay.start()
  await office.start()
  await waitFor('the request', () => office.friends.requests()[0]?.hello === 'early', { deadlineMs: DEADLINE_MS })
  office.friends.accept(laptop.identity.did)
  await waitFor('the friendship', () => areFriends(office, again), { deadlineMs: DEADLINE_MS })
})

test('requests that cross make friends without a further word', async (t) => {
  const { relay, office, laptop } = await pair(t, 'friends-cross')
  office.friends.add(laptop.address)
  laptop.friends.add(office.address)
  await relay.start()
  await Promise.all([office.start(), laptop.start()])
  await waitFor('the friendship', () => areFriends(office, laptop), { deadlineMs: DEADLINE_MS })
  assert.deepEqual([office.friends.requests(), laptop.friends.requests()], [[], []])
})

test('I3: a blocked friend is cut at once and cannot connect any more', async (t) => {
  const { relay, office, laptop } = await pair(t, 'friends-block')
  await relay.start()
  await Promise.all([office.start(), laptop.start()])
  await befriend(office, laptop)
  await laptop.node.ping(office.identity.did)
  await office.friends.block(laptop.identity.did)
  await waitFor('the cut', () => laptop.node.peer(office.identity.did) === undefined, { deadlineMs: DEADLINE_MS })
  await assert.rejects(within('the refusal', DEADLINE_MS, laptop.node.ping(office.identity.did)))
  assert.equal(laptop.friends.get(office.identity.did)?.state, 'friend', 'it is not told')
})
