/** Who may use the relay, and how. The default lets everybody; policies of operators plug in here. */
import type { PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { CircuitLimits, StatusName } from './hop-messages.ts'

/** What somebody wants from the relay. The key of `peerId` was proven on this connection. */
export type AdmissionRequest =
  | { action: 'reserve', peerId: PeerId, remoteAddress: Multiaddr }
  | { action: 'connect' | 'splice', peerId: PeerId, remoteAddress: Multiaddr, called: PeerId }

/** Yes with the limits of the circuit or splice (none: no limit), or no with the status that goes on the wire (a refused splice tells none). */
export type AdmissionVerdict =
  | { allow: true, limits?: CircuitLimits }
  | { allow: false, status: Extract<StatusName, 'PERMISSION_DENIED' | 'RESERVATION_REFUSED' | 'RESOURCE_LIMIT_EXCEEDED'> }

/** Decides without allocating, resolving or signing anything (I9). */
export type Admit = (request: AdmissionRequest) => AdmissionVerdict

/** Admits everybody with the same limits. */
export function admitAll (limits: CircuitLimits | undefined): Admit {
  const verdict: AdmissionVerdict = limits === undefined ? { allow: true } : { allow: true, limits }
  return () => verdict
}
