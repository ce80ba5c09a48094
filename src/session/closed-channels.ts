/** Channels that closed a short while ago: what the other end may still have to hear of them after a loss of the link. */
import { LIMITS } from '../base/index.ts'
import type { ResumedEntry } from './frames.ts'

/** Both memories are bounded by LIMITS.sessionClosedMemoryCount; the oldest goes first. */
export class ClosedChannels {
  readonly #ended = new Map<number, ResumedEntry>()
  readonly #resets = new Map<number, number>()

  /** Both directions were complete; our last acknowledgement may be lost. */
  noteEnded (id: number, receivedBytes: number, limitBytes: number): void {
    remember(this.#ended, id, { id, isFinReceived: true, receivedBytes, limitBytes })
  }

  /** We gave it up with this wire code; our reset may be lost. */
  noteReset (id: number, code: number): void {
    remember(this.#resets, id, code)
  }

  hasEnded (id: number): boolean {
    return this.#ended.has(id)
  }

  resetCode (id: number): number | undefined {
    return this.#resets.get(id)
  }

  ended (): Iterable<ResumedEntry> {
    return this.#ended.values()
  }

  clear (): void {
    this.#ended.clear()
    this.#resets.clear()
  }
}

function remember<Value> (memory: Map<number, Value>, id: number, value: Value): void {
  memory.set(id, value)
  if (memory.size <= LIMITS.sessionClosedMemoryCount) return
  const [oldest] = memory.keys()
  if (oldest !== undefined) memory.delete(oldest)
}
