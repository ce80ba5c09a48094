/**
 * Looks up the names of relays that friends name. The system's resolver has a handful of threads for the whole process, and a name
 * that somebody else chose may hold one for half a minute: so one name at a time, and what led nowhere is not asked again soon.
 */
import { CarrierError, LIMITS } from '../base/index.ts'
import type { Clock } from '../base/index.ts'

/** 0: both families. */
export type NameFamily = 0 | 4 | 6

/** What it uses. */
export interface HintNamesComponents {
  clock: Clock
  /** Asks the system; cannot be cancelled. */
  ask: (name: string, family: NameFamily) => Promise<readonly string[]>
}

/** The addresses of a name. @throws CarrierError ERR_PEER_OFFLINE when it leads nowhere, ERR_LIMIT when too many wait */
export type HintNames = (name: string, family: NameFamily) => Promise<readonly string[]>

/** Creates the look-up. */
export function createHintNames ({ clock, ask }: HintNamesComponents): HintNames {
  /** Names that are asked or wait for it. */
  const open = new Map<string, Promise<readonly string[]>>()
  /** Names that led nowhere, and until when that counts. */
  const failed = new Map<string, number>()
  let last: Promise<unknown> = Promise.resolve()

  function noteFailed (id: string): void {
    failed.delete(id)
    failed.set(id, clock.monotonicMs() + LIMITS.hintNameAgainMs)
    const [oldest] = failed.keys()
    if (failed.size > LIMITS.hintNameCount && oldest !== undefined) failed.delete(oldest)
  }

  async function askInTurn (id: string, name: string, family: NameFamily, before: Promise<unknown>): Promise<readonly string[]> {
    try {
      await before.catch(() => { /* told to those who asked for that name */ })
      const found = await ask(name, family)
      if (found.length === 0) noteFailed(id)
      return found
    } catch (err) {
      noteFailed(id)
      throw new CarrierError('ERR_PEER_OFFLINE', 'the name of a relay of the device does not resolve', { cause: err })
    } finally {
      open.delete(id)
    }
  }

  return async (name, family) => {
    const id = `${family} ${name.toLowerCase()}`
    const running = open.get(id)
    if (running !== undefined) return running
    if (clock.monotonicMs() < (failed.get(id) ?? 0)) throw new CarrierError('ERR_PEER_OFFLINE', 'the name of a relay of the device did not resolve a moment ago')
    if (open.size >= LIMITS.hintNameCount) throw new CarrierError('ERR_LIMIT', 'too many names of relays of friends are being looked up')
    const turn = askInTurn(id, name, family, last)
    open.set(id, turn)
    last = turn
    return turn
  }
}
