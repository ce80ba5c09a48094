/** One local connection to a forward: session, channel, join. Whatever fails, the local program sees a reset. */
import type { Socket } from 'node:net'
import { CarrierError, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock } from '../base/index.ts'
import type { Session } from '../session/index.ts'
import { join, resetSocket } from './join.ts'
import type { JoinOutcome } from './join.ts'
import { CHANNEL_KIND } from './wire.ts'

/** What a local connection needs. */
export interface LocalConnectionInit {
  socket: Socket
  /** Opening message of its channel. */
  opening: Uint8Array
  clock: Clock
  /** The session that is live now, if there is one. */
  liveSession: () => Session | undefined
  openSession: (signal: AbortSignal) => Promise<Session>
  /** Fires when the forward closes; its reason goes to the friend. */
  signal: AbortSignal
  /** See {@link join}. */
  onAnswer: () => void
}

/** How it ended. `no-session`: it never got as far as asking. */
export type LocalConnectionOutcome =
  | { kind: 'no-session', error: CarrierError }
  | { kind: 'ended', outcome: JoinOutcome, bytesIn: number, bytesOut: number }

/** Carries the connection until it is gone in both directions. Never rejects. */
export async function carryLocalConnection (init: LocalConnectionInit): Promise<LocalConnectionOutcome> {
  const { socket, signal } = init
  // join() listens when there is something to join; until then a failing client is simply gone
  socket.on('error', () => {})
  let session: Session
  try {
    session = init.liveSession() ?? await waitForSession(init)
  } catch (err) {
    resetSocket(socket)
    return { kind: 'no-session', error: toCarrierError(err, 'ERR_CANCELLED') }
  }
  let channel
  try {
    channel = session.openChannel(CHANNEL_KIND.tcp, init.opening)
  } catch (err) {
    resetSocket(socket)
    return { kind: 'no-session', error: toCarrierError(err) }
  }
  const onAbort = (): void => { channel.destroy(toCarrierError(signal.reason, 'ERR_CANCELLED', 'the forward was closed')) }
  signal.addEventListener('abort', onAbort, { once: true })
  // the open frame leaves at the end of this turn of promises: what is made for the join here is made while it travels
  await Promise.resolve()
  try {
    const joined = join(socket, channel, { onAnswer: init.onAnswer })
    if (signal.aborted) onAbort()
    const outcome = await joined
    return { kind: 'ended', outcome, bytesIn: channel.bytesRead, bytesOut: channel.bytesWritten }
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Waits a bounded time, and no longer than the local program does. */
async function waitForSession (init: LocalConnectionInit): Promise<Session> {
  const gone = new AbortController()
  const onClose = (): void => { gone.abort(new CarrierError('ERR_CANCELLED', 'the local program went away')) }
  const onAbort = (): void => { gone.abort(init.signal.reason) }
  init.socket.once('close', onClose)
  init.signal.addEventListener('abort', onAbort, { once: true })
  if (init.signal.aborted) onAbort()
  try {
    using deadline = startDeadline(init.clock, LIMITS.forwardSessionWaitMs, `the friend did not answer within ${LIMITS.forwardSessionWaitMs} ms`, gone.signal)
    const session = await init.openSession(deadline.signal)
    deadline.signal.throwIfAborted()
    return session
  } catch (err) {
    // however the session layer put it, the cause is ours
    if (gone.signal.aborted) throw toCarrierError(gone.signal.reason, 'ERR_CANCELLED')
    throw err
  } finally {
    init.socket.off('close', onClose)
    init.signal.removeEventListener('abort', onAbort)
  }
}
