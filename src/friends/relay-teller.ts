/** Tells connected friends our relay record, each once, a few at a time, and again when it did not work. */
import { errorCode, LIMITS, sleep } from '../base/index.ts'
import type { Clock, CounterMetric, Logger, TaskOwner } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { CarrierNode } from '../node/index.ts'
import { tellRelayNews } from './relay-news.ts'
import type { RelayNews } from './relay-news.ts'

/** What the teller needs. */
export interface RelayTellerComponents {
  node: Pick<CarrierNode, 'openStream'>
  clock: Clock
  log: Logger
  tasks: TaskOwner
  /** A friend that is connected. A look-up. */
  isThere: (device: Did) => boolean
  /** What is to be told, and the text that tells it from what was told before; undefined while there is nothing. */
  news: () => { news: RelayNews, version: string } | undefined
  /** Counts by direction and result. */
  tellings: CounterMetric
}

/** Tells devices. */
export interface RelayTeller {
  /** Tells a device in its turn, unless it knows or is not there. */
  tell: (device: Did) => void
  /** A device is gone: at the next contact it is told as if nothing had failed. */
  noteGone: (device: Did) => void
  /** Nobody knows the present state: the secret is another one. */
  forgetAll: () => void
}

/** Creates the teller; its owner stops the tasks. */
export function createRelayTeller (components: RelayTellerComponents): RelayTeller {
  const { clock, log, tasks, tellings } = components
  /** What each device knows. */
  const told = new Map<Did, string>()
  const waiting = new Set<Did>()
  /** Of connected devices. */
  const failures = new Map<Did, number>()
  let runningCount = 0

  function tell (device: Did): void {
    const present = components.news()
    if (present === undefined || told.get(device) === present.version || !components.isThere(device)) return
    waiting.add(device)
    pump()
  }

  function pump (): void {
    for (const device of waiting) {
      if (runningCount >= LIMITS.relayTellCount) return
      waiting.delete(device)
      runningCount++
      tasks.run('tell relays', async (signal) => {
        try {
          await tellOne(device, signal)
        } finally {
          runningCount--
          pump()
        }
      })
    }
  }

  async function tellOne (device: Did, signal: AbortSignal): Promise<void> {
    const present = components.news()
    if (present === undefined || told.get(device) === present.version || !components.isThere(device)) return
    try {
      await tellRelayNews(components, device, present.news, signal)
      told.set(device, present.version)
      failures.delete(device)
      tellings.add(1, { direction: 'out', result: 'ok' })
    } catch (err) {
      signal.throwIfAborted()
      tellings.add(1, { direction: 'out', result: errorCode(err) })
      // it may not count us among its friends yet, or be of an earlier release
      log.debug('a friend was not told our relays', { device, code: errorCode(err) })
      tellAgain(device)
    }
  }

  function tellAgain (device: Did): void {
    const count = failures.get(device) ?? 0
    const delayMs = RETRY_MS[count]
    failures.set(device, count + 1)
    if (delayMs === undefined) return
    tasks.run('tell relays again', async (signal) => {
      await sleep(clock, delayMs, signal)
      tell(device)
    })
  }

  return {
    tell,
    noteGone: (device) => {
      waiting.delete(device)
      failures.delete(device)
    },
    forgetAll: () => { told.clear() }
  }
}

/** A device that could not be told is told again so much later, as long as it is connected. */
const RETRY_MS = [2_000, 10_000, 60_000]
