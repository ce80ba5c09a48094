/** The daemon's side of the control API, and the configuration that a daemon is started from. */
export * from './config.ts'
export * from './config-check.ts'
export type * from './network-settings.ts'
export * from './server.ts'
export * from './settings.ts'
