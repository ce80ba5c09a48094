/** The seam between a session and what carries it: stream, splice and direct links are makers of this shape. */
import type { CarrierError } from '../base/index.ts'
import type { Path } from '../node/index.ts'
import type { LinkKind } from './types.ts'

/** What a link calls; never before `open`, never after `onClosed`. */
export interface LinkHandler {
  /** Received bytes, in order. They are the link's again after the call: what is needed longer has to be copied. */
  onBytes: (chunk: Uint8Array) => void
  /** Follows a `write` that returned false. */
  onDrain: () => void
  /** The link is gone, exactly once. Also a clean end is a loss: only frames end channels (I4). */
  onClosed: (err: CarrierError) => void
}

/** One reliable, ordered, end-to-end encrypted byte pipe to a device that proved its key on it. */
export interface Link {
  readonly kind: LinkKind
  readonly path: Path
  readonly relayPeerId: string | undefined
  /** Longest message that `write` takes; a session that has enough to send fills messages up to this. */
  readonly messageBytes: number
  /** Starts to read and write. Once. */
  open: (handler: LinkHandler) => void
  /**
   * Sends one message, whose bytes do not change before the other end has acknowledged all of them. False asks to wait for `onDrain` before the next one; this one
   * is sent all the same. A link holds about two messages: what waits longer is packed better by the session.
   */
  write: (message: Uint8Array) => boolean
  /** Stops reading; what was already on its way up may still come. Idempotent. */
  pause: () => void
  /** Reads again. Idempotent. */
  resume: () => void
  /** Sends what was written, then ends our direction. Resolves when that is done or the link is gone. Idempotent. */
  close: () => Promise<void>
  /** Ends the link now; the other end sees a loss. Idempotent. */
  abort: (err: CarrierError) => void
  /** Resolves when nothing of the link is left. */
  readonly closed: Promise<void>
}
