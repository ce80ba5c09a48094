/** How eagerly a device looks whether its connections still live: one setting, its numbers in LIMITS. */
import { LIMITS } from './limits.ts'

/** Modes: `fast` notices the loss of any link within 4 s, `normal` that of one in use, `saver` wakes the machine as rarely as it can. */
export const KEEPALIVE_MODES = ['fast', 'normal', 'saver'] as const

/** One of {@link KEEPALIVE_MODES}. */
export type KeepaliveMode = (typeof KEEPALIVE_MODES)[number]

/** What a mode means, milliseconds. A link with something unacknowledged is asked as in `fast`, whatever the mode. */
export interface Keepalive {
  /** A link that was silent for so long is asked. */
  linkAskMs: number
  /** A link that was silent for so long, the question included, is lost. */
  linkLostMs: number
  /** Interval of pings on a libp2p connection. */
  connectionPingMs: number
  /** A libp2p connection on which nothing was heard for so long is lost. */
  connectionSilenceMs: number
}

const MODES: Readonly<Record<KeepaliveMode, Keepalive>> = {
  fast: { linkAskMs: LIMITS.sessionBusyPingMs, linkLostMs: LIMITS.sessionBusySilenceMs, connectionPingMs: LIMITS.fastPingMs, connectionSilenceMs: LIMITS.fastSilenceMs },
  normal: { linkAskMs: LIMITS.sessionPingMs, linkLostMs: LIMITS.sessionPingMs + LIMITS.sessionPongTimeoutMs, connectionPingMs: LIMITS.linkPingMs, connectionSilenceMs: LIMITS.linkSilenceMs },
  saver: { linkAskMs: LIMITS.saverSessionPingMs, linkLostMs: LIMITS.saverSessionPingMs + LIMITS.saverSessionPongTimeoutMs, connectionPingMs: LIMITS.saverPingMs, connectionSilenceMs: LIMITS.saverSilenceMs }
}

/** How long something that was asked because the network changed may be silent, milliseconds: three of its round trips, within limits. Pure. */
export function networkPatienceMs (rttMs: number | undefined): number {
  return rttMs === undefined ? LIMITS.networkCheckMs : Math.min(LIMITS.networkCheckMs, Math.max(LIMITS.networkCheckLeastMs, 3 * rttMs))
}

/** The numbers of a mode; `normal` when none is given. */
export function keepaliveOf (mode: KeepaliveMode = 'normal'): Keepalive {
  return MODES[mode]
}
