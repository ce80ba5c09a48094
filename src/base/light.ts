/** The second door of base/: what loads in a few milliseconds, for the control client and the commands. No logger, metrics, codec or database. */
export * from './bytes.ts'
export * from './errors.ts'
export * from './limits.ts'
export * from './private-file.ts'
export * from './time.ts'
