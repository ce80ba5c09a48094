/** An office and a laptop that become friends over a relay, by the command line alone: the beginning of most scenarios. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRelay } from './bootstrap.ts'
import type { Relay } from './bootstrap.ts'
import { createDaemon } from './daemon.ts'
import type { Daemon, DaemonInit } from './daemon.ts'
import type { TestNetwork } from './network.ts'
import { makeTempDirectory } from './temp-directory.ts'
import { PATIENCE_MS, waitFor } from './wait.ts'

/** The people and machines of a scenario. */
export interface Pair {
  readonly network: TestNetwork
  readonly office: Daemon
  readonly laptop: Daemon
  readonly relays: readonly Relay[]
  /** The laptop asks, the office accepts; each calls the other by its role. Resolves when both are online. */
  befriend: () => Promise<{ officeDid: string, laptopDid: string }>
  stop: () => Promise<void>
}

/** What to start. */
export interface PairInit {
  relayCount?: number
  /** Leaves the relays down after they have told their addresses. */
  relaysDown?: boolean
  office?: Partial<Pick<DaemonInit, 'listen' | 'port'>>
  laptop?: Partial<Pick<DaemonInit, 'listen' | 'port'>>
  /** What stands in the carrier.toml of both. */
  settings?: string
  /** Further arguments of Node for the process of this role: office, laptop, relay1, … */
  nodeArguments?: (role: string) => readonly string[]
}

/** Starts relays and both daemons. */
export async function startPair (network: TestNetwork, init: PairInit = {}): Promise<Pair> {
  const directory = makeTempDirectory('pair')
  const relays: Relay[] = []
  const daemons: Daemon[] = []
  const argumentsOf = (role: string): { nodeArguments?: readonly string[] } => init.nodeArguments === undefined ? {} : { nodeArguments: init.nodeArguments(role) }
  const stop = async (): Promise<void> => {
    await Promise.all(daemons.map(async (daemon) => { await daemon.stop() }))
    await Promise.all(relays.map(async (relay) => { await relay.stop() }))
  }
  try {
    for (const [index, place] of network.relays.slice(0, init.relayCount ?? 1).entries()) {
      const relay = await createRelay({ place, dataDirectory: join(directory, `relay${index + 1}`), ...argumentsOf(`relay${index + 1}`) })
      relays.push(relay)
      await relay.start()
      if (init.relaysDown === true) await relay.stop()
    }
    const addresses = relays.map((relay) => relay.address())
    const office = createDaemon({ name: 'office', dataDirectory: join(directory, 'office'), place: network.office, relays: addresses, ...argumentsOf('office'), ...init.office })
    const laptop = createDaemon({ name: 'laptop', dataDirectory: join(directory, 'laptop'), place: network.laptop, relays: addresses, ...argumentsOf('laptop'), ...init.laptop })
    daemons.push(office, laptop)
    const { settings } = init
    if (settings !== undefined) for (const daemon of daemons) writeFileSync(join(daemon.dataDirectory, 'carrier.toml'), settings)
    await Promise.all(daemons.map(async (daemon) => { await daemon.start() }))
    return { network, office, laptop, relays, befriend: async () => befriend(office, laptop), stop }
  } catch (err) {
    await stop()
    throw err
  }
}

/** True when some relay of the daemon holds a reservation. */
export async function isReserved (daemon: Daemon): Promise<boolean> {
  return (await daemon.status()).relays.some((relay) => relay.state === 'reserved')
}

/** Waits until the daemon sees `label` online. */
export async function waitOnline (daemon: Daemon, label: string, deadlineMs = PATIENCE_MS): Promise<void> {
  await waitFor(`${label} to be online for ${daemon.name}`, async () => (await daemon.status()).friends.some((friend) => friend.label === label && friend.presence === 'online'), { deadlineMs })
}

/** The laptop asks, the office accepts; each calls the other by its role. Resolves when both are online. */
export async function befriend (office: Daemon, laptop: Daemon): Promise<{ officeDid: string, laptopDid: string }> {
  const { address } = await office.json<{ address: string }>('id')
  const { did: laptopDid } = await laptop.json<{ did: string }>('id')
  const { did: officeDid } = await laptop.json<{ did: string }>('friend', 'add', address, '--hello', 'it is the laptop')
  await waitFor('the friend request to arrive', async () => (await office.status()).requestCount === 1, { deadlineMs: PATIENCE_MS })
  await office.json('friend', 'accept', laptopDid)
  await office.json('friend', 'label', laptopDid, 'laptop')
  await laptop.json('friend', 'label', officeDid, 'office')
  await waitOnline(office, 'laptop')
  await waitOnline(laptop, 'office')
  return { officeDid, laptopDid }
}
