/** The door types of session/: what forwarding and applications build on. Links may change below it at any moment. */
import type { Duplex } from 'node:stream'
import type { CarrierError, Startable } from '../base/index.ts'
import type { Did } from '../identity/index.ts'
import type { Path } from '../node/index.ts'

/** The kind of link that carries a session now. */
export type LinkKind = 'stream' | 'splice' | 'direct'

/**
 * One reliable byte pipe inside a session. A Node Duplex (allowHalfOpen): `end()` sends fin; readable `end` comes only
 * after the remote fin and every byte before it; anything else destroys it with a CarrierError
 * (ERR_LINK_LOST, ERR_NOT_AVAILABLE, ERR_TARGET_UNREACHABLE, …). `destroy(err)` sends a reset with the error's wire code.
 */
export interface Channel extends Duplex {
  /** Number within the session; 0 until the open frame left. */
  readonly id: number
  readonly kind: string
  readonly peer: SessionPeer
  /** Bytes delivered to the reader and accepted from the writer so far. */
  readonly bytesRead: number
  readonly bytesWritten: number
  /**
   * Hands everything that comes in to `sink` instead of the readable side, which then only tells the end: for those who pass
   * bytes on, it spares new memory for each piece. Once, and before anything was read. @throws CarrierError ERR_INVALID_ARGUMENT
   */
  readTo: (sink: ByteSink) => void
  /** The sink, which had answered false, takes more. */
  readMore: () => void
}

/** Takes bytes; true asks for more at once. They stay as they are until `done`, which says that nobody needs them any more: call it once, or never. */
export type ByteSink = (bytes: Uint8Array, done: () => void) => boolean

/** Who is at the other end. */
export interface SessionPeer { device: Did, owner: Did }

/** An inbound channel before it is decided. Exactly one of accept and refuse is called, once. */
export interface ChannelRequest {
  kind: string
  /** The opening message as the opener sent it (opaque bytes, ≤ LIMITS.sessionOpenMessageBytes). */
  message: Uint8Array
  peer: SessionPeer
  path: Path
  relayPeerId: string | undefined
  /** 16-byte id of the session, for audit entries. */
  sessionId: Uint8Array
  /** Fires when the opener reset the channel or the session died before the decision. */
  signal: AbortSignal
  /** Takes the channel; data that the opener already sent is in it. */
  accept: () => Channel
  /** Resets the channel with this error's code. */
  refuse: (err: CarrierError) => void
}

/** Decides an inbound channel; a rejection refuses with its code. */
export type ChannelHandler = (request: ChannelRequest) => Promise<void>

/** Why one way that would be better does not carry a session: a sentence, and when it is tried again (milliseconds from now, when that is known). */
export interface PathReason { way: 'dial' | 'punch' | 'splice', state: 'impossible' | 'failed' | 'trying' | 'untried', text: string, nextTryMs: number | undefined }

/** The live relation to one device. */
export interface Session {
  readonly peer: SessionPeer
  readonly id: Uint8Array
  readonly link: LinkKind
  readonly path: Path
  readonly relayPeerId: string | undefined
  /** Smoothed round trip of the link, milliseconds; undefined before the first measurement. */
  readonly rttMs: number | undefined
  readonly channelCount: number
  /** `resuming`: it lost its link and waits for another one; channels stand still and lose nothing. */
  readonly state: 'live' | 'resuming' | 'closed'
  /**
   * Opens a channel without waiting for the other side: data may be written at once, a refusal destroys the channel
   * with the refusal's code. The signal resets the channel, also later. @throws CarrierError ERR_LIMIT, ERR_CLOSED, ERR_INVALID_ARGUMENT
   */
  openChannel: (kind: string, message: Uint8Array, options?: { signal?: AbortSignal }) => Channel
  /** Handles channels of this kind that the other end opens in this session, before handlers of the manager. Returns the function that removes it. */
  onChannel: (kind: string, handler: ChannelHandler) => () => void
  /** Counts as use: the best link that can be had is opened, as if a channel were opened. */
  markUsed: () => void
  /** Round trip through the session layer, milliseconds. */
  ping: (options?: { signal?: AbortSignal }) => Promise<number>
  /** Graceful end: goaway, channels get ERR_CLOSED. Idempotent. */
  close: (err?: CarrierError) => Promise<void>
}

/** Events of the session manager. */
export interface SessionEvents {
  'session:opened': { session: Session }
  /** Another link carries the session now, as planned; nothing stood still. */
  'session:link': { session: Session, from: LinkKind, link: LinkKind, path: Path }
  /** The link is gone; channels stand still until `session:resumed`, or fail with `session:closed`. */
  'session:lost': { session: Session, error: CarrierError }
  /** It goes on over another link, after so many milliseconds. */
  'session:resumed': { session: Session, link: LinkKind, path: Path, stallMs: number }
  /** All channels of the session have failed with `error` when this fires. */
  'session:closed': { peer: SessionPeer, error: CarrierError }
  /** Two live processes were seen with the key of this device; the older one gets no session from us. */
  'session:duplicate-identity': { device: Did }
}

/** Owns all sessions: one per device pair. */
export interface SessionManager extends Startable {
  on: <Name extends keyof SessionEvents & string>(name: Name, listener: (payload: SessionEvents[Name]) => void) => () => void
  /** Registers the handler of a channel kind; unknown kinds are refused with ERR_NOT_AVAILABLE. Call before `start`. */
  onChannel: (kind: string, handler: ChannelHandler) => void
  /**
   * The live session with a device, or a new one; calls for one device share the attempt, and wait while a session resumes.
   *
   * @throws CarrierError ERR_PEER_OFFLINE, ERR_NO_RELAY, ERR_TIMEOUT, ERR_NOT_AVAILABLE (the other side does not take sessions from us)
   */
  open: (device: Did, options?: { signal?: AbortSignal }) => Promise<Session>
  /** Why no better link carries the session with a device; empty when there is no better one, or no session. */
  explain: (device: Did) => PathReason[]
  /** The live session, if any; one that resumes is not live. */
  get: (device: Did) => Session | undefined
  /** All sessions, live and resuming. */
  list: () => Session[]
  /** Ends the session with a device at once, channels fail with `err`. */
  close: (device: Did, err: CarrierError) => Promise<void>
}
