/** The seam between a session and what carries it. Splice and direct links will be further makers of this shape. */
import type { CarrierError } from '../base/index.ts'
import type { Path } from '../node/index.ts'
import type { LinkKind } from './types.ts'

/** What a link calls; never before `open`, never after `onClosed`. */
export interface LinkHandler {
  /** Received bytes, in order. The link never writes to `chunk` again, so views of it may be kept. */
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
  /** Starts to read and write. Once. */
  open: (handler: LinkHandler) => void
  /** Takes `pieces` (`byteCount` in all), whose owners may overwrite them as soon as it returns; false asks to wait for `onDrain`. */
  write: (pieces: readonly Uint8Array[], byteCount: number) => boolean
  /** Sends what was written, then ends our direction. Resolves when that is done or the link is gone. Idempotent. */
  close: () => Promise<void>
  /** Ends the link now; the other end sees a loss. Idempotent. */
  abort: (err: CarrierError) => void
  /** Resolves when nothing of the link is left. */
  readonly closed: Promise<void>
}
