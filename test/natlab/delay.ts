/** The handle on delay.py: a cable between two namespaces with delay, loss and rate that can change while it is in use. */
import { join } from 'node:path'
import { startProgram } from '../support/program.ts'
import { bringUp } from './namespace.ts'
import type { LinkEnd } from './namespace.ts'

/** How one cable treats packets, in each direction. Absent: no delay, no loss, no limit, a 4 MB queue. */
export interface LinkShape { delayMs?: number, lossRatio?: number, bytesPerSecond?: number, queueBytes?: number }

/** A cable whose shape can change. */
export interface DelayedLink {
  /** Changes the given values and keeps the others. `{ lossRatio: 1 }` is a black hole. */
  shape: (change: LinkShape) => void
  close: () => Promise<void>
}

/** Joins two namespaces by an emulated cable. */
export async function joinByDelay (left: LinkEnd, right: LinkEnd, shape: LinkShape): Promise<DelayedLink> {
  const program = startProgram('python3', [join(import.meta.dirname, 'delay.py'), left.namespace.netns, left.name, right.namespace.netns, right.name], { name: 'delay emulator' })
  await program.line(0)
  await bringUp(left)
  await bringUp(right)
  const link: DelayedLink = {
    shape: (change) => { program.stdin.write(`${JSON.stringify(change)}\n`) },
    close: async () => { await program.stop() }
  }
  link.shape(shape)
  return link
}
