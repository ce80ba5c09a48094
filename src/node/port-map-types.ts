/** What all ways to ask a router for a port have in common. */
import type { MapRequest } from './port-map-wire.ts'

/** The router, and our own address on the way to it. */
export interface Gateway { router: string, own: string }

/** A port at the router that leads to us. */
export interface Mapping {
  outsideHost: string
  outsidePort: number
  /** Seconds; 0: for ever. */
  lifetimeSeconds: number
}

/** One way to ask a router, found to work with it. */
export interface RouterPort {
  /** As people know it. */
  readonly name: 'PCP' | 'NAT-PMP' | 'UPnP'
  /** Makes or renews a mapping. @throws CarrierError ERR_NOT_AVAILABLE with the router's reason, ERR_TIMEOUT */
  map: (request: MapRequest, signal: AbortSignal) => Promise<Mapping>
  /** Removes one. @throws as `map` */
  unmap: (mapping: { insidePort: number, outsidePort: number }, signal: AbortSignal) => Promise<void>
}

/** Asks the router in one way; undefined when it does not answer in it. */
export type RouterProbe = (gateway: Gateway, signal: AbortSignal) => Promise<RouterPort | undefined>
