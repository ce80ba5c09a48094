/**
 * Carrier as a library: the same engine that the daemon runs, in your process.
 *
 * @packageDocumentation
 */
export { createCarrier } from './carrier.ts'
export { VERSION } from './version.ts'
export { CarrierError, createLogger, createMetrics, ERRORS, errorCode, isErrorCode } from './base/index.ts'
export type { Clock, ErrorCode, Logger, Metrics } from './base/index.ts'
export type * from './carrier-types.ts'
export type { AuditLog, StoredAuditEntry } from './audit/index.ts'
export type { Forward, Forwarding, Service } from './forwarding/index.ts'
export type { Friend, FriendRequest, Friends } from './friends/index.ts'
export type { AddressBook, Did, Identity, LabelledAddress } from './identity/index.ts'
export { parseProxyUrl } from './node/index.ts'
export type { CarrierNode, Path, RelayStatus, UpstreamInit, UpstreamProxy } from './node/index.ts'
export type { Channel, ChannelHandler, ChannelRequest, Session, SessionManager } from './session/index.ts'
