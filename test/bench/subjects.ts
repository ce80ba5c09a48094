/** What the bench compares: each subject is a way from a client port to the same kind of service. A baseline is one more row. */
import { startPair, waitOnline } from '../support/friends-pair.ts'
import type { Pair } from '../support/friends-pair.ts'
import { openLoopback } from '../support/network.ts'
import { startTcpService } from '../support/tcp-load.ts'
import { waitFor } from '../support/wait.ts'

/** A subject that is up. */
export interface RunningSubject {
  /** Where the load generator connects. */
  target: { host: string, port: number }
  /** The processes between load generator and service: role and pid. */
  processes: Record<string, number>
  stop: () => Promise<void>
}

/** One row of the table. `start` gives a sentence instead when the subject cannot run here. */
export interface Subject { name: string, start: () => Promise<RunningSubject | string> }

const DIRECT_DEADLINE_MS = 20_000

/** All subjects, in the order of the table. */
export const SUBJECTS: readonly Subject[] = [
  { name: 'plain TCP', start: startPlain },
  { name: 'forward, direct', start: startDirectForward },
  { name: 'forward through the relay', start: startRelayedForward }
]

async function startPlain (): Promise<RunningSubject> {
  const service = await startTcpService()
  return { target: { host: '127.0.0.1', port: service.port }, processes: {}, stop: service.stop }
}

async function startRelayedForward (): Promise<RunningSubject | string> {
  const pair = await startPair(openLoopback())
  await pair.befriend()
  return runForward(pair, 'relayed', { office: pair.office.program().pid, relay: pair.relays[0]?.program().pid ?? 0, laptop: pair.laptop.program().pid })
}

/**
 * The friendship is made over a relay. A node tells its own addresses to friends only, so the laptop learns those of the
 * office on the next connection; then the relay goes, and they are the only way left.
 */
async function startDirectForward (): Promise<RunningSubject | string> {
  const pair = await startPair(openLoopback(), { office: { listen: 'public', port: 0 } })
  await pair.befriend()
  await pair.laptop.stop()
  await pair.laptop.start()
  await waitOnline(pair.laptop, 'office')
  await pair.relays[0]?.kill()
  try {
    await waitFor('a path without the relay', async () => (await pair.laptop.status()).friends.some((friend) => friend.presence === 'online' && friend.path !== 'relayed'), { deadlineMs: DIRECT_DEADLINE_MS })
  } catch (err) {
    const { listen } = await pair.office.status()
    await pair.stop()
    return `${err instanceof Error ? err.message : String(err)}; the office listens on ${listen.join(', ')}`
  }
  return runForward(pair, 'direct', { office: pair.office.program().pid, laptop: pair.laptop.program().pid })
}

async function runForward (pair: Pair, expected: string, processes: Record<string, number>): Promise<RunningSubject | string> {
  const service = await startTcpService()
  const stop = async (): Promise<void> => {
    await pair.stop()
    await service.stop()
  }
  await pair.office.json('serve', 'bench', String(service.port), '--allow', 'laptop')
  const { listen, path } = await pair.laptop.json<{ listen: string, path?: string }>('forward', '0', 'office/bench')
  if (path !== expected && !(expected === 'direct' && path === 'lan')) {
    await stop()
    return `the path is ${String(path)}, not ${expected}`
  }
  const [host = '', port = ''] = listen.split(':')
  return { target: { host, port: Number(port) }, processes, stop }
}
