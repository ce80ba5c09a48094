/** What the controller does about a hello, and whose process it is. Pure. */
import { equalBytes, toHex } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Hello } from './hello.ts'
import type { LinkKind } from './types.ts'

/** What the controller knows of its relation to a device. */
export interface SessionView {
  /** A welcome is on its way and not confirmed, or a resume is not answered. */
  isBusy: boolean
  live: {
    sessionId: Uint8Array
    instanceId: Uint8Array
    /** The newest hello that the other end had sent when it confirmed the session. */
    sequence: number
    /** No link carries it now. */
    isLost: boolean
    /** Number of the link that carries it, or did. */
    epoch: number
    /** Both ends have the feature "resume": more links than one are possible. */
    canResume: boolean
    /** Kinds of links of which it needs no further one. */
    kinds: ReadonlySet<LinkKind>
  } | undefined
}

/**
 * `create`: a new session on this link, which replaces a live one. `resume`: the session goes on here. `attach`: one more
 * link for the session. `wait`: ask again when what is under way has ended. `redundant`: the link is not needed.
 *
 * Both ends may dial at once, so a hello without a session may have been sent before its sender learned of the session
 * that exists: the sequence number tells. A newer hello without it means that the other end lost the session.
 */
export function judgeHello (view: SessionView, hello: Hello, kind: LinkKind): 'create' | 'resume' | 'attach' | 'wait' | 'redundant' {
  if (view.isBusy) return 'wait'
  const { live } = view
  if (live === undefined) return 'create'
  if (!equalBytes(hello.instanceId, live.instanceId)) return 'create'
  const knowsSession = hello.sessionId !== undefined && equalBytes(hello.sessionId, live.sessionId)
  if (!knowsSession) return hello.sequence <= live.sequence ? 'redundant' : 'create'
  if (!live.canResume) return 'redundant'
  // what was lost may have been resumed since this hello was written
  if (live.isLost || (hello.isLost === true && (hello.epoch ?? 0) >= live.epoch)) return 'resume'
  return live.kinds.has(kind) ? 'redundant' : 'attach'
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
