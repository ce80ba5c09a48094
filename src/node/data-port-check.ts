/** Whether the data port of a relay answers from here: asks for one observe ticket and shows it. For `doctor`; PROTOCOL.md "Splices". */
import { CarrierError, LIMITS, startDeadline, toCarrierError } from '../base/index.ts'
import type { Clock, HostAndPort } from '../base/index.ts'
import { dialTicketPort } from './ticket-dial.ts'
import { SPLICE_PREFACE } from './ticket-door.ts'

/** What the check needs. */
export interface DataPortCheckComponents {
  clock: Clock
  /** True when the relay offers splices and is connected. A look-up. */
  canSplice: (relayPeerId: string) => boolean
  /** @throws CarrierError */
  askObserve: (relayPeerId: string, signal: AbortSignal) => Promise<HostAndPort & { ticket: Uint8Array }>
}

/** The port, and how long it took from the connect to the answer; `none`: the relay offers none to us. */
export type DataPortAnswer = { kind: 'none' } | { kind: 'answered', port: number, ms: number }

/**
 * Checks one relay. The relay counts the ticket as one of LIMITS.relayObservePerPeerCount.
 *
 * @throws CarrierError ERR_PEER_OFFLINE, ERR_TIMEOUT, ERR_LINK_LOST, ERR_LIMIT, ERR_NOT_AVAILABLE: why there is no answer
 */
export async function checkDataPort (components: DataPortCheckComponents, relayPeerId: string, parent?: AbortSignal): Promise<DataPortAnswer> {
  const { clock } = components
  if (!components.canSplice(relayPeerId)) return { kind: 'none' }
  using deadline = startDeadline(clock, LIMITS.doctorTargetMs, 'it took no connection, or said nothing: a firewall may drop it', parent)
  const { signal } = deadline
  const { host, port, ticket } = await components.askObserve(relayPeerId, signal)
  const startedMs = clock.monotonicMs()
  const socket = await dialTicketPort(clock, { host, port, preface: SPLICE_PREFACE, ticket }, signal)
  const onAbort = (): void => { socket.destroy(toCarrierError(signal.reason)) }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('data', () => { resolve() })
      socket.once('error', (err) => { reject(toCarrierError(err, 'ERR_LINK_LOST')) })
      // half-open: an end of the other side alone closes nothing
      for (const event of ['end', 'close']) socket.once(event, () => { reject(new CarrierError('ERR_LINK_LOST', 'the relay ended the connection')) })
      socket.resume()
    })
    return { kind: 'answered', port, ms: clock.monotonicMs() - startedMs }
  } finally {
    signal.removeEventListener('abort', onAbort)
    socket.destroy()
  }
}
