/** Carrier itself: daemons and relay as people run them, policy, audit log and logging on. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { carrierFreeEnvironment, ROOT } from '../support/daemon.ts'
import { startPair, waitOnline } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import type { TestNetwork } from '../support/network.ts'
import { startProgram } from '../support/program.ts'
import type { Program } from '../support/program.ts'
import { startLoadGenerator } from '../support/tcp-load.ts'
import { pause, waitFor, within } from '../support/wait.ts'
import { withService } from './subject.ts'
import type { RunningSubject, Way } from './subject.ts'

/** How the relay copies spliced bytes: as it decides itself, or by the public API of Node only. */
export type SpliceCopy = 'auto' | 'public'

const DIRECT_DEADLINE_MS = 20_000
/** How long a session that is in use gets to find a better path before the rounds begin. */
const UPGRADE_MS = 5000
const WAKE_BULK_MS = 300
const WAKE_DEADLINE_MS = 30_000

/** A forward through the relay, on whatever link the session takes. */
export async function startRelayedForward (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (servicePort, own) => {
    const pair = await startPair(network)
    own(pair.stop)
    await pair.befriend()
    return forward(pair, servicePort, { relay: [pair.relays[0]?.program().pid ?? 0] })
  })
}

/** The same with a relay that copies by the public API. */
export async function startRelayedForwardPublicCopy (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (servicePort, own) => {
    const pair = await startPair(network, { relaysDown: true })
    own(pair.stop)
    const relay = await startRelayWith(pair, 'public')
    if (typeof relay === 'string') return relay
    own(relay.stop)
    await pair.befriend()
    return forward(pair, servicePort, { relay: [relay.pid] })
  })
}

/**
 * The friendship is made over a relay. A node tells its own addresses to friends only, who dial them beside the relay; when the
 * laptop is there, the relay goes.
 */
export async function startDirectForward (network: TestNetwork): Promise<RunningSubject | string> {
  return withService(network, async (servicePort, own) => {
    const pair = await startPair(network, { office: { listen: 'public', port: 0 } })
    own(pair.stop)
    await pair.befriend()
    await pair.laptop.stop()
    await pair.laptop.start()
    await waitOnline(pair.laptop, 'office')
    const isDirect = async (): Promise<boolean> => (await pair.laptop.status()).friends.some((friend) => friend.presence === 'online' && (friend.path === 'direct' || friend.path === 'lan'))
    await waitFor('a path without the relay', isDirect, { deadlineMs: DIRECT_DEADLINE_MS })
    await pair.relays[0]?.kill()
    return forward(pair, servicePort, {})
  })
}

/** Opens the forward `office/bench` on the laptop and lets the session settle on its best link. */
async function forward (pair: Pair, servicePort: number, relay: { relay?: number[] }): Promise<Way> {
  const port = await openForward(pair, servicePort)
  await useUntilSettled(pair, port)
  return {
    port,
    processes: { office: [pair.office.program().pid], ...relay, laptop: [pair.laptop.program().pid] },
    route: async () => describeRoute(pair)
  }
}

/** Offers the service at the office and binds a port to it at the laptop; gives the port. */
export async function openForward (pair: Pair, servicePort: number): Promise<number> {
  await pair.office.json('serve', 'bench', String(servicePort), '--allow', 'laptop')
  const { listen } = await pair.laptop.json<{ listen: string }>('forward', '0', 'office/bench')
  return Number(listen.slice(listen.lastIndexOf(':') + 1))
}

/** Link and path of the laptop's session, as `carrier status` and `carrier ping` name them. */
export async function describeRoute (pair: Pick<Pair, 'laptop'>): Promise<string> {
  const friend = (await pair.laptop.status()).friends.find((one) => one.label === 'office')
  const { link } = await pair.laptop.json<{ link: string }>('ping', 'office')
  return `link ${link}, path ${friend?.path ?? friend?.presence ?? 'unknown'}`
}

/** Links that are opened ahead of need are opened for friends in use: uses the session, then waits a while for a link other than a stream. */
export async function useUntilSettled (pair: Pair, port: number, network: Pick<TestNetwork, 'laptop'> = pair.network): Promise<void> {
  const load = startLoadGenerator({ place: network.laptop })
  try {
    const untilMs = performance.now() + UPGRADE_MS
    do {
      await within('the first bytes through the forward', WAKE_DEADLINE_MS, load.upMarked({ host: '127.0.0.1', port }, 1, WAKE_BULK_MS))
      const { link } = await pair.laptop.json<{ link: string }>('ping', 'office')
      if (!link.startsWith('stream')) return
      await pause(WAKE_BULK_MS)
    } while (performance.now() < untilMs)
  } finally {
    await load.stop()
  }
}

/** Starts the pair's relay again with a setting that only its configuration file has. */
async function startRelayWith (pair: Pair, spliceCopy: SpliceCopy): Promise<Program | string> {
  const [relay] = pair.relays
  if (relay === undefined) throw new Error('the pair has no relay')
  const config = join(relay.dataDirectory, 'bench.toml')
  writeFileSync(config, `[relay]\nsplice_copy = "${spliceCopy}"\n`)
  const args = ['--conditions=carrier-source', join(ROOT, 'bin', 'carrier-bootstrap.js'), '--config', config, '--data-dir', relay.dataDirectory, '--listen', `/ip4/127.0.0.1/tcp/${relay.port}`, '--health', '127.0.0.1:0']
  const program = startProgram(process.execPath, args, { env: carrierFreeEnvironment(), name: 'relay' })
  try {
    await program.line(0, 30_000)
    return program
  } catch (err) {
    await program.stop()
    return `carrier-bootstrap does not take splice_copy: ${(err instanceof Error ? err.message : String(err)).trim()}`
  }
}
