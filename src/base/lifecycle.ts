/** Owning things that live: start and stop in order, background tasks, events whose listeners cannot hurt the sender. */
import { errorMessage } from './errors.ts'
import type { Logger } from './log.ts'

/** Something that is started once and stopped once; `stop` is idempotent and also undoes a start that failed half-way. */
export interface Startable {
  start: (options?: { signal?: AbortSignal }) => Promise<void>
  stop: () => Promise<void>
}

/** Starts `parts` in order; when one fails, stops those already started in reverse and throws the failure. */
export async function startAll (parts: readonly Startable[], options: { signal?: AbortSignal } = {}): Promise<void> {
  const started: Startable[] = []
  try {
    for (const part of parts) {
      started.push(part)
      await part.start(options)
    }
  } catch (err) {
    // what failed first is the cause; a part that cannot be undone for the same reason (a full disk) must not hide it
    await stopAll(started).catch(() => {})
    throw err
  }
}

/** Stops `parts` in reverse order; every part is stopped even if another fails, then the first failure is thrown. */
export async function stopAll (parts: readonly Startable[]): Promise<void> {
  const failures: unknown[] = []
  for (const part of [...parts].reverse()) {
    try {
      await part.stop()
    } catch (err) {
      failures.push(err)
    }
  }
  if (failures.length > 0) throw failures[0]
}

/** Owner of background work: nothing floats, everything is awaited at stop. */
export interface TaskOwner {
  /** Runs `work` now; its failure is logged unless the owner is stopping. The signal fires at stop. */
  run: (name: string, work: (signal: AbortSignal) => Promise<void>) => void
  /** Fires when the owner stops. */
  readonly signal: AbortSignal
  /** Aborts the signal and waits for all tasks. Idempotent. */
  stop: () => Promise<void>
}

/** Creates a task owner; the part that creates it calls `stop`. */
export function createTaskOwner (log: Logger): TaskOwner {
  const controller = new AbortController()
  const running = new Set<Promise<void>>()
  return {
    signal: controller.signal,
    run: (name, work) => {
      if (controller.signal.aborted) return
      const task = work(controller.signal)
        .catch((err: unknown) => {
          if (!controller.signal.aborted) log.error(`task ${name} failed`, { err })
        })
        .finally(() => { running.delete(task) })
      running.add(task)
    },
    stop: async () => {
      controller.abort()
      await Promise.all([...running])
    }
  }
}

/** A typed source of events. Keys are `area:fact`, the payload is one object. */
export interface Emitter<Events extends object> {
  /** Adds a listener and returns the function that removes it. Listeners are synchronous; one that throws is logged, the others still run. */
  on: <Name extends keyof Events & string>(name: Name, listener: (payload: Events[Name]) => void) => () => void
  emit: <Name extends keyof Events & string>(name: Name, payload: Events[Name]) => void
  /** Gets every event, for event streams. */
  onAny: (listener: (name: keyof Events & string, payload: Events[keyof Events & string]) => void) => () => void
}

/** Creates an emitter. */
export function createEmitter<Events extends object> (log: Logger): Emitter<Events> {
  type Name = keyof Events & string
  const listeners = new Map<Name, Set<(payload: never) => void>>()
  const anyListeners = new Set<(name: Name, payload: Events[Name]) => void>()

  function guarded (name: Name, call: () => void): void {
    try {
      call()
    } catch (err) {
      log.error('an event listener threw', { event: name, reason: errorMessage(err) })
    }
  }

  return {
    on: (name, listener) => {
      const set = listeners.get(name) ?? new Set()
      listeners.set(name, set)
      set.add(listener)
      return () => { set.delete(listener) }
    },
    onAny: (listener) => {
      anyListeners.add(listener)
      return () => { anyListeners.delete(listener) }
    },
    emit: (name, payload) => {
      for (const listener of [...listeners.get(name) ?? []]) guarded(name, () => { (listener as (value: typeof payload) => void)(payload) })
      for (const listener of [...anyListeners]) guarded(name, () => { listener(name, payload) })
    }
  }
}
