/** Friends: who may reach this device at all, and how two owners agree on it. */
export { createFriends } from './friends.ts'
export type { FriendsComponents } from './friends.ts'
export { FRIENDS_MIGRATIONS } from './migrations.ts'
export { createRelayRecords } from './relay-records.ts'
export type { RelayRecords } from './relay-records.ts'
export type * from './types.ts'
