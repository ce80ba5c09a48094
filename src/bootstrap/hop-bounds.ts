/** How much a hop server takes, as configured. */
import { LIMITS } from '../base/index.ts'

/** Bounds of the hop server; an absent one is the value of LIMITS. */
export interface HopServerInit {
  maxReservations?: number
  reservationTtlMs?: number
  maxCircuits?: number
  maxCircuitsPerCaller?: number
  maxCircuitsPerCalled?: number
  maxBufferedBytes?: number
}

/** All bounds, with what is absent taken from LIMITS. */
export function completeBounds (init: HopServerInit): Required<HopServerInit> {
  return {
    maxReservations: init.maxReservations ?? LIMITS.relayReservationCount,
    reservationTtlMs: init.reservationTtlMs ?? LIMITS.relayReservationTtlMs,
    maxCircuits: init.maxCircuits ?? LIMITS.relayCircuitCount,
    maxCircuitsPerCaller: init.maxCircuitsPerCaller ?? LIMITS.relayCircuitsPerCallerCount,
    maxCircuitsPerCalled: init.maxCircuitsPerCalled ?? LIMITS.relayCircuitsPerCalledCount,
    maxBufferedBytes: init.maxBufferedBytes ?? LIMITS.relayBufferedBytes
  }
}
