/** Port forwarding: services that we offer, forwards that we use. */
export { createForwarding } from './forwarding.ts'
export type { ForwardingComponents, ForwardingInit } from './forwarding.ts'
export { parseListenAddress } from './host-port.ts'
export { parseServiceName, parseServiceReference } from './service-name.ts'
export { formatTarget, parseTarget } from './service-target.ts'
export { FORWARDING_MIGRATIONS } from './store.ts'
export type * from './types.ts'
