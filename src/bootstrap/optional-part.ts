/** A part of a relay that runs only while the configuration wants it. */
import type { Startable } from '../base/index.ts'

/** The part; `setWanted` starts or stops it while its owner runs. When that fails the part is as wanted as before. */
export interface OptionalPart extends Startable { setWanted: (isWanted: boolean) => Promise<void> }

/** Wraps a part; its owner starts and stops the wrap. */
export function createOptionalPart (part: Startable, isWantedAtStart: boolean): OptionalPart {
  let isWanted = isWantedAtStart
  let isStarted = false
  let isRunning = false
  let settled: Promise<void> = Promise.resolve()

  async function settle (): Promise<void> {
    const shouldRun = isStarted && isWanted
    if (shouldRun === isRunning) return
    await (shouldRun ? part.start() : part.stop())
    isRunning = shouldRun
  }

  /** One after the other: a stop must see what a start before it has come to. */
  async function change (set: () => void, undo?: () => void): Promise<void> {
    const turn = settled.then(async () => {
      set()
      try {
        await settle()
      } catch (err) {
        undo?.()
        throw err
      }
    })
    // whoever asked is told
    settled = turn.catch(() => {})
    await turn
  }

  return {
    start: async () => { await change(() => { isStarted = true }, () => { isStarted = false }) },
    stop: async () => { await change(() => { isStarted = false }) },
    setWanted: async (wanted) => {
      let before = isWanted
      await change(() => {
        before = isWanted
        isWanted = wanted
      }, () => { isWanted = before })
    }
  }
}
