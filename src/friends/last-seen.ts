/** When friends were last there: in memory at once, on disk at most once a minute for each. */
import type { Clock } from '../base/index.ts'
import { LIMITS } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Directory } from './directory.ts'
import type { FriendStore } from './store.ts'

/** Notes live sessions. */
export interface LastSeen {
  /** A session with this owner is alive now. Owners that are no friends are passed over. */
  mark: (owner: Did) => void
  /** Writes what is not on disk yet; call at stop. */
  store: () => void
}

/** Creates the note-keeper. */
export function createLastSeen (components: { directory: Directory, store: FriendStore, clock: Clock }): LastSeen {
  const { directory, store, clock } = components
  const storedAtMs = new Map<Did, number>()
  const unsaved = new Set<Did>()

  function save (owner: Did): void {
    const seenAtMs = directory.get(owner)?.lastSeenAt
    unsaved.delete(owner)
    if (seenAtMs === undefined) storedAtMs.delete(owner)
    else store.setLastSeen(owner, seenAtMs)
  }

  return {
    mark: (owner) => {
      if (directory.get(owner) === undefined) {
        storedAtMs.delete(owner)
        return
      }
      directory.noteSeen(owner, clock.now())
      unsaved.add(owner)
      const nowMs = clock.monotonicMs()
      if (nowMs - (storedAtMs.get(owner) ?? -Infinity) < LIMITS.lastSeenStoreMs) return
      storedAtMs.set(owner, nowMs)
      save(owner)
    },
    store: () => {
      for (const owner of [...unsaved]) save(owner)
    }
  }
}
