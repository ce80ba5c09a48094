/** The client of a local Carrier daemon: package export `carrier-p2p/control`. Loads no libp2p. */
export { CarrierError, ERRORS, errorCode, isErrorCode } from '../../base/light.ts'
export type { ErrorCode } from '../../base/light.ts'
export * from './client.ts'
export * from './endpoint.ts'
export * from './event-table.ts'
export type { ControlEventStream } from './events.ts'
export * from './methods.ts'
export * from './shapes.ts'
