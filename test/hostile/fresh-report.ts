/** The account of reservation requests from fresh keys. */

/** What became of the keys. Each attempt is in one of `granted`, `refused`, `turnedAway`, `cutOff` and `unanswered`. */
export interface FreshReport {
  /** Connections tried, each with a key of its own. */
  attempts: number
  /** Keys that were proven: the handshake was done, and the muxer agreed. */
  handshakes: number
  /** RESERVE written. */
  asked: number
  granted: number
  /** By the name of the status. */
  refused: Record<string, number>
  /** Closed by the target before the key was proven. */
  turnedAway: number
  /** Closed by the target after that, without an answer. */
  cutOff: number
  /** Neither answered nor closed when the attack ended. */
  unanswered: number
}

/** Nothing yet. */
export function emptyFresh (): FreshReport {
  return { attempts: 0, handshakes: 0, asked: 0, granted: 0, refused: {}, turnedAway: 0, cutOff: 0, unanswered: 0 }
}

/** Adds one report to another. */
export function addFresh (to: FreshReport, one: FreshReport): void {
  for (const key of ['attempts', 'handshakes', 'asked', 'granted', 'turnedAway', 'cutOff', 'unanswered'] as const) to[key] += one[key]
  for (const [status, count] of Object.entries(one.refused)) to.refused[status] = (to.refused[status] ?? 0) + count
}

/** Says it in a line. */
export function describeFresh (fresh: FreshReport): string {
  const answers = [`${fresh.granted} granted`, ...Object.entries(fresh.refused).map(([status, count]) => `${count} ${status}`)]
  return `${fresh.attempts} keys: ${fresh.handshakes} handshakes done, ${fresh.asked} asked; ${answers.join(', ')}; ${fresh.turnedAway} turned away before their handshake was done, ${fresh.cutOff} cut off after it, ${fresh.unanswered} without an answer at the end`
}
