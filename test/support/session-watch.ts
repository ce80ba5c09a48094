/** What a daemon tells about its sessions, from the moment at which a test begins to listen. */
import { createControlClient } from '../../src/control/client/index.ts'
import type { MethodOutput } from '../../src/control/client/index.ts'
import type { Daemon } from './daemon.ts'
import { waitFor } from './wait.ts'

/** One story. */
export interface SessionWatch {
  readonly resumes: ReadonlyArray<{ link: string, stallMs: number }>
  readonly moves: ReadonlyArray<{ from: string, link: string }>
  lostCount: () => number
  /** Codes with which sessions ended. */
  readonly closed: readonly string[]
  /** What its network watch told. */
  readonly networkChanges: readonly string[]
  /** Waits until the session has gone on so many times. */
  resumed: (count: number, deadlineMs: number) => Promise<void>
  stop: () => Promise<void>
}

/** Listens to the events of `daemon` until `stop`. */
export async function watchSessions (daemon: Daemon): Promise<SessionWatch> {
  const ending = new AbortController()
  const stream = createControlClient({ dataDirectory: daemon.dataDirectory }).events({ signal: ending.signal })
  const resumes: Array<{ link: string, stallMs: number }> = []
  const moves: Array<{ from: string, link: string }> = []
  const closed: string[] = []
  const networkChanges: string[] = []
  let lostCount = 0
  const listening = (async () => {
    for await (const { name, payload } of stream) {
      if (name === 'session:resumed') resumes.push({ link: payload.link, stallMs: payload.stallMs })
      else if (name === 'session:link') moves.push({ from: payload.from, link: payload.link })
      else if (name === 'session:lost') lostCount++
      else if (name === 'session:closed') closed.push(payload.code)
      else if (name === 'node:network-changed') networkChanges.push(payload.kind)
    }
  })().catch(() => { /* it ends with the watch, or with the daemon */ })
  await stream.opened
  return {
    resumes,
    moves,
    closed,
    networkChanges,
    lostCount: () => lostCount,
    resumed: async (count, deadlineMs) => {
      await waitFor(`resume ${count} at ${daemon.name} (lost ${lostCount} times, closed with ${closed.join(' ') || 'nothing'})`, () => resumes.length >= count, { deadlineMs, intervalMs: 20 })
    },
    stop: async () => {
      ending.abort()
      await listening
    }
  }
}

/** One round trip to a friend over the control socket: without the start-up of a command. */
export async function pingFriend (daemon: Daemon, who: string): Promise<MethodOutput<'friend.ping'>> {
  return createControlClient({ dataDirectory: daemon.dataDirectory }).call('friend.ping', { who }, { signal: AbortSignal.timeout(30_000) })
}
