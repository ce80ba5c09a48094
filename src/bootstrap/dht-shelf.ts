/** Where a DHT server keeps records, and who gives way when it is full (I8). Whether a record may be kept is judged by dht-store.ts. */
import { LIMITS } from '../base/index.ts'

/** Who brings a record: an address prefix, or the listed servers, all as one. These bring the records of many: they have no quota but half of the whole. */
export interface DhtSource { name: string, isServer: boolean }

/** A record that is kept. */
export interface DhtEntry { value: Uint8Array, seq: number, expiresAtMs: number, source: DhtSource }

/** The shelf. */
export interface DhtShelf {
  /** Puts it there in place of what lay there under `id`; another one may have to go. */
  add: (id: string, entry: DhtEntry) => void
  /** What is there, expired or not. */
  get: (id: string) => DhtEntry | undefined
  drop: (id: string) => void
  /** Drops what has expired among the next LIMITS.dhtSweepCount records. */
  sweep: (nowMs: number) => void
  readonly size: number
}

/** Half of the places: nobody else takes them from listed servers, and those take no more from others. */
const SERVER_RECORD_COUNT = LIMITS.dhtRecordCount / 2

/** Creates an empty shelf. */
export function createDhtShelf (): DhtShelf {
  const entries = new Map<string, DhtEntry>()
  /** Ids of each source, the oldest first. */
  const sources = new Map<string, Set<string>>()
  const serverIds = new Set<string>()
  /** Names of the sources that have so many records. */
  const sizes = Array.from({ length: LIMITS.dhtRecordsPerSourceCount + 1 }, () => new Set<string>())
  let turn = entries.keys()

  function changeIds ({ name, isServer }: DhtSource, change: (ids: Set<string>) => void): void {
    if (isServer) {
      change(serverIds)
      return
    }
    const ids = sources.get(name) ?? new Set()
    sizes[ids.size]?.delete(name)
    change(ids)
    if (ids.size > 0) {
      sources.set(name, ids)
      sizes[ids.size]?.add(name)
    } else {
      sources.delete(name)
    }
  }

  function drop (id: string): void {
    const entry = entries.get(id)
    if (entry === undefined) return
    entries.delete(id)
    changeIds(entry.source, (ids) => { ids.delete(id) })
  }

  /** Of listed servers, which may have many, only the oldest are looked at: a record lives a day at most, so the first to expire is among these, or nearly. */
  function dropSoonest (ids: ReadonlySet<string>): void {
    let soonest: { id: string, expiresAtMs: number } | undefined
    let count = 0
    for (const id of ids) {
      const expiresAtMs = entries.get(id)?.expiresAtMs ?? 0
      if (soonest === undefined || expiresAtMs < soonest.expiresAtMs) soonest = { id, expiresAtMs }
      if (++count >= LIMITS.dhtRecordsPerSourceCount) break
    }
    if (soonest !== undefined) drop(soonest.id)
  }

  function largest (): ReadonlySet<string> {
    const [name] = sizes.findLast((names) => names.size > 0) ?? []
    return sources.get(name ?? '') ?? serverIds
  }

  function makeRoom ({ name, isServer }: DhtSource): void {
    const own = isServer ? undefined : sources.get(name)
    if (own !== undefined && own.size >= LIMITS.dhtRecordsPerSourceCount) dropSoonest(own)
    if (entries.size < LIMITS.dhtRecordCount) return
    const mayServersKeep = isServer ? serverIds.size < SERVER_RECORD_COUNT : serverIds.size <= SERVER_RECORD_COUNT
    dropSoonest(mayServersKeep ? largest() : serverIds)
  }

  return {
    add: (id, entry) => {
      drop(id)
      makeRoom(entry.source)
      entries.set(id, entry)
      changeIds(entry.source, (ids) => { ids.add(id) })
    },
    get: (id) => entries.get(id),
    drop,
    sweep: (nowMs) => {
      for (let count = 0; count < LIMITS.dhtSweepCount; count++) {
        const { value: id, done } = turn.next()
        if (done === true) {
          // what was added since comes last, and was looked at
          turn = entries.keys()
          return
        }
        if ((entries.get(id)?.expiresAtMs ?? Infinity) <= nowMs) drop(id)
      }
    },
    get size () { return entries.size }
  }
}
