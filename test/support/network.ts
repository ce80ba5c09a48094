/** What a scenario runs on: the lab of namespaces, or plain loopback. The same sentence holds on both. */
import { HOST } from './program.ts'
import type { Place } from './program.ts'

/** Places of the people and machines of a scenario. */
export interface TestNetwork {
  readonly name: 'natlab' | 'loopback'
  /** Where the service is. */
  readonly office: Place
  /** Where its user is. */
  readonly laptop: Place
  /** A public place for strangers. */
  readonly cafe: Place
  /** Hosts for relays. */
  readonly relays: readonly Place[]
  close: () => Promise<void>
}

/** Plain loopback: every place is this machine. */
export function openLoopback (): TestNetwork {
  return { name: 'loopback', office: HOST, laptop: HOST, cafe: HOST, relays: [HOST, HOST], close: async () => { /* nothing was made */ } }
}
