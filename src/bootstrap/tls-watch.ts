/** Looks now and then whether the certificate files of a relay are others, as after a renewal. */
import { LIMITS, createTaskOwner, sleep } from '../base/index.ts'
import type { Clock, Logger, Startable } from '../base/index.ts'

/** What the watch uses. */
export interface TlsWatchComponents {
  clock: Clock
  log: Logger
  /** The state of the files now; undefined: there are none, or one is just being replaced. */
  fingerprint: () => string | undefined
  /** They are others; true when they are in use now. */
  renew: () => Promise<boolean>
}

/** Creates the watch. */
export function createTlsWatch ({ clock, log, fingerprint, renew }: TlsWatchComponents): Startable {
  const tasks = createTaskOwner(log)

  async function watch (signal: AbortSignal): Promise<void> {
    let last = fingerprint()
    while (!signal.aborted) {
      await sleep(clock, LIMITS.relayConfigPollMs, signal)
      const now = fingerprint()
      if (now === undefined || now === last) continue
      // a pair of which one half is still the old one, or that may not be read yet, is looked at again
      if (await renew()) last = now
    }
  }

  return { start: async () => { tasks.run('certificate files', watch) }, stop: tasks.stop }
}
