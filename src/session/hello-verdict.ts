/** What the controller does about a hello, and whose process it is. Pure. */
import { equalBytes, toHex } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Hello } from './hello.ts'

/** What the controller knows of its relation to a device. */
export interface SessionView {
  /** A welcome is on its way and not confirmed. */
  isCreating: boolean
  live: {
    sessionId: Uint8Array
    instanceId: Uint8Array
    /** The newest hello that the other end had sent when it confirmed the session. */
    sequence: number
  } | undefined
}

/**
 * `create`: a new session on this link, which replaces a live one. `wait`: ask again when the creation under way has
 * ended. `redundant`: the link is not needed.
 *
 * Both ends may dial at once, so a hello without a session may have been sent before its sender learned of the session
 * that exists: the sequence number tells. A newer hello without it means that the other end lost the session.
 */
export function judgeHello (view: SessionView, hello: Hello): 'create' | 'wait' | 'redundant' {
  if (view.isCreating) return 'wait'
  const { live } = view
  if (live === undefined) return 'create'
  if (!equalBytes(hello.instanceId, live.instanceId)) return 'create'
  if (hello.sequence <= live.sequence) return 'redundant'
  const knowsSession = hello.sessionId !== undefined && equalBytes(hello.sessionId, live.sessionId)
  return knowsSession ? 'redundant' : 'create'
}

/** Remembers which processes of a device were seen, to tell a restart from two that run at once. */
export interface InstanceHistory {
  /** `newest`: the process in use, or one never seen before, which is the one in use from now on. `older`: one that was replaced comes back. */
  note: (device: Did, instanceId: Uint8Array) => 'newest' | 'older'
}

const MAX_DEVICES = 1024
const MAX_OLDER = 4

/** Makes an empty history, bounded in devices and processes per device; the oldest are forgotten. */
export function createInstanceHistory (): InstanceHistory {
  const seen = new Map<Did, { newest: string, older: string[] }>()
  return {
    note: (device, instanceId) => {
      const id = toHex(instanceId)
      const known = seen.get(device)
      if (known?.older.includes(id) === true) return 'older'
      const older = known === undefined || known.newest === id ? known?.older ?? [] : [...known.older, known.newest].slice(-MAX_OLDER)
      seen.delete(device)
      seen.set(device, { newest: id, older })
      if (seen.size > MAX_DEVICES) {
        const oldest = seen.keys().next()
        if (oldest.done !== true) seen.delete(oldest.value)
      }
      return 'newest'
    }
  }
}
